//! The application's process and the guard over it.

use super::{App, Driver};
use crate::decide::io::{Exit, Input};
use crate::decide::time::{At, Span};
use crate::process::children::{Env, Group, Spec};
use crate::process::{Pid, Proc, environment};
use std::ffi::OsString;

/// The guard does nothing but sleep: longer than this it is not there.
const ACK_LIMIT: Span = Span::secs(1);

impl Driver {
    pub(super) fn start_app(&mut self) {
        match self.spawn_app() {
            Ok(app) => {
                let pid = app.proc.pid.0.unsigned_abs();
                tracing::info!(event = "app.started", pid);
                self.app = Some(app);
                self.queue.push_back(Input::AppStarted { pid });
            }
            Err(why) => self.queue.push_back(Input::AppNotStarted { why }),
        }
    }

    fn spawn_app(&self) -> Result<App, String> {
        let local = &self.config.local;
        let mut command = local.command.iter();
        let program = command.next().ok_or("there is no command")?;
        let secret: Vec<String> = Vec::new();
        let own = crate::config::Environment::of_process().0;
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut env = environment::of_application(own, &secret);
        let extra = local.env.iter();
        env.extend(extra.map(|(name, value)| (OsString::from(name), OsString::from(value))));
        let spec = Spec {
            args: command.map(OsString::from).collect(),
            env: Env::Exactly(env),
            user: self.app_user.clone(),
            group: Group::Foreground,
            ..Spec::new(program)
        };
        let spawned = self.children.spawn(&spec).map_err(|error| error.to_string())?;
        Ok(App { proc: spawned.proc, exit: spawned.exit })
    }

    pub(super) fn app_ended(&mut self, exit: crate::process::Exit) {
        let Some(app) = self.app.take() else { return };
        let exit = match exit {
            crate::process::Exit::Code(code) => Exit::Code(code),
            crate::process::Exit::Signal(signal) => Exit::Signal(signal),
        };
        let pid = app.proc.pid.0.unsigned_abs();
        tracing::info!(event = "app.ended", pid, exit = ?exit);
        self.queue.push_back(Input::AppExited { pid, exit });
    }

    pub(super) fn term_app(&self) {
        if let Some(app) = &self.app {
            self.children.signal(app.proc, libc::SIGTERM);
        }
    }

    /// The promote hook first, then all that descends from us: hooks too, which end as killed.
    pub(super) fn kill_tree(&mut self) {
        self.hooks.cancel_all();
        let children = self.children.clone();
        self.beside(async move {
            children.kill_all_but(&[]).await;
            Input::TreeGone
        });
    }

    pub(super) fn arm(&mut self, pid: u32, kill_at: At) {
        let Some(proc) = self.proc_of(pid) else { return };
        let generation = self.guard.arm(proc, kill_at);
        self.kill_at = kill_at;
        let guard = self.guard.clone();
        self.beside(async move {
            if guard.wait_acked(generation, ACK_LIMIT).await {
                Input::GuardArmed { pid, kill_at }
            } else {
                tracing::error!(event = "guard.silent", pid);
                Input::GuardFired
            }
        });
    }

    fn proc_of(&self, pid: u32) -> Option<Proc> {
        let app = self.app.as_ref()?;
        let wanted = i32::try_from(pid).ok().map(Pid)?;
        (app.proc.pid == wanted).then_some(app.proc)
    }

    pub(super) fn extend(&mut self, kill_at: At) {
        if kill_at >= self.kill_at {
            self.guard.extend(kill_at);
        } else {
            self.guard.shorten(kill_at);
        }
        self.kill_at = kill_at;
    }

    pub(super) fn disarm(&mut self) {
        self.guard.disarm();
    }
}
