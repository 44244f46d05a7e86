//! Why: the decision that stands, its inputs, and the one fact that would flip it.

use super::super::reason::Reason;
use super::super::time::At;
use super::super::types::NodeName;
use super::LeadOut;
use super::counted::Short;
use super::machine::Lead;
use super::take::{Bar, Case};
use std::collections::BTreeSet;

impl Case {
    /// Stable, for the journal and `explain`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Case::Boot => "boot",
            Case::Clean => "clean",
            Case::Again { .. } => "again",
            Case::Waited => "waited",
            Case::Forced => "forced",
        }
    }

    /// The same for people, as the end of a sentence.
    pub(super) fn ground(self) -> &'static str {
        match self {
            Case::Boot => "nothing was here before",
            Case::Clean => "it was given back clean",
            Case::Again { .. } => "the term is its own",
            Case::Waited => "the holder's lease was waited out",
            Case::Forced => "an operator ordered it",
        }
    }
}

impl Bar {
    /// Stable, for machines.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Bar::Blind => "take.blind",
            Bar::NoStanding => "take.starting",
            Bar::Leading => "take.leading",
            Bar::Closing => "take.closing",
            Bar::Barred(reason) => reason.code,
            Bar::Foreign => "take.foreign",
            Bar::NoTerm => "take.no_term",
            Bar::Unlisted(_) => "take.unlisted",
            Bar::EmptyDisk => "take.empty",
            Bar::NotInSync(_) => "take.not_in_sync",
            Bar::SyncGarbage => "take.sync_garbage",
            Bar::NotFollowing(..) => "take.not_following",
            Bar::NotToBootstrap => "take.no_bootstrap",
            Bar::Wait { .. } => "take.wait",
            Bar::Short(short) => short.code(),
        }
    }

    pub(super) fn reason(&self, now: At) -> Reason {
        let code = self.code();
        let because = |text: String, flip: String| Reason::new(code, text).flip(flip);
        match self {
            Bar::Blind => because("leader and state/ are not read yet".into(), "an answer".into()),
            Bar::NoStanding => because("the node is starting".into(), "its own report".into()),
            Bar::Leading => because("this node leads".into(), "loss of the lock".into()),
            Bar::Closing => because(
                "the own term is over and not given back".into(),
                "the application fenced and the lock released".into(),
            ),
            Bar::Barred(reason) => reason.clone(),
            Bar::Foreign => {
                because("the data is another cluster's".into(), "a volume of this cluster".into())
            }
            Bar::NoTerm => because(
                "state/term is missing or unreadable beside data or a known epoch".into(),
                "an operator's decision: `lictor adopt NODE`, or empty volumes".into(),
            ),
            Bar::Unlisted(names) => because(
                format!("only {} may take", join(names)),
                "one of them, or admission by a leader".into(),
            ),
            Bar::EmptyDisk => because("the disk is empty".into(), "data of this cluster".into()),
            Bar::NotInSync(names) => because(
                format!("only {} can be promoted without loss", join(names)),
                "one of them".into(),
            ),
            Bar::SyncGarbage => {
                because("state/sync is unreadable".into(), "an operator's decision".into())
            }
            Bar::NotFollowing(node, epoch) => because(
                format!("this node did not follow {node} under epoch {epoch}"),
                "a replicate hook that succeeded for it".into(),
            ),
            Bar::NotToBootstrap => because(
                "the cluster is not made yet, and this node may not make it".into(),
                "enough members reporting, none of them with data".into(),
            ),
            Bar::Wait { until, for_what } => because(
                format!("waits {} for {for_what}", now.until(*until)),
                "a clean release, or that time".into(),
            ),
            Bar::Short(short) => short.reason(),
        }
    }
}

impl Short {
    fn code(&self) -> &'static str {
        match self {
            Short::NotMember => "take.not_in_sync",
            Short::NoOwnPosition => "take.no_position",
            Short::TooFew { .. } => "take.too_few",
            Short::Ahead { .. } => "take.ahead",
        }
    }

    pub fn reason(&self) -> Reason {
        let code = self.code();
        match self {
            Short::NotMember => Reason::new(code, "this node is not in the sync set"),
            Short::NoOwnPosition => {
                Reason::new(code, "the own application gave no frozen position")
                    .flip("an application that answers")
            }
            Short::TooFew { need, have, missing } => {
                let names = join(missing);
                let text = format!("{have} of {need} sync members answered; missing: {names}");
                Reason::new(code, text).flip(format!("an answer of {names}"))
            }
            Short::Ahead { node, order, own } => {
                let text = format!("{node} has position {order}, this node {own}");
                Reason::new(code, text).flip(format!("{node} takes, or this node catches up"))
            }
        }
    }
}

fn join(names: &BTreeSet<NodeName>) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Lead {
    /// Tells what bars this node, once for each change of its code; and of whom a count misses.
    pub(super) fn barred(&mut self, bar: &Bar, now: At, out: &mut Vec<LeadOut>) {
        let reason = bar.reason(now);
        let same = match (bar, &self.told) {
            (Bar::Short(_), told) => told.as_ref() == Some(&reason),
            (_, told) => told.as_ref().is_some_and(|told| told.code == reason.code),
        };
        if !same {
            self.decided(reason, out);
        }
    }

    /// Why the last attempt came to nothing: an answer to a count is known after it alone.
    fn fell_short(&self) -> Option<Reason> {
        const COUNTED: [&str; 3] = ["take.too_few", "take.ahead", "take.no_position"];
        self.told.clone().filter(|told| COUNTED.contains(&told.code))
    }

    /// What this node waits for, and the one fact that would flip it.
    pub fn explain(&self, now: At) -> Reason {
        if let Some(taking) = &self.taking {
            let text = format!("take-over under epoch {} is not settled", taking.epoch);
            return Reason::new("take.open", text).flip("its answer, or a read that shows it");
        }
        if let Some(prep) = &self.prep {
            if let Some(reason) = self.fell_short() {
                return reason;
            }
            let text = match prep.survey {
                Some(_) => "prepares to take the lock: asks positions",
                None => "prepares to take the lock",
            };
            return Reason::new("take.prepare", text).flip("a key that moves");
        }
        if let Some(term) = self.term.as_ref().filter(|term| term.open) {
            let left = now.until(term.proofs.deadline());
            let text = format!("leads under epoch {} for {left} more", term.epoch);
            return match self.held_by() {
                Some(by) => Reason::new("hold", format!("{text}, by {by}: Consul is silent"))
                    .flip("Consul's answer, or the silence of one of them until then"),
                None => Reason::new("lead", text).flip("no answer to a renewal until then"),
            };
        }
        if now < self.idle_until {
            if let Some(reason) = self.fell_short() {
                return reason;
            }
            let text = format!("the last attempt failed; next in {}", now.until(self.idle_until));
            return Reason::new("take.pause", text).flip("that time");
        }
        match self.judge(now) {
            Ok(case) => Reason::new("take.now", format!("may take the lock: {}", case.ground())),
            Err(bar) => bar.reason(now),
        }
    }
}
