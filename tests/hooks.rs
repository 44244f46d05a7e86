//! The process module from within: hooks, the guard's orders, children. Has a `main` of its own,
//! because the guard is forked from a process without threads, which the usual test harness is not.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use lictor::decide::hook::{Hook, HookCall, HookEnd};
use lictor::decide::time::{At, Span};
use lictor::decide::types::OpId;
use lictor::process::children::{Children, Output, Spec};
use lictor::process::hooks::{self, HookSettings, Hooks, Missing};
use lictor::process::link::Guard;
use lictor::process::{Exit, Pid, clock, guard, tree, user};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Generous: a case waits for a condition and fails only when it never comes.
const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    let link = guard::split().expect("the guard starts");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    let guard = runtime.block_on(async {
        let guard = link.start().expect("the guard's news");
        let children = Children::start().expect("the reaper");
        // A hook that never ends, a kill that never comes: the guard ends us all.
        let armed = guard.arm(lictor_proc(), clock::now() + Span::secs(120));
        assert!(guard.wait_acked(armed, Span::secs(5)).await);
        guard.disarm();
        all(&guard, &children).await;
        guard
    });
    println!("all hook cases passed");
    guard.announce_leaving();
}

fn lictor_proc() -> lictor::process::Proc {
    lictor::process::Proc { pid: Pid(std::process::id() as i32), start: 0 }
}

async fn all(guard: &Guard, children: &Children) {
    let case = |name: &'static str| Case::new(name, guard, children);
    facts_and_environment(case("facts and environment")).await;
    ends(case("ends")).await;
    not_started(case("not started")).await;
    timeout_kills_the_tree(case("timeout kills the tree")).await;
    done_kills_what_is_left(case("done kills what is left")).await;
    many_at_once_and_cancel(case("many at once, cancel")).await;
    valid_until(case("valid until")).await;
    endless_output(case("endless output")).await;
    children_and_orphans(case("children and orphans")).await;
    application_crashed(case("application crashed")).await;
    guard_obeys(case("the guard obeys")).await;
    fence_now(case("fence now")).await;
}

/// A directory of hooks, and what runs them.
struct Case {
    dir: tempfile::TempDir,
    hooks: Hooks,
    guard: Guard,
    children: Children,
    next: std::cell::Cell<u64>,
}

impl Case {
    fn new(name: &str, guard: &Guard, children: &Children) -> Case {
        println!("{name}");
        let dir = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).expect("permissions");
        let env = [
            ("PATH", "/usr/bin:/bin"),
            ("APPS_OWN", "seen"),
            ("CONSUL_HTTP_TOKEN", "secret"),
            ("DB_PASSWORD", "secret"),
            ("API_KEY", "secret"),
            ("LICTOR_OLD", "stale"),
        ];
        let facts = [("CLUSTER", "c1"), ("NODE", "n1")];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let settings = HookSettings {
            dir: dir.path().to_owned(),
            state_dir: dir.path().to_owned(),
            user: Some(user::find("nobody").expect("every system has nobody")),
            env: env.map(|(name, value)| (OsString::from(name), OsString::from(value))).to_vec(),
            secret: vec!["API_KEY".to_owned()],
            facts: facts.map(owned).into_iter().collect(),
        };
        let hooks = Hooks::new(settings, children.clone(), Some(guard.clone()));
        let next = std::cell::Cell::new(0);
        Case { dir, hooks, guard: guard.clone(), children: children.clone(), next }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, hook: Hook, script: &str) {
        let path = self.path().join(hook.name());
        std::fs::write(&path, format!("#!/bin/bash\n{script}\n")).expect("written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("permissions");
    }

    fn call(&self, hook: Hook) -> HookCall {
        self.next.set(self.next.get() + 1);
        HookCall {
            id: OpId(self.next.get()),
            hook,
            facts: BTreeMap::from([("LICTOR_EPOCH".to_owned(), "7".to_owned())]),
            timeout: Span::secs(20),
            valid_until: None,
            attempt: 2,
        }
    }

    async fn run(&self, hook: Hook, script: &str) -> HookEnd {
        self.write(hook, script);
        self.hooks.run(self.call(hook)).await
    }

    fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    limited(what, wait).await;
}

