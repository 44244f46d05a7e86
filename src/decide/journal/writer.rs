//! The leader's pen: reads the head, appends what is not in yet, removes the oldest.
//!
//! One call at a time. After any answer but success the head is read again and what it says
//! decides: a lost answer's entries are in or are not, and a copy that still travels is bound to
//! the old head's index. So no number is given twice and no note appended twice.

use super::head::Head;
use super::{Entry, Line, Notes};
use crate::decide::call::{Answer, Call, StoreError, Verb};
use crate::decide::keys::Keys;
use crate::decide::mutant::{self, Mutant};
use crate::decide::records::{decode, encode};
use crate::decide::time::{At, Span};
use crate::decide::types::{Epoch, Identity, Index, NodeName, RunId, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Consul takes 64 operations in a transaction; two are the check and the head.
const OPS_MOST: usize = 62;
/// Entries in one transaction, so that it can remove as many: 31 of 3.6 kB, in base64, are far
/// below the 512 KiB of its body.
const BATCH: usize = OPS_MOST / 2;
/// So many transactions at once, then one a second: a failover's ten entries need two.
const BURST: u32 = 4;
const ONE_IN: Span = Span::secs(1);
/// After a call that did not succeed.
const AGAIN: Span = Span(500);
/// Lines of other nodes that wait here: four nodes' whole tails.
const OTHERS_MOST: usize = 256;

/// The term a leader appends under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    pub epoch: Epoch,
    pub session: SessionId,
}

/// What the pen needs to know of its node.
pub struct Desk<'a> {
    pub keys: &'a Keys,
    pub me: &'a Identity,
    pub own: &'a Notes,
    pub members: BTreeSet<NodeName>,
    /// `journal_keep`.
    pub keep: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Doing {
    Nothing,
    ReadHead,
    /// The head is gone or garbage: all entries are read to make it anew.
    ReadAll(Index),
    Append(Head),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writer {
    term: Option<Term>,
    head: Option<(Head, Index)>,
    /// The head must be made anew; the index it has.
    lost: Option<Index>,
    doing: Doing,
    /// Nothing is sent before this.
    next: At,
    tokens: u32,
    since: At,
    others: BTreeMap<NodeName, (RunId, VecDeque<Line>)>,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer {
            term: None,
            head: None,
            lost: None,
            doing: Doing::Nothing,
            next: At(0),
            tokens: BURST,
            since: At(0),
            others: BTreeMap::new(),
        }
    }
}

impl Writer {
    /// Says under which term this node leads, or that it does not. What was known of the head is
    /// forgotten with the term.
    pub fn lead(&mut self, term: Option<Term>) {
        if self.term == term {
            return;
        }
        let ends = term.is_none();
        self.term = term;
        self.head = None;
        self.lost = None;
        self.doing = Doing::Nothing;
        self.next = At(0);
        if ends {
            self.others.clear();
        }
    }

    /// The epoch whose calls are answered by [`Writer::answered`].
    pub fn epoch(&self) -> Option<Epoch> {
        self.term.as_ref().map(|term| term.epoch)
    }

    /// How far this run's notes got in; `None` while that is not known.
    pub fn heard_of(&self, node: &NodeName, run: &RunId) -> Option<u64> {
        let (head, _) = self.head.as_ref()?;
        let known = head.heard_of(node, run);
        let waiting = self.others.get(node).filter(|(of, _)| of == run);
        let last = waiting.and_then(|(_, lines)| lines.back()).map_or(0, |line| line.no);
        Some(known.max(last))
    }

    /// Takes in another node's lines.
    pub fn told(&mut self, node: NodeName, run: RunId, lines: Vec<Line>) {
        let room = OTHERS_MOST.saturating_sub(self.others.values().map(|(_, of)| of.len()).sum());
        let (of, waiting) =
            self.others.entry(node).or_insert_with(|| (run.clone(), VecDeque::new()));
        if *of != run {
            // A process that is gone says nothing more.
            waiting.clear();
            *of = run;
        }
        for line in lines.into_iter().take(room) {
            if waiting.back().is_none_or(|last| last.no < line.no) {
                waiting.push_back(line.clipped());
            }
        }
    }

