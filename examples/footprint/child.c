/* What an init supervises while it is measured: as small as a process can be, so that the times are the init's.
 *
 *   child mark            says when it runs, ends
 *   child serve           says when it runs, ends at SIGTERM and says when
 *   child orphans N       makes N orphans that end at once; says how long it took until all were reaped
 *
 * Called by the name of a hook it succeeds at once: the smallest set of hooks. Times are nanoseconds of
 * CLOCK_MONOTONIC. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 50 };

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void say(const char *what) {
    char line[64];
    int length = snprintf(line, sizeof line, "%s %lld\n", what, now());
    if (write(STDOUT_FILENO, line, length) != length) _exit(1);
}

/* Whether the init has no child but ourselves; "children" lists zombies too. */
static int all_reaped(const char *children, const char *own) {
    char list[1 << 16];
    int fd = open(children, O_RDONLY | O_CLOEXEC);
    if (fd < 0) _exit(1);
    ssize_t length = read(fd, list, sizeof list - 1);
    close(fd);
    if (length < 0) _exit(1);
    list[length] = 0;
    return strcmp(list, own) == 0;
}

static void orphans(int count) {
    char children[64], own[32];
    snprintf(children, sizeof children, "/proc/%d/task/%d/children", getppid(), getppid());
    snprintf(own, sizeof own, "%d ", getpid());
    long long from = now();
    for (int made = 0; made < count; made += BATCH) {
        pid_t parent = fork();
        if (parent < 0) _exit(1);
        if (parent == 0) {
            for (int i = 0; i < BATCH; i++) {
                pid_t orphan = fork();
                if (orphan < 0) _exit(1);
                if (orphan == 0) _exit(0);
            }
            _exit(0);
        }
        int status;
        if (waitpid(parent, &status, 0) < 0 || status != 0) _exit(1);
    }
    while (!all_reaped(children, own)) usleep(200);
    char line[64];
    int length = snprintf(line, sizeof line, "reaped %lld\n", now() - from);
    if (write(STDOUT_FILENO, line, length) != length) _exit(1);
}

int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    if (strcmp(name, "position") == 0) {
        puts("{\"order\":1,\"lag_seconds\":0,\"text\":\"\"}");
        return 0;
    }
    if (argc < 2) return 0;
    if (strcmp(argv[1], "mark") == 0) {
        say("runs");
    } else if (strcmp(argv[1], "serve") == 0) {
        sigset_t set;
        int signal;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        say("runs");
        sigwait(&set, &signal);
        say("ends");
    } else if (strcmp(argv[1], "orphans") == 0 && argc == 3) {
        orphans(atoi(argv[2]));
    } else {
        return 64;
    }
    _exit(0);
}