async fn limited<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(LIMIT, wait).await else { panic!("never came: {what}") };
    done
}

/// Everything below this process.
fn left() -> Vec<lictor::process::Proc> {
    tree::descendants(Pid(std::process::id() as i32)).expect("/proc")
}

fn done(answer: &str) -> HookEnd {
    HookEnd::Done { answer: Some(answer.to_owned()) }
}

async fn facts_and_environment(case: Case) {
    let script = r#"
        echo "not the answer"
        facts="$LICTOR_HOOK $LICTOR_CLUSTER $LICTOR_NODE $LICTOR_EPOCH $LICTOR_ATTEMPT"
        hidden="$CONSUL_HTTP_TOKEN$DB_PASSWORD$API_KEY$LICTOR_OLD"
        fds=$(cd /proc/self/fd && echo [0-9]*)
        blocked=$(grep SigBlk /proc/self/status | tr -d '[:blank:]')
        echo "$facts|$hidden|$APPS_OWN|$PWD|$(id -un)|$fds|$blocked|$#"
        echo"#;
    let end = case.run(Hook::Position, script).await;
    let path = case.path().display();
    // 3 is the directory that the shell's own glob has open.
    let expected =
        format!("position c1 n1 7 2||seen|{path}|nobody|0 1 2 3|SigBlk:0000000000000000|0");
    assert_eq!(end, done(&expected));
    let end = case.run(Hook::Position, "cat").await;
    let HookEnd::Done { answer: Some(json) } = end else { panic!("{end:?}") };
    let json: serde_json::Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(json["v"], 1);
    assert_eq!(json["hook"], "position");
    assert_eq!(json["epoch"], "7");
    assert!(json["deadline_ms"].as_str().expect("a string").parse::<u64>().expect("ms") <= 20_000);
    let end = case.run(Hook::Health, "echo no answer").await;
    assert_eq!(end, HookEnd::Done { answer: None });
}

async fn ends(case: Case) {
    for code in [1, 3, 4, 75] {
        let end = case.run(Hook::Demote, &format!("exit {code}")).await;
        assert_eq!(end, HookEnd::Exit { code });
    }
    let end = case.run(Hook::Demote, "kill -SEGV $$").await;
    assert_eq!(end, HookEnd::Signal { signal: libc::SIGSEGV });
}

async fn not_started(case: Case) {
    assert_eq!(hooks::check(case.path(), Hook::Sync), Err(Missing::File(case.path().join("sync"))));
    let end = case.hooks.run(case.call(Hook::Sync)).await;
    let HookEnd::NotStarted { why } = end else { panic!("{end:?}") };
    assert_eq!(why, format!("cannot run {}/sync: no such file", case.path().display()));
    case.write(Hook::Sync, "true");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(case.path().join("sync"), mode).expect("permissions");
    let missing = hooks::check(case.path(), Hook::Sync).expect_err("not executable");
    assert!(missing.to_string().ends_with("sync is not an executable file"));
    let end = case.hooks.run(case.call(Hook::Sync)).await;
    assert!(matches!(end, HookEnd::NotStarted { .. }), "{end:?}");
}

/// Processes in sessions of their own, deaf, whose parents are dead.
const ESCAPE: &str = "
    (trap '' TERM; setsid bash -c 'setsid sleep 1000 & setsid sleep 1000 & exit' & )
    touch up";

async fn timeout_kills_the_tree(case: Case) {
    case.write(Hook::Replicate, &format!("{ESCAPE}\nsleep 1000"));
    let call = HookCall { timeout: Span(700), ..case.call(Hook::Replicate) };
    let began = clock::now();
    assert_eq!(case.hooks.run(call).await, HookEnd::Timeout);
    assert!(clock::now().since(began) >= Span(700));
    assert!(case.has("up"), "the hook had no time to start anything");
    assert_eq!(left(), []);
}

