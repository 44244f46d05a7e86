//! `lictor run -- CMD` without a cluster, on real processes: exit codes, signals, orphans, and the
//! fence.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use lictor::decide::time::{At, Span};
use lictor::process::clock;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Generous: a test waits for a condition and fails only when it never comes.
const LIMIT: Duration = Duration::from_secs(30);

/// After the fence's time nothing of the application may be left.
const FENCE: Span = Span(100);

fn lictor() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lictor"))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn run(args: &[&str]) -> Output {
    lictor().arg("run").args(args).output().expect("lictor starts")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.stdin(Stdio::null()).spawn().expect("starts"))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("its end", || {
            status = self.0.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("just seen")
    }

    fn stdout(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().expect("piped")).lines()
    }

    fn stderr(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.0.stderr.take().expect("piped")).lines()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("the process is there");
}

/// Living processes with `marker` among their arguments. A zombie with living threads counts,
/// others don't.
fn living(marker: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| *pid != std::process::id() as i32 && lives_with(*pid, marker)).collect()
}

fn lives_with(pid: i32, marker: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let alive = |stat: &str| {
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
        !matches!(state, Some('Z' | 'X'))
    };
    let mut living = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| alive(&stat))
    });
    living.any(|task| {
        std::fs::read(task.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(marker))
    })
}

#[test]
fn the_exit_code_is_the_applications_own() {
    assert_eq!(run(&["--", "sh", "-c", "exit 0"]).status.code(), Some(0));
    assert_eq!(run(&["--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["--", "sh", "-c", "kill -KILL $$"]).status.code(), Some(128 + 9));
    assert_eq!(run(&["--", "sh", "-c", "kill -SEGV $$"]).status.code(), Some(128 + 11));
}

#[test]
fn what_cannot_be_run_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").expect("written");
    let script = script.to_str().expect("utf-8").to_owned();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("permissions");
    let cases = [
        ("/no/such/file", 127, "no such file"),
        ("no-such-program", 127, "no such file in PATH"),
        ("/etc/passwd", 126, "permission denied"),
        (script.as_str(), 127, "the interpreter that it names does not exist"),
    ];
    for (program, code, why) in cases {
        let output = run(&["--", program]);
        assert_eq!(output.status.code(), Some(code), "{program}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, format!("lictor: cannot run {program}: {why}\n"));
    }
    assert_eq!(run(&["--"]).status.code(), Some(64));
}

#[test]
fn stdin_and_stdout_are_the_applications() {
    let mut child = lictor()
        .args(["run", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, b"through\n").expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"through\n"[..]));
}

const FORWARDED: [&str; 9] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT", "SIGALRM",
    "SIGTERM",
];

/// Sends each to `target` and waits for the application's word.
fn forwards_all(target: i32, lines: &mut Lines<BufReader<ChildStdout>>) {
    for name in FORWARDED {
        kill(target, name.parse().expect("a signal"));
        assert_eq!(lines.next().expect("a line").expect("utf-8"), name);
    }
}

#[test]
fn every_signal_is_forwarded() {
    let mut command = lictor();
    command.args(["run", "--", "python3"]).arg(fixture("signals.py")).args(FORWARDED);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let mut lines = running.stdout();
    assert_eq!(lines.next().expect("a line").expect("utf-8"), "ready");
    forwards_all(running.pid(), &mut lines);
    assert_eq!(running.wait().code(), Some(42));
}

/// `unshare` in front of lictor, which is then PID 1.
fn as_pid_1() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", env!("CARGO_BIN_EXE_lictor")]);
    command
}

fn child_of(pid: i32) -> i32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let mut child = None;
    wait_until("a child", || {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        child = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        child.is_some()
    });
    child.expect("just seen")
}

#[test]
fn as_pid_1_it_forwards_and_passes_the_code_on() {
    let mut command = as_pid_1();
    command.args(["run", "--", "python3"]).arg(fixture("signals.py")).args(FORWARDED);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let mut lines = running.stdout();
    assert_eq!(lines.next().expect("a line").expect("utf-8"), "ready");
    forwards_all(child_of(running.pid()), &mut lines);
    assert_eq!(running.wait().code(), Some(42));
}

#[test]
fn five_thousand_orphans_leave_no_zombie() {
    let mut command = as_pid_1();
    let output = command
        .args(["run", "--", "python3"])
        .arg(fixture("orphans.py"))
        .arg("5000")
        .output()
        .expect("starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "orphans=5000 zombies=0\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_application_that_ignores_sigterm_is_killed_after_the_timeout() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = lictor();
    command.args(["run", "--stop-timeout", "300ms", "--", "python3"]);
    let mut running = Running::start(command.arg(fixture("escape.py")).arg(dir.path()));
    wait_until("all writers", || beats(dir.path()).len() == WRITERS);
    let asked = Instant::now();
    kill(running.pid(), nix::sys::signal::SIGTERM);
    assert_eq!(running.wait().code(), Some(128 + 9));
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(300), "killed before its time: {took:?}");
    assert_eq!(living(dir.path().to_str().expect("utf-8")), Vec::<i32>::new(), "left after lictor");
}

#[test]
fn it_leaves_as_soon_as_the_last_process_is_gone() {
    let marker = format!("{}7.25", std::process::id());
    let script = format!("setsid sleep {marker} & sleep {marker} & exit 3");
    let began = Instant::now();
    assert_eq!(run(&["--", "sh", "-c", &script]).status.code(), Some(3));
    // The stop timeout is 10 s: those that heed SIGTERM are not waited for that long.
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    assert_eq!(living(&marker), Vec::<i32>::new());
}

