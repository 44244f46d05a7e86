//! An attempt to take, from the verdict that it may be tried to the one transaction (rule 12): it
//! gets a session, asks positions where they decide, waits its rank, and reads all it judged once
//! more, consistently. Anything that moved in between ends it.
//!
//! Where others must stop receiving for it, what was judged is read consistently before they are
//! asked, too: a watch that hangs shows a lease that has run out, and a leader that is well would
//! wait for their acknowledgements.

use super::super::call::{Call, Verb};
use super::super::records::{SyncValue, TermValue};
use super::super::time::{At, Span};
use super::super::types::{NodeName, OpId, SessionId};
use super::counted::{self, Short};
use super::machine::{Lead, Pending};
use super::mutant::{self, Mutant};
use super::take::{Bar, Case, Judged};
use super::{LeadOut, Standpoint};
use std::collections::{BTreeMap, BTreeSet};

/// Between two attempts.
pub(super) const BACKOFF: Span = Span::secs(1);
/// A survey without an end is given up.
const SURVEY_LIMIT: Span = Span::secs(10);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step<T> {
    Wanted,
    Asked(OpId),
    Have(T),
}

/// An attempt before its transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prep {
    pub(super) case: Case,
    pub(super) judged: Judged,
    pub(super) started: At,
    /// What was judged still stands: asked for before anybody is frozen.
    pub(super) look: Step<()>,
    pub(super) session: Step<SessionId>,
    pub(super) survey: Option<OpId>,
    /// Nodes were frozen for it.
    pub(super) frozen: bool,
    /// The rank's wait.
    pub(super) go_at: At,
    pub(super) read: Option<OpId>,
}

impl Lead {
    /// Starts, moves on or drops an attempt.
    pub(super) fn drive_take(&mut self, now: At, out: &mut Vec<LeadOut>) {
        if self.prep.as_ref().is_some_and(|prep| prep.judged != self.judged()) {
            self.drop_prep(out);
        }
        if self.prep.is_none() && self.taking.is_none() && self.idle_until <= now {
            match self.judge(now) {
                Ok(case) => self.prepare(now, case, out),
                Err(bar) => self.barred(&bar, now, out),
            }
        }
        self.drive_prep(now, out);
    }

    fn prepare(&mut self, now: At, case: Case, out: &mut Vec<LeadOut>) {
        let session = match self.spare.take() {
            Some(id) => Step::Have(id),
            None => Step::Wanted,
        };
        let freezes = self.whom_to_ask(case).is_some_and(|(_, freeze)| freeze);
        self.prep = Some(Prep {
            case,
            judged: self.judged(),
            started: now,
            look: if freezes { Step::Wanted } else { Step::Have(()) },
            session,
            survey: None,
            frozen: false,
            go_at: now,
            read: None,
        });
        if !freezes {
            self.ask_positions(case, out);
        }
    }

    fn ask_positions(&mut self, case: Case, out: &mut Vec<LeadOut>) {
        let Some((nodes, freeze)) = self.whom_to_ask(case) else { return };
        let Some(term) = self.view.term_value() else { return };
        let (epoch, run) = (term.epoch, term.run.clone());
        let id = OpId::take(&mut self.next);
        if let Some(prep) = &mut self.prep {
            prep.survey = Some(id);
            prep.frozen = freeze;
            out.push(LeadOut::Survey { id, nodes, freeze, epoch, run });
        }
    }

    /// A consistent read of an attempt came back: what it judged stands, or the attempt is over.
    pub(super) fn prep_read(&mut self, now: At, op: OpId, out: &mut Vec<LeadOut>) {
        let judged = self.judged();
        let Some(prep) = self.prep.as_ref().filter(|prep| prep.judged == judged) else { return };
        let (case, looks) = (prep.case, prep.look == Step::Asked(op));
        if !looks && prep.read != Some(op) {
            return;
        }
        match self.judge(now) {
            Ok(verdict) if verdict == case && looks => {
                if let Some(prep) = &mut self.prep {
                    prep.look = Step::Have(());
                }
                self.ask_positions(case, out);
            }
            Ok(verdict) if verdict == case => self.take(now, out),
            Ok(_) | Err(_) => self.drop_prep(out),
        }
    }

    /// Whose positions decide: the sync members frozen, else those who may take, for the rank.
    pub(super) fn whom_to_ask(&self, case: Case) -> Option<(BTreeSet<NodeName>, bool)> {
        let term = self.view.term_value()?;
        let asks = !matches!(case, Case::Again { open: true } | Case::Forced);
        if !self.view.cluster || !asks {
            return None;
        }
        if self.keeps_all(term) {
            return None;
        }
        if let Some(sync) = self.view.sync_in_force() {
            let mut nodes = counted::asked(sync, &term.node, &self.me.node);
            if let Some(cut) = self.cut_under() {
                nodes.extend(counted::asked(cut, &term.node, &self.me.node));
            }
            return Some((nodes, true));
        }
        let to = self.view.leader_value().and_then(|value| value.to.as_ref());
        let mut nodes: BTreeSet<NodeName> =
            term.eligible.iter().map(|member| member.node.clone()).collect();
        match case {
            Case::Boot | Case::Again { .. } | Case::Forced => return None,
            Case::Clean if to == Some(&self.me.node) => return None,
            Case::Clean => {}
            Case::Waited => {
                nodes.remove(&term.node);
                nodes.insert(self.me.node.clone());
            }
        }
        (nodes.len() > 1).then_some((nodes, false))
    }

