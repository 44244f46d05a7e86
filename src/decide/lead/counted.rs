//! Who may be promoted without losing an acknowledged write: counting, and nothing else.
//!
//! `members` of `state/sync` names the leader of the term being replaced too; the *others* are the
//! rest. Every acknowledged commit is on at least `acks` of the others, so any `len(others) - acks
//! + 1` of them include one that has it. A taker needs frozen answers from so many, and none ahead
//! of itself. `members` = {self} needs its own alone.

use super::super::records::SyncValue;
use super::super::types::NodeName;
use super::Standpoint;
use std::collections::{BTreeMap, BTreeSet};

/// Why the count does not suffice.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Short {
    /// Not in the sync set: never.
    NotMember,
    /// The own application gave no frozen position.
    NoOwnPosition,
    /// Too few of the others answered.
    TooFew { need: usize, have: usize, missing: BTreeSet<NodeName> },
    /// Someone has more.
    Ahead { node: NodeName, order: u64, own: u64 },
}

/// The others of `sync` when the term of `replaced` is taken over.
pub fn others(sync: &SyncValue, replaced: &NodeName) -> BTreeSet<NodeName> {
    sync.members.iter().filter(|node| *node != replaced).cloned().collect()
}

/// Whose answers a taker asks for: the others and itself.
pub fn asked(sync: &SyncValue, replaced: &NodeName, me: &NodeName) -> BTreeSet<NodeName> {
    let mut nodes = others(sync, replaced);
    nodes.insert(me.clone());
    nodes
}

/// Whether `me` may take the term of `replaced`, given answers of after its lease.
pub fn suffices(
    sync: &SyncValue,
    replaced: &NodeName,
    me: &NodeName,
    answers: &BTreeMap<NodeName, Standpoint>,
) -> Result<(), Short> {
    if !sync.members.contains(me) {
        return Err(Short::NotMember);
    }
    let frozen = |node: &NodeName| answers.get(node).filter(|answer| answer.frozen);
    let own = frozen(me).ok_or(Short::NoOwnPosition)?.order;
    let others = others(sync, replaced);
    if others.is_empty() {
        return Ok(());
    }
    let need = (others.len() + 1).saturating_sub(sync.acks as usize).max(1);
    let missing: BTreeSet<NodeName> =
        others.iter().filter(|node| frozen(node).is_none()).cloned().collect();
    let have = others.len() - missing.len();
    if have < need {
        return Err(Short::TooFew { need, have, missing });
    }
    let ahead = others.iter().filter_map(|node| Some((node, frozen(node)?.order)));
    match ahead.max_by_key(|(_, order)| *order) {
        Some((node, order)) if order > own => Err(Short::Ahead { node: node.clone(), order, own }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::types::Epoch;
    use super::*;

    fn sync(members: &[&str], acks: u32) -> SyncValue {
        let members = members.iter().map(|name| NodeName::from(*name)).collect();
        SyncValue { v: 1, epoch: Epoch(1), members, acks }
    }

    fn answers(of: &[(&str, u64, bool)]) -> BTreeMap<NodeName, Standpoint> {
        of.iter()
            .map(|(name, order, frozen)| {
                let standpoint = Standpoint { order: *order, priority: 100, frozen: *frozen };
                (NodeName::from(*name), standpoint)
            })
            .collect()
    }

    fn verdict(sync: &SyncValue, me: &str, given: &[(&str, u64, bool)]) -> Result<(), Short> {
        suffices(sync, &NodeName::from("a"), &NodeName::from(me), &answers(given))
    }

    #[test]
    fn two_members_need_the_one_other() {
        let set = sync(&["a", "b"], 1);
        assert_eq!(verdict(&set, "b", &[("b", 5, true)]), Ok(()));
        assert_eq!(verdict(&set, "b", &[("b", 5, false)]), Err(Short::NoOwnPosition));
        assert_eq!(verdict(&set, "c", &[("c", 9, true)]), Err(Short::NotMember));
        // The old leader itself comes back: it needs the other, who alone must have every commit.
        assert!(matches!(
            verdict(&set, "a", &[("a", 9, true)]),
            Err(Short::TooFew { need: 1, .. })
        ));
        assert_eq!(verdict(&set, "a", &[("a", 9, true), ("b", 9, true)]), Ok(()));
    }

    #[test]
    fn one_acknowledgement_of_two_needs_both() {
        let set = sync(&["a", "b", "c"], 1);
        let alone = verdict(&set, "b", &[("b", 5, true)]);
        let missing = BTreeSet::from([NodeName::from("c")]);
        assert_eq!(alone, Err(Short::TooFew { need: 2, have: 1, missing }));
        let behind = verdict(&set, "b", &[("b", 5, true), ("c", 6, true)]);
        assert_eq!(behind, Err(Short::Ahead { node: NodeName::from("c"), order: 6, own: 5 }));
        assert_eq!(verdict(&set, "c", &[("b", 5, true), ("c", 6, true)]), Ok(()));
        assert_eq!(verdict(&sync(&["a", "b", "c"], 2), "b", &[("b", 5, true)]), Ok(()));
    }

    #[test]
    fn the_set_of_itself_needs_its_own_answer() {
        assert_eq!(verdict(&sync(&["a"], 0), "a", &[("a", 1, true)]), Ok(()));
        assert_eq!(verdict(&sync(&["a"], 1), "a", &[("a", 1, true)]), Ok(()), "strict");
        assert_eq!(verdict(&sync(&["a"], 0), "a", &[]), Err(Short::NoOwnPosition));
    }

    /// For every set, every number of acknowledgements and every set of nodes that has a commit:
    /// whoever may be promoted has it, or saw someone who has.
    #[test]
    fn whoever_suffices_has_every_acknowledged_commit() {
        let names = ["b", "c", "d", "e"];
        for size in 1..=names.len() {
            for acks in 1..=size {
                let mut members = vec!["a"];
                members.extend(&names[..size]);
                let set = sync(&members, acks as u32);
                for holders in 0_u32..1 << size {
                    if (holders.count_ones() as usize) < acks {
                        continue;
                    }
                    for answering in 0_u32..1 << size {
                        let given: Vec<(&str, u64, bool)> = (0..size)
                            .filter(|i| answering & 1 << i != 0)
                            .map(|i| (names[i], u64::from(holders >> i & 1), true))
                            .collect();
                        for (i, name) in names.iter().enumerate().take(size) {
                            let has = holders & 1 << i != 0;
                            let may = verdict(&set, name, &given).is_ok();
                            assert!(!may || has, "{size} {acks} {holders:b} {answering:b} {i}");
                        }
                    }
                }
            }
        }
    }
}