#[test]
fn what_outlives_the_application_and_ignores_sigterm_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = format!(
        "trap '' TERM; touch {0}/up; while :; do sleep 0.01; done; : {0}",
        dir.path().display()
    );
    let script = format!(
        "setsid sh -c \"{daemon}\" & while ! test -e {}/up; do sleep 0.01; done; exit 5",
        dir.path().display()
    );
    let output = run(&["--stop-timeout", "200ms", "--", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(living(dir.path().to_str().expect("utf-8")), Vec::<i32>::new());
}

/// Names in `escape.py`.
const WRITERS: usize = 5;

/// Of each writer's file: its last beat.
fn beats(dir: &Path) -> Vec<(String, At)> {
    let files = std::fs::read_dir(dir).expect("readable").flatten();
    let last = |path: &Path| {
        let text = std::fs::read_to_string(path).ok()?;
        let (whole, _) = text.rsplit_once('\n')?;
        whole.lines().last()?.parse().ok().map(At)
    };
    let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    files.filter_map(|file| Some((name(&file.path()), last(&file.path())?))).collect()
}

/// One after another: they measure time on a busy machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An application that escapes, under a guard that is armed.
struct Fenced {
    running: Running,
    dir: tempfile::TempDir,
    guard: i32,
    sidecar: i32,
    job: i32,
    kill_at: At,
}

impl Fenced {
    fn start(kill_in: Span) -> Fenced {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = lictor();
        command.args(["debug-fence", "--kill-in-ms", &kill_in.0.to_string(), "--", "python3"]);
        command.arg(fixture("escape.py")).arg(dir.path()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let line = running.stderr().next().expect("a line").expect("utf-8");
        let fact = |name: &str| {
            let words = line.split_whitespace().filter_map(|word| word.split_once('='));
            let found = words.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
            found.and_then(|value| value.parse::<u64>().ok()).expect(name)
        };
        let pid = |name: &str| i32::try_from(fact(name)).expect("a pid");
        let (guard, sidecar, job) = (pid("guard"), pid("sidecar"), pid("job"));
        let kill_at = At(fact("kill_at"));
        let fenced = Fenced { running, dir, guard, sidecar, job, kill_at };
        wait_until("all writers", || beats(fenced.dir.path()).len() == WRITERS);
        fenced
    }

    /// Nobody writes later than [`FENCE`] after `fence`, and nobody is left then.
    fn check_gone(&self, fence: At) {
        wait_until("the fence", || clock::now() >= fence + FENCE);
        let marker = self.dir.path().to_str().expect("utf-8");
        let left: Vec<i32> = living(marker)
            .into_iter()
            .filter(|pid| ![self.guard, self.sidecar, self.job].contains(pid))
            .collect();
        assert_eq!(left, Vec::<i32>::new(), "left {} after the fence", clock::now().since(fence));
        let beats = beats(self.dir.path());
        assert_eq!(beats.len(), WRITERS);
        for (name, last) in beats {
            let late = last.since(fence);
            assert!(late <= FENCE, "{name} wrote {late} after the fence");
            println!("{name}: last write {late} after the fence");
        }
    }

    fn job_lives(&self) -> bool {
        lives_with(self.job, "")
    }
}

impl Drop for Fenced {
    /// A stopped sidecar whose guard is killed would stay for ever.
    fn drop(&mut self) {
        let sidecar = nix::unistd::Pid::from_raw(self.sidecar);
        if lives_with(self.sidecar, self.dir.path().to_str().expect("utf-8")) {
            let _ = nix::sys::signal::kill(sidecar, nix::sys::signal::SIGKILL);
        }
    }
}

#[test]
fn a_fence_in_time_with_the_sidecar_stopped() {
    let _alone = alone();
    let mut fenced = Fenced::start(Span::secs(2));
    kill(fenced.sidecar, nix::sys::signal::SIGSTOP);
    assert!(clock::now() < fenced.kill_at, "the machine is too slow for this test");
    let alive = beats(fenced.dir.path());
    wait_until("the fence", || clock::now() >= fenced.kill_at);
    assert!(beats(fenced.dir.path()).iter().all(|(name, last)| {
        alive.iter().any(|(other, before)| other == name && last > before)
    }));
    fenced.check_gone(fenced.kill_at);
    assert!(fenced.job_lives(), "a fence spares jobs");
    kill(fenced.sidecar, nix::sys::signal::SIGCONT);
    assert_eq!(fenced.running.wait().code(), Some(128 + 9));
    assert!(!fenced.job_lives());
}

#[test]
fn a_fence_at_once_when_the_sidecar_is_killed() {
    let _alone = alone();
    let mut fenced = Fenced::start(Span::secs(3_600));
    let now = clock::now();
    kill(fenced.sidecar, nix::sys::signal::SIGKILL);
    fenced.check_gone(now);
    assert_eq!(fenced.running.wait().code(), Some(137));
    assert!(!fenced.job_lives(), "without a sidecar nobody looks after jobs");
}

#[test]
fn a_fence_at_once_when_the_guard_is_killed() {
    let _alone = alone();
    let mut fenced = Fenced::start(Span::secs(3_600));
    let now = clock::now();
    kill(fenced.guard, nix::sys::signal::SIGKILL);
    fenced.check_gone(now);
    assert_eq!(fenced.running.wait().signal(), Some(9));
    wait_until("the sidecar's end", || !lives_with(fenced.sidecar, ""));
    assert!(!fenced.job_lives());
}

#[test]
fn a_fence_in_time_with_the_sidecar_running() {
    let _alone = alone();
    let mut fenced = Fenced::start(Span::secs(2));
    fenced.check_gone(fenced.kill_at);
    assert_eq!(fenced.running.wait().code(), Some(128 + 9));
}