async fn done_kills_what_is_left(case: Case) {
    let end = limited("its end", case.run(Hook::Replicate, ESCAPE)).await;
    assert_eq!(end, HookEnd::Done { answer: None });
    assert!(case.has("up"));
    assert_eq!(left(), []);
}

async fn many_at_once_and_cancel(case: Case) {
    case.write(
        Hook::Health,
        "touch up.$LICTOR_N; while ! test -e go.$LICTOR_N; do sleep 0.01; done",
    );
    let start = |n: usize| {
        let mut call = case.call(Hook::Health);
        call.facts.insert("n".to_owned(), n.to_string());
        let (tell, end) = tokio::sync::oneshot::channel();
        let id = call.id;
        case.hooks.start(call, move |_, end| drop(tell.send(end)));
        (id, end)
    };
    let mut runs: Vec<_> = (0..hooks::RUNS_LIMIT).map(start).collect();
    let beyond = start(99).1.await.expect("an end");
    assert!(matches!(beyond, HookEnd::NotStarted { .. }), "{beyond:?}");
    wait_for("all up", || (0..runs.len()).all(|n| case.has(&format!("up.{n}")))).await;
    let (id, end) = runs.remove(1);
    case.hooks.cancel(id);
    assert_eq!(limited("the cancelled", end).await, Ok(HookEnd::Cancelled));
    std::fs::write(case.path().join("go.0"), "").expect("written");
    let (_, end) = runs.remove(0);
    assert_eq!(limited("the first", end).await, Ok(HookEnd::Done { answer: None }));
    case.hooks.cancel_all();
    for (_, end) in runs {
        assert_eq!(limited("the rest", end).await, Ok(HookEnd::Cancelled));
    }
    assert_eq!(left(), []);
}

async fn valid_until(case: Case) {
    case.write(Hook::Promote, "touch up; sleep 1000");
    let call = HookCall { valid_until: Some(At(1)), ..case.call(Hook::Promote) };
    assert_eq!(case.hooks.run(call).await, HookEnd::Cancelled);
    assert!(!case.has("up"));
    let valid_until = clock::now() + Span(500);
    let call = HookCall { valid_until: Some(valid_until), ..case.call(Hook::Promote) };
    assert_eq!(case.hooks.run(call).await, HookEnd::Cancelled);
    assert!(clock::now() >= valid_until);
    assert!(case.has("up"));
    assert_eq!(left(), []);
}

async fn endless_output(case: Case) {
    let call = HookCall { timeout: Span(500), ..case.call(Hook::Position) };
    case.write(Hook::Position, "head -c 100000 /dev/zero; yes");
    assert_eq!(limited("its end", case.hooks.run(call)).await, HookEnd::Timeout);
    let long = "head -c 17000 /dev/zero | tr '\\0' x; echo; exit 0";
    let end = case.run(Hook::Position, long).await;
    assert_eq!(end, HookEnd::Done { answer: None }, "a cut line is no answer");
}

async fn children_and_orphans(case: Case) {
    let spec = Spec {
        args: vec!["-c".into(), "for i in $(seq 100); do (sleep 0 &) ; done; echo ok".into()],
        stdout: Output::Pipe,
        ..Spec::new("sh")
    };
    let before = case.children.orphans_reaped();
    let mut child = case.children.spawn(&spec).expect("starts");
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).await.expect("utf-8");
    assert_eq!(text, "ok\n");
    assert_eq!(child.exit.wait().await, Exit::Code(0));
    limited("the orphans", case.children.none_left()).await;
    assert_eq!(case.children.orphans_reaped() - before, 100);
    for _ in 0..100 {
        let error = case.children.spawn(&Spec::new("/no/such/file")).expect_err("there is none");
        assert_eq!(error.exit_code(), 127);
    }
}