    /// Who led the term that is replaced, and whose application has run on since, needs nobody's
    /// answer: every commit that was acknowledged is in its own data first.
    fn keeps_all(&self, term: &TermValue) -> bool {
        let kept = self.standing.as_ref().is_some_and(|standing| standing.kept);
        self.is_own(term) && (kept && self.cut_under().is_none() || mutant::on(Mutant::M40))
    }

    pub(super) fn surveyed(
        &mut self,
        now: At,
        id: OpId,
        answers: &BTreeMap<NodeName, Standpoint>,
        out: &mut Vec<LeadOut>,
    ) {
        let Some(prep) = self.prep.as_mut().filter(|prep| prep.survey == Some(id)) else { return };
        prep.survey = None;
        let (case, frozen) = (prep.case, prep.frozen);
        let counts = self.view.sync_in_force().filter(|_| frozen);
        if let (Some(sync), Some(term)) = (counts, self.view.term_value())
            && let Err(short) = self.count(sync, term, answers)
        {
            self.barred(&Bar::Short(short), now, out);
            self.drop_prep(out);
            self.idle_until = now + BACKOFF;
            return;
        }
        let rank = match case {
            Case::Again { .. } | Case::Forced => 0,
            Case::Boot | Case::Clean | Case::Waited => rank(&self.me.node, answers),
        };
        if let Some(prep) = &mut self.prep {
            prep.go_at = now + Span(self.config.rank_step.0.saturating_mul(rank));
        }
    }

    fn count(
        &self,
        sync: &SyncValue,
        term: &TermValue,
        answers: &BTreeMap<NodeName, Standpoint>,
    ) -> Result<(), Short> {
        if let Some(cut) = self.cut_under() {
            counted::suffices(cut, &self.me.node, &self.me.node, answers)?;
        }
        counted::suffices(sync, &term.node, &self.me.node, answers)
    }

    fn cut_under(&self) -> Option<&SyncValue> {
        let cut = self.standing.as_ref()?.cut_under.as_ref();
        cut.filter(|_| !mutant::on(Mutant::M37))
    }

    fn drive_prep(&mut self, now: At, out: &mut Vec<LeadOut>) {
        let Some(prep) = &self.prep else { return };
        if now.since(prep.started) > SURVEY_LIMIT {
            self.drop_prep(out);
            self.idle_until = now + BACKOFF;
            return;
        }
        match prep.look {
            Step::Wanted => {
                let op = self.read_prepared(out);
                if let Some(prep) = &mut self.prep {
                    prep.look = Step::Asked(op);
                }
                return;
            }
            Step::Asked(_) => return,
            Step::Have(()) => {}
        }
        let ready = prep.survey.is_none() && prep.go_at <= now && prep.read.is_none();
        match prep.session {
            Step::Wanted => {
                let op = self.create_session(out);
                if let Some(prep) = &mut self.prep {
                    prep.session = Step::Asked(op);
                }
            }
            Step::Asked(_) => {}
            Step::Have(_) if ready => {
                let op = self.read_prepared(out);
                if let Some(prep) = &mut self.prep {
                    prep.read = Some(op);
                }
            }
            Step::Have(_) => {}
        }
    }

    fn read_prepared(&mut self, out: &mut Vec<LeadOut>) -> OpId {
        let (read, pending) = (self.read_call(), self.read_pending(true));
        self.call(pending, read, None, out)
    }

    pub(super) fn read_call(&self) -> Call {
        Call::Txn(vec![
            Verb::GetTree(self.keys.leader()),
            Verb::GetTree(self.keys.term()),
            Verb::GetTree(self.keys.sync()),
            Verb::GetTree(self.keys.cluster()),
        ])
    }

    pub(super) fn read_pending(&self, prep: bool) -> Pending {
        Pending::Read { known: self.judged(), prep }
    }

    /// The attempt is over before anything was sent. Whoever was frozen for it is told.
    pub(super) fn drop_prep(&mut self, out: &mut Vec<LeadOut>) {
        let Some(prep) = self.prep.take() else { return };
        if let Step::Have(session) = prep.session {
            self.doom(session);
        }
        if prep.frozen {
            out.push(LeadOut::Thaw);
        }
    }
}

/// How many of those who answered go first: position, priority, then name.
pub fn rank(me: &NodeName, answers: &BTreeMap<NodeName, Standpoint>) -> u64 {
    let key = |node: &NodeName, at: &Standpoint| {
        (std::cmp::Reverse(at.order), std::cmp::Reverse(at.priority), node.clone())
    };
    let Some(own) = answers.get(me).map(|at| key(me, at)) else { return answers.len() as u64 };
    answers.iter().filter(|(node, at)| key(node, at) < own).count() as u64
}
