//! An application that runs and does not do its work: it hangs, or it says itself that it cannot be
//! a primary (a full disk).
//!
//! A hung one is ended: only its death proves that it writes no more. What follows is what follows
//! a crash, except that it is started again in place once within `restart_window`, not three times:
//! each time costs `hung_after`. One that answers and says "unable" is handed over as planned, for
//! it can still demote and tell its position; where nobody is fit to take, it is left alone, for a
//! start mends no disk. Paused, nothing
//! is done. This must not: end what no check has spoken of (a hook that could not be
//! started says nothing of the application).

use super::hooks::UNHEALTHY_AFTER;
use super::{After, Demotion, Node, State};
use crate::decide::hook::HookEnd;
use crate::decide::io::Outbox;
use crate::decide::lead::{LeadIn, Leadership};
use crate::decide::reason::Reason;
use crate::decide::time::{At, Span};

/// The exit code by which `health` says: I answer, and cannot do a primary's work.
const UNABLE: i32 = 4;
/// How often within `restart_window` a hung primary is started again in place.
const IN_PLACE: u32 = 1;

/// What the checks of this application said lately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ailing {
    /// When a check last succeeded.
    good: Option<At>,
    /// Failures in a row since, how many of the last ones in a row said "unable", and the last one.
    failed: u32,
    unable: u32,
    last: Option<At>,
    /// A hand-over is not begun again before this: the last one may have come to nothing.
    again: Option<At>,
    /// Why nobody could take over, as last told: once, not each second.
    told: Option<String>,
}

impl Ailing {
    pub fn note(&mut self, now: At, end: &HookEnd) {
        match end {
            HookEnd::Done { .. } => {
                *self = Ailing { good: Some(now), again: self.again, ..Ailing::default() };
            }
            HookEnd::Exit { code: UNABLE } => {
                self.failed = self.failed.saturating_add(1);
                self.last = Some(now);
                self.unable = self.unable.saturating_add(1);
            }
            HookEnd::Exit { .. } | HookEnd::Signal { .. } | HookEnd::Timeout => {
                self.failed = self.failed.saturating_add(1);
                self.last = Some(now);
                self.unable = 0;
            }
            HookEnd::Cancelled | HookEnd::NotStarted { .. } => {}
        }
    }

    /// How long none had succeeded when the last one failed. By the last one: the next may succeed.
    fn silent(&self) -> Span {
        self.last.zip(self.good).map_or(Span::ZERO, |(last, good)| last.since(good))
    }

    fn is_hung(&self, after: Span) -> bool {
        self.failed >= UNHEALTHY_AFTER && self.unable == 0 && self.silent() >= after
    }
}

impl Node {
    /// One transition at the most.
    pub(crate) fn drive_ailing(&mut self, now: At, out: &mut Outbox) -> bool {
        if self.stop || self.pause.is_some() || self.set.hung_after == Span::ZERO {
            return false;
        }
        let leadership = self.leadership();
        let leads = self.state == State::Primary && matches!(leadership, Leadership::Open { .. });
        let follows = self.state == State::Replica && leadership == Leadership::Follower;
        if !leads && !follows {
            return false;
        }
        if self.ailing.is_hung(self.set.hung_after) {
            self.end_hung(now, leads, out);
            return true;
        }
        leads && self.ailing.unable >= UNHEALTHY_AFTER && self.hand_over_unable(now, out)
    }

    fn end_hung(&mut self, now: At, leads: bool, out: &mut Outbox) {
        let text = format!(
            "the application runs, and no check has succeeded for {} ({} failed): it is ended",
            self.ailing.silent(),
            self.ailing.failed
        );
        let flip = format!("a check that succeeds within hung_after ({})", self.set.hung_after);
        let why = Reason::new("app.hung", text).flip(flip);
        self.crashes.note(now, self.set.restart_window);
        if leads && !self.restart_in_place(now, IN_PLACE.min(self.set.restart_max), out) {
            self.hold_down(now, &why, out);
            self.tell_lead(now, LeadIn::Demote { why }, out);
            self.kill(now, After::Start { handed_over: true }, out);
            return;
        }
        self.decided(why, out);
        self.kill(now, After::Start { handed_over: false }, out);
    }

    fn hand_over_unable(&mut self, now: At, out: &mut Outbox) -> bool {
        if self.ailing.again.is_some_and(|again| now < again) {
            return false;
        }
        let said =
            format!("{} checks in a row say that it cannot be a primary", self.ailing.unable);
        match self.choose(None) {
            Ok(_) if self.still_asking(now, out) => false,
            Ok(to) => {
                self.desk.choosing = None;
                self.ailing.again = Some(now + self.set.hung_after);
                let why = Reason::new("app.unable", format!("{said}: {to} is to lead"))
                    .flip("a check that succeeds");
                self.decided(why.clone(), out);
                self.hold_down(now, &why, out);
                let to = Some(to);
                let demotion = Demotion { to, planned: true, request: None, leaving: false };
                self.begin_planned(now, demotion, out);
                true
            }
            Err(nobody) => {
                self.desk.choosing = None;
                if self.ailing.told.as_ref() != Some(&nobody) {
                    let text = format!("{said}, and nobody can take over: {nobody}");
                    let why = Reason::new("app.unable", text).flip("a member that is fit");
                    self.decided(why, out);
                    self.ailing.told = Some(nobody);
                }
                false
            }
        }
    }
}