async fn application_crashed(case: Case) {
    case.write(Hook::Health, "touch health.up; sleep 1000");
    let (tell, mut end) = tokio::sync::oneshot::channel();
    case.hooks.start(case.call(Hook::Health), move |_, end| drop(tell.send(end)));
    let script = format!("cd {}; {ESCAPE}; exit 1", case.path().display());
    let spec = Spec { args: vec!["-c".into(), script.into()], ..Spec::new("bash") };
    let mut app = case.children.spawn(&spec).expect("starts");
    assert_eq!(app.exit.wait().await, Exit::Code(1));
    wait_for("both", || case.has("up") && case.has("health.up")).await;
    let alive = || case.children.application_left(app.proc).expect("/proc");
    // The main process reaped is not the tree gone. One look may miss a child that is just being
    // handed to another parent; a kill therefore wants several clean ones.
    wait_for("sight of what is left", || alive() > 0).await;
    limited("the kill", case.children.kill_application(app.proc)).await;
    assert_eq!(alive(), 0);
    assert!(end.try_recv().is_err(), "the hook is not the application");
    case.hooks.cancel_all();
    assert_eq!(limited("the hook", end).await, Ok(HookEnd::Cancelled));
}

async fn guard_obeys(case: Case) {
    let spec = Spec { args: vec!["1000".into()], ..Spec::new("sleep") };
    let mut app = case.children.spawn(&spec).expect("starts");
    let first = clock::now() + Span(400);
    let armed = case.guard.arm(app.proc, first);
    assert!(case.guard.wait_acked(armed, Span::secs(5)).await);
    case.guard.extend(first + Span::secs(3_600));
    wait_for("the first time", || clock::now() > first + Span(100)).await;
    assert_eq!(tree::descendants(case.guard.pid()).expect("/proc").len(), 2, "app and sidecar");
    let shorter = clock::now() + Span(50);
    let shortened = case.guard.shorten(shorter);
    assert!(case.guard.wait_acked(shortened, Span::secs(5)).await);
    assert_eq!(limited("the kill", app.exit.wait()).await, Exit::Signal(9));
    assert!(clock::now() >= shorter);
    wait_for("the guard's word", || case.guard.fired() == shortened).await;
    assert!(!case.guard.is_firing());

    let mut app = case.children.spawn(&spec).expect("starts");
    let due = clock::now() + Span(200);
    let armed = case.guard.arm(app.proc, due);
    assert!(case.guard.wait_acked(armed, Span::secs(5)).await);
    case.guard.disarm();
    wait_for("the time", || clock::now() > due + Span(100)).await;
    assert_ne!(case.guard.fired(), armed, "disarmed");
    assert_eq!(left(), [app.proc]);
    limited("the kill", case.children.kill_all_but(&[])).await;
    assert_eq!(app.exit.wait().await, Exit::Signal(9));
}

async fn fence_now(case: Case) {
    let spec = Spec { args: vec!["1000".into()], contained: true, ..Spec::new("sleep") };
    let job = case.children.spawn(&spec).expect("starts");
    assert!(case.guard.add_job(job.proc));
    let mut app = case.children.spawn(&Spec { contained: false, ..spec }).expect("starts");
    case.write(Hook::Promote, &format!("{ESCAPE}\nsleep 1000"));
    let (tell, end) = tokio::sync::oneshot::channel();
    case.hooks.start(case.call(Hook::Promote), move |_, end| drop(tell.send(end)));
    wait_for("the hook", || case.has("up")).await;
    assert!(case.guard.fence_now(Span::secs(10)).await, "killed");
    assert_eq!(app.exit.wait().await, Exit::Signal(9));
    assert_eq!(limited("the hook", end).await, Ok(HookEnd::Signal { signal: 9 }));
    assert_eq!(left().len(), 2, "the job behind its shim");
    case.guard.remove_job(job.proc);
    limited("the job's end", case.children.kill_all_but(&[])).await;
    assert_eq!(left(), []);
}
