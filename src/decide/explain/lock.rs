//! Who holds the lock, until when, and what would end that.

use super::super::time::Span;
use super::super::types::{Epoch, NodeName};
use super::{Facts, Promised, Told, join};
use serde::Serialize;

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lock {
    /// Whom the lock's value names.
    pub holder: Option<NodeName>,
    pub epoch: Option<Epoch>,
    /// How long its lease is proved from now on, in milliseconds; it alone knows.
    pub left_ms: Option<Span>,
    /// `renewals` of the lock in Consul, or `promises` of the other members while Consul is silent.
    pub source: Option<String>,
    /// One sentence.
    pub text: String,
    /// What would end it, or bring a leader.
    pub flip: String,
    /// What the others wait for.
    pub others: Vec<Waits>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Waits {
    pub node: NodeName,
    #[serde(flatten)]
    pub told: Told,
}

pub fn lock(facts: &Facts) -> Lock {
    let acting = facts.acting();
    let others = facts
        .seats
        .iter()
        .filter(|seat| acting.is_none_or(|acting| acting.node != seat.node))
        .map(|seat| Waits {
            node: seat.node.clone(),
            told: match &seat.said {
                Ok(said) => said.waits_for.clone(),
                Err(why) => Told { code: "silent".to_owned(), text: why.clone(), flip: None },
            },
        })
        .collect();
    let known = facts.leader.as_ref();
    let mut lock = Lock {
        holder: facts.holder().map(|leader| leader.node.clone()),
        epoch: known.map(|leader| leader.epoch),
        left_ms: None,
        source: None,
        text: String::new(),
        flip: String::new(),
        others,
    };
    if let Some((seat, said)) = acting.and_then(|seat| Some((seat, seat.said()?))) {
        let leads = &said.leadership;
        lock.holder = Some(seat.node.clone());
        lock.epoch = leads.epoch.or(lock.epoch);
        lock.left_ms = leads.lease_left_ms;
        lock.source.clone_from(&leads.lease_source);
        let left = leads.lease_left_ms.unwrap_or_default();
        let epoch = lock.epoch.unwrap_or_default();
        let by_promises = leads.lease_source.as_deref() == Some("promises");
        (lock.text, lock.flip) = if by_promises {
            held_by_promises(&seat.node, epoch, left, &leads.promises)
        } else {
            let text = format!(
                "{} leads under epoch {epoch}; its lease is proved for {left} more, by renewals",
                seat.node
            );
            (text, "no renewal that Consul confirms until then".to_owned())
        };
        return lock;
    }
    (lock.text, lock.flip) = nobody_acts(facts);
    lock
}

fn held_by_promises(
    node: &NodeName,
    epoch: Epoch,
    left: Span,
    promises: &[Promised],
) -> (String, String) {
    let given: Vec<&NodeName> =
        promises.iter().filter(|it| it.refusal.is_none()).map(|it| &it.node).collect();
    let text = format!(
        "{node} leads under epoch {epoch} for {left} more: Consul is silent, and {} promised to \
         take nothing",
        join(given)
    );
    let refused: Vec<String> = promises
        .iter()
        .filter_map(|it| Some(format!("{}: {}", it.node, it.refusal.as_ref()?)))
        .collect();
    let flip = if refused.is_empty() {
        "Consul's answer, or the silence of one of them until then".to_owned()
    } else {
        format!("a promise that is refused now ({})", refused.join("; "))
    };
    (text, flip)
}

/// The holder is silent or has a term that is over; or the lock is free.
fn nobody_acts(facts: &Facts) -> (String, String) {
    let Some(leader) = &facts.leader else {
        let text = "nobody leads, and nobody has held the lock yet".to_owned();
        return (text, "a node that may create the cluster".to_owned());
    };
    let (node, epoch) = (&leader.node, leader.epoch);
    match (facts.holder(), facts.seat(node).map(|seat| &seat.said)) {
        (Some(_), Some(Ok(said))) => (
            format!("{node} holds the lock, epoch {epoch}, and does not act: it is {}", said.state),
            said.waits_for.flip.clone().unwrap_or_else(|| "its release".to_owned()),
        ),
        (Some(_), Some(Err(_)) | None) => (
            format!(
                "{node} holds the lock, epoch {epoch}, by what was last read, and did not answer \
                 here: whether it leads is not known"
            ),
            format!(
                "an answer of {node}, or {} without a renewal",
                leader.lease_ms.scaled_up(103, 100)
            ),
        ),
        (None, _) => {
            let to = leader.to.as_ref().map(|to| format!(", for {to}")).unwrap_or_default();
            let text = format!("nobody leads; {node} led last, epoch {epoch}{to}");
            (text, "a candidate that nothing bars (see the nodes)".to_owned())
        }
    }
}
