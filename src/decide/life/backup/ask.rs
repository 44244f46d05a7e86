//! The leader's side: a request or the schedule asks one node at a time, and takes the lock away
//! from one that does not hold on to it.

use super::super::{Node, State};
use crate::decide::backup::calendar::compact;
use crate::decide::backup::{BackupId, BackupValue, Candidate, Cron, Job, JobState, Slot, choose};
use crate::decide::call::Verb;
use crate::decide::io::Outbox;
use crate::decide::lead::Leadership;
use crate::decide::reason::Reason;
use crate::decide::records::MemberValue;
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, NodeName, SessionId};

/// A member that did not answer a ping for this long is not asked.
const SILENCE: Span = Span::secs(3);
/// A node that was asked and has not begun: it sees its watch within a moment.
const BEGIN_MOST: Span = Span::secs(20);
/// No beat for this long: four of `job::BEAT`.
const SILENCE_MOST: Span = Span::secs(60);
/// How long the candidates' positions are waited for.
const CHOOSE_MOST: Span = Span(500);
/// A moment of the schedule that was missed is made up for within an hour.
const MAKE_UP_MS: u64 = 3_600_000;
/// A backup of the schedule that failed is tried so often, this long after each other.
const ATTEMPTS: u32 = 3;
const RETRY: Span = Span::secs(300);
/// When nobody could be asked.
const NOBODY: Span = Span::secs(60);

/// What the leader has in mind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ask {
    leads: bool,
    /// Candidates are asked for their positions until then.
    choosing: Option<At>,
    /// The schedule, and since when (wall clock) this process knows it.
    schedule: Option<(Cron, u64)>,
    /// The schedule asks nobody before this.
    quiet: Option<At>,
}

impl Ask {
    pub fn wake(&self) -> Option<At> {
        [self.choosing, self.quiet].into_iter().flatten().min()
    }
}

/// What is to be done, by whom, and who wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    pub job: Job,
    /// Of the backup to verify.
    pub id: Option<BackupId>,
    pub node: Option<NodeName>,
    pub by: String,
    pub request: Option<String>,
    pub slot: Option<Slot>,
}

/// What became of a wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Granted {
    /// Not yet: positions or the write of the lock are waited for.
    Wait,
    /// The lock names this node, for this request.
    Node(NodeName, BackupId),
    No(String),
}

impl Node {
    fn leading(&self) -> Option<(Epoch, SessionId)> {
        let Leadership::Open { epoch, .. } = self.leadership() else { return None };
        let primary = self.state == State::Primary && self.cluster.is_some();
        self.lead.session().filter(|_| primary).map(|session| (epoch, session))
    }

    pub(super) fn tend_ask(&mut self, now: At, out: &mut Outbox) {
        self.know_schedule();
        let Some((_, session)) = self.leading() else {
            self.backup.ask.leads = false;
            self.backup.ask.choosing = None;
            return;
        };
        if !self.backup.ask.leads {
            self.backup.ask.leads = true;
            // Silence is counted from here on: what a former leader saw is not known.
            self.backup.since = now;
        }
        if self.lock_is_busy(now) {
            return;
        }
        if let Some(why) = self.dead_holder(now) {
            let Some(held) = self.backup.value.clone() else { return };
            let text = format!("{} {} of {} is given up: {why}", held.job, held.id, held.node);
            self.decided(Reason::new("backup.given-up", text), out);
            let freed = BackupValue { state: JobState::Failed, reason: why, ..held };
            let check = Verb::CheckSession(self.keys.leader(), session);
            self.write_lock(freed, Some(check), None, out);
            return;
        }
        // A switchover that chooses asks for positions too.
        if self.desk.choosing.is_none() {
            self.tend_schedule(now, out);
        }
    }

    fn know_schedule(&mut self) {
        let set = self.set.backup.schedule.as_ref();
        if set != self.backup.ask.schedule.as_ref().map(|(known, _)| known) {
            self.backup.ask.schedule = set.map(|schedule| (schedule.clone(), self.wall));
            self.backup.ask.quiet = None;
        }
    }

    /// Why the lock is taken away from its holder.
    fn dead_holder(&self, now: At) -> Option<String> {
        let held = self.backup.held()?;
        let silent = now.since(self.backup.since);
        let run = self.members.get(&held.node).map(|member| &member.run);
        match held.state {
            _ if run.is_some_and(|run| *run != held.run) => {
                Some(format!("lictor on {} was restarted", held.node))
            }
            JobState::Asked if silent >= BEGIN_MOST => {
                Some(format!("{} did not begin within {BEGIN_MOST}", held.node))
            }
            JobState::Running if silent >= SILENCE_MOST => {
                Some(format!("{} gave no sign for {SILENCE_MOST}", held.node))
            }
            JobState::Asked | JobState::Running | JobState::Done | JobState::Failed => None,
        }
    }