    /// The next call, if one is due.
    pub fn work(&mut self, now: At, desk: &Desk<'_>) -> Option<Call> {
        let term = self.term.clone()?;
        if self.doing != Doing::Nothing || now < self.next {
            return None;
        }
        if let Some(index) = self.lost {
            self.doing = Doing::ReadAll(index);
            return Some(Call::Read { key: desk.keys.journal(), recurse: true });
        }
        let Some((head, index)) = &self.head else {
            self.doing = Doing::ReadHead;
            return Some(Call::Read { key: desk.keys.journal_head(), recurse: false });
        };
        let lines = self.batch(head, desk);
        if lines.is_empty() && !head.is_over(desk.keep) {
            return None;
        }
        let (mut next, index) = (head.clone(), *index);
        if !self.may_send(now) {
            return None;
        }
        let entries: Vec<Entry> = lines
            .into_iter()
            .map(|(node, run, line)| next.append(term.epoch, node, run, line))
            .collect();
        let gone = next.compact(desk.keep, OPS_MOST - entries.len());
        next.forget_others(&desk.members);
        let locked = Verb::CheckSession(desk.keys.leader(), term.session);
        let locked = (!mutant::on(Mutant::M69)).then_some(locked);
        let mut verbs: Vec<Verb> = locked.into_iter().collect();
        verbs.push(Verb::Cas(desk.keys.journal_head(), index, encode(&next)));
        verbs.extend(entries.iter().map(|entry| {
            let key = desk.keys.journal_entry(entry.epoch, entry.seq);
            Verb::Cas(key, Index(0), encode(entry))
        }));
        let keys = gone.iter().map(|(epoch, seq)| desk.keys.journal_entry(*epoch, *seq));
        verbs.extend(keys.map(Verb::Delete));
        self.doing = Doing::Append(next);
        Some(Call::Txn(verbs))
    }

    /// What is not in yet, oldest first by the nodes' clocks, each node's own order kept.
    fn batch(&self, head: &Head, desk: &Desk<'_>) -> Vec<(NodeName, RunId, Line)> {
        let me = (&desk.me.node, &desk.me.run);
        let own = desk.own.after(head.heard_of(me.0, me.1)).collect::<VecDeque<_>>();
        let mut queues = vec![(me.0, me.1, own)];
        for (node, (run, lines)) in &self.others {
            let known = head.heard_of(node, run);
            queues.push((node, run, lines.iter().filter(|line| line.no > known).collect()));
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let first = queues
                .iter_mut()
                .filter(|(_, _, lines)| !lines.is_empty())
                .min_by_key(|(_, _, lines)| lines.front().map(|line| line.at));
            let Some((node, run, lines)) = first else { break };
            let Some(line) = lines.pop_front() else { break };
            let before = batch
                .iter()
                .rev()
                .find(|(of, _, _): &&(NodeName, RunId, Line)| of == *node)
                .map_or(head.heard_of(node, run), |(_, _, last)| last.no);
            let mut line = line.clone();
            if line.no > before + 1 {
                line.inputs.insert("lost_before".into(), (line.no - before - 1).to_string());
            }
            batch.push(((*node).clone(), (*run).clone(), line));
        }
        batch
    }

    fn may_send(&mut self, now: At) -> bool {
        let steps = now.since(self.since).0 / ONE_IN.0;
        if steps > 0 {
            self.tokens =
                BURST.min(self.tokens.saturating_add(u32::try_from(steps).unwrap_or(BURST)));
            self.since = self.since + Span(steps * ONE_IN.0);
        }
        if self.tokens == 0 {
            self.next = self.since + ONE_IN;
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// The answer to the call under way.
    pub fn answered(&mut self, now: At, keys: &Keys, result: Result<Answer, StoreError>) {
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        let answer = match (result, &doing) {
            (Ok(answer), _) => answer,
            (Err(_), _) => {
                // Done, not done or unknown: the head will tell.
                self.head = None;
                self.next = now + AGAIN;
                return;
            }
        };
        match (doing, answer) {
            (Doing::ReadHead, Answer::Entries(entries)) => {
                let entry = entries.first();
                let head = entry.and_then(|entry| decode::<Head>(&entry.value));
                match (head.filter(Head::is_sound), entry) {
                    (Some(head), Some(entry)) => self.head = Some((head, entry.modify)),
                    (_, entry) => self.lost = Some(entry.map_or(Index(0), |entry| entry.modify)),
                }
            }
            (Doing::ReadAll(index), Answer::Entries(entries)) => {
                let found = entries.iter().filter_map(|entry| Entry::under(keys, entry)).collect();
                self.lost = None;
                self.head = Some((Head::rebuilt(found), index));
            }
            (Doing::Append(head), Answer::Txn(entries)) => {
                let written = entries.iter().find(|entry| entry.key == keys.journal_head());
                self.head = written.map(|entry| (head, entry.modify));
                self.forget_appended();
            }
            (Doing::Nothing | Doing::ReadHead | Doing::ReadAll(_) | Doing::Append(_), _) => {
                self.head = None;
                self.next = now + AGAIN;
            }
        }
    }

    fn forget_appended(&mut self) {
        let Some((head, _)) = &self.head else { return };
        for (node, (run, lines)) in &mut self.others {
            let known = head.heard_of(node, run);
            lines.retain(|line| line.no > known);
        }
    }

    /// When there may be something to send that no input announces.
    pub fn wake(&self, now: At) -> Option<At> {
        let waits = self.term.is_some() && self.doing == Doing::Nothing;
        Some(self.next).filter(|at| waits && *at > now)
    }
}

#[cfg(test)]
mod tests;
