//! Which node makes the backup: a replica that keeps up and is missed least, else the primary.

use crate::decide::time::Span;
use crate::decide::types::NodeName;
use std::cmp::Reverse;

/// A replica this far behind is as good as one that is not: one sample of a lag says no more.
const LAG_OF_NO_MATTER: Span = Span::secs(10);

/// What the leader knows of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub node: NodeName,
    /// Why it can't; its own word, or what the leader sees.
    pub bar: Option<String>,
    pub is_primary: bool,
    /// `None`: it did not say.
    pub lag: Option<Span>,
    /// Among equals the one that is wanted least as a primary goes first.
    pub priority: u32,
    pub no_failover: bool,
}

impl Candidate {
    /// Lower goes first; the name makes the order total.
    fn rank(&self) -> (bool, u64, Reverse<bool>, u32, &NodeName) {
        let lag = match self.lag {
            Some(lag) if lag > LAG_OF_NO_MATTER => lag.0,
            Some(_) => 0,
            None => u64::MAX,
        };
        (self.is_primary, lag, Reverse(self.no_failover), self.priority, &self.node)
    }
}

/// The node, or why none, each by its name.
pub fn choose(candidates: &[Candidate], wanted: Option<&NodeName>) -> Result<NodeName, String> {
    if let Some(node) = wanted {
        let found = candidates.iter().find(|candidate| candidate.node == *node);
        return match found.map(|candidate| &candidate.bar) {
            None => Err(format!("{node} is not a member")),
            Some(Some(bar)) => Err(format!("{node} {bar}")),
            Some(None) => Ok(node.clone()),
        };
    }
    let able = candidates.iter().filter(|candidate| candidate.bar.is_none());
    let best = able.min_by(|a, b| a.rank().cmp(&b.rank()));
    best.map(|candidate| candidate.node.clone()).ok_or_else(|| {
        let bars = candidates.iter().filter_map(|candidate| {
            candidate.bar.as_ref().map(|bar| format!("{} {bar}", candidate.node))
        });
        bars.collect::<Vec<_>>().join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> Candidate {
        Candidate {
            node: name.into(),
            bar: None,
            is_primary: false,
            lag: Some(Span::ZERO),
            priority: 100,
            no_failover: false,
        }
    }

    fn primary(name: &str) -> Candidate {
        Candidate { is_primary: true, ..replica(name) }
    }

    #[test]
    fn the_best_replica_and_else_the_primary() {
        let barred = |of: Candidate| Candidate { bar: Some("is down".into()), ..of };
        let late = |of: Candidate, lag: Option<u64>| Candidate { lag: lag.map(Span::secs), ..of };
        let cases: [(&str, Vec<Candidate>, Result<&str, &str>); 9] = [
            ("a replica before the primary", vec![primary("a"), replica("b")], Ok("b")),
            ("no replica", vec![primary("a")], Ok("a")),
            ("a replica that can't", vec![primary("a"), barred(replica("b"))], Ok("a")),
            (
                "one that is wanted less as a primary",
                vec![replica("a"), Candidate { priority: 50, ..replica("b") }],
                Ok("b"),
            ),
            (
                "one that never becomes primary first of all",
                vec![
                    Candidate { priority: 1, ..replica("a") },
                    Candidate { no_failover: true, ..replica("b") },
                ],
                Ok("b"),
            ),
            (
                "a lag of seconds is none",
                vec![late(Candidate { priority: 50, ..replica("a") }, Some(9)), replica("b")],
                Ok("a"),
            ),
            (
                "one that keeps up before one that does not",
                vec![late(Candidate { priority: 50, ..replica("a") }, Some(60)), replica("b")],
                Ok("b"),
            ),
            (
                "whoever says nothing last of the replicas",
                vec![late(replica("a"), None), late(replica("b"), Some(1_000_000)), primary("c")],
                Ok("b"),
            ),
            (
                "nobody, and why",
                vec![barred(primary("a")), barred(replica("b"))],
                Err("a is down; b is down"),
            ),
        ];
        for (name, candidates, want) in cases {
            let found = choose(&candidates, None);
            assert_eq!(
                found.as_ref().map(NodeName::as_str).map_err(String::as_str),
                want,
                "{name}"
            );
        }
    }

    #[test]
    fn a_node_that_is_named_is_taken_or_refused() {
        let candidates =
            [primary("a"), Candidate { bar: Some("has no backup_dir".into()), ..replica("b") }];
        let named = |name: &str| choose(&candidates, Some(&name.into()));
        assert_eq!(named("a"), Ok("a".into()), "though it is the primary");
        assert_eq!(named("b"), Err("b has no backup_dir".into()));
        assert_eq!(named("c"), Err("c is not a member".into()));
    }
}