    /// The moment of the schedule that is due, counted as tried once more.
    fn due_slot(&self, now: At) -> Option<Slot> {
        let (schedule, since) = self.backup.ask.schedule.as_ref()?;
        let text = schedule.to_string();
        let value = self.backup.value.as_ref();
        let last = value.and_then(|value| value.slot.as_ref()).filter(|it| it.schedule == text);
        let after = last.map_or(*since, |last| last.at);
        if let Some(at) = schedule.last_due(after, self.wall, MAKE_UP_MS) {
            return Some(Slot { at, schedule: text, attempt: 1, done: false });
        }
        let last = last.filter(|last| !last.done && last.attempt < ATTEMPTS)?;
        let rested = now.since(self.backup.since) >= RETRY;
        rested.then(|| Slot { attempt: last.attempt + 1, ..last.clone() })
    }

    fn tend_schedule(&mut self, now: At, out: &mut Outbox) {
        if self.backup.held().is_some() || self.backup.ask.quiet.is_some_and(|at| now < at) {
            return;
        }
        let Some(slot) = self.due_slot(now) else { return };
        let wish = Wish {
            job: Job::Backup,
            id: None,
            node: None,
            by: "schedule".to_owned(),
            request: None,
            slot: Some(slot),
        };
        match self.grant(now, &wish, out) {
            Granted::Wait | Granted::Node(..) => {}
            Granted::No(why) => {
                self.backup.ask.quiet = Some(now + NOBODY);
                let text = format!("a backup is due and nobody can make it: {why}");
                let flip = "a node with backup_dir and a backup hook";
                self.decided(Reason::new("backup.nobody", text).flip(flip), out);
            }
        }
    }

    /// Asks a node for what is wished, in as many calls as it takes.
    pub(crate) fn grant(&mut self, now: At, wish: &Wish, out: &mut Outbox) -> Granted {
        if let Some(value) = &self.backup.value
            && value.request.is_some()
            && value.request == wish.request
        {
            return Granted::Node(value.node.clone(), value.id.clone());
        }
        let Some((epoch, session)) = self.leading() else { return Granted::Wait };
        if self.lock_is_busy(now) {
            return Granted::Wait;
        }
        if let Some(held) = self.backup.held() {
            let BackupValue { job, id, node, .. } = held;
            return Granted::No(format!("{node} is at {job} {id}; one at a time"));
        }
        if wish.node.is_none() && self.asking(now, out) {
            return Granted::Wait;
        }
        self.backup.ask.choosing = None;
        let node = match choose(&self.candidates(), wish.node.as_ref()) {
            Ok(node) => node,
            Err(why) => return Granted::No(why),
        };
        let Some(member) = self.members.get(&node) else { return Granted::Wait };
        let at = self.asked_at();
        let fresh = || BackupId::new(&format!("{}-{epoch}", compact(at)));
        let id = wish.id.clone().unwrap_or_else(fresh);
        let last = self.backup.value.as_ref().and_then(|value| value.slot.clone());
        let value = BackupValue {
            v: 1,
            job: wish.job,
            id: id.clone(),
            node: node.clone(),
            run: member.run.clone(),
            state: JobState::Asked,
            step: "asked".to_owned(),
            bytes: 0,
            n: 0,
            epoch,
            at,
            by: wish.by.clone(),
            request: wish.request.clone(),
            slot: wish.slot.clone().or(last),
            reason: String::new(),
        };
        let text = format!("{} {id}: {node} is asked, for {}", wish.job, wish.by);
        self.decided(Reason::new("backup.asked", text), out);
        let check = Verb::CheckSession(self.keys.leader(), session);
        self.write_lock(value, Some(check), None, out);
        Granted::Wait
    }

    /// Whether the replicas' positions are still waited for.
    fn asking(&mut self, now: At, out: &mut Outbox) -> bool {
        let able = self.candidates();
        let able: Vec<NodeName> = able
            .into_iter()
            .filter(|candidate| candidate.bar.is_none() && !candidate.is_primary)
            .map(|candidate| candidate.node)
            .collect();
        if able.len() < 2 {
            return false;
        }
        let Some(until) = self.backup.ask.choosing else {
            self.backup.ask.choosing = Some(now + CHOOSE_MOST);
            self.peers.forget_orders();
            for node in &able {
                self.ask_position(now, node, out);
            }
            return true;
        };
        now < until && able.iter().any(|node| self.peers.order_of(node).is_none())
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |member: &MemberValue| Candidate {
            node: member.node.clone(),
            bar: self.bar_of(member),
            is_primary: member.node == *self.me(),
            lag: self.peers.lag_of(&member.node),
            priority: member.priority,
            no_failover: member.no_failover,
        };
        self.members().map(candidate).collect()
    }

    fn bar_of(&self, member: &MemberValue) -> Option<String> {
        if let Some(bar) = &member.bars_backup {
            return Some(bar.clone());
        }
        if member.node == *self.me() {
            return None;
        }
        if member.state != "replica" || !self.follows_me(member) {
            return Some(format!("is {} and does not follow this term", member.state));
        }
        let silent = self.peers.silent(&member.node, self.now) >= SILENCE;
        silent.then(|| "does not answer".to_owned())
    }
}
