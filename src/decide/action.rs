//! What an operator can ask for: a verb with arguments, read into an [`Action`].
//!
//! The same reading serves the command line, HTTP, and whoever writes `state/requests/<id>` by
//! hand. An unknown verb or a wrong argument is a sentence that names the mend.

use super::backup::BackupId;
use super::time::Span;
use super::types::NodeName;
use std::collections::BTreeMap;

/// A verb's arguments as the record carries them.
pub type Args = BTreeMap<String, String>;

/// The longest node name.
const NAME_MOST: usize = 63;
/// The longest text that a person gives as a reason: one line.
const TEXT_MOST: usize = 200;

/// One thing that an operator asks for. A new verb is a variant here, its reading in
/// [`Action::parse`], its writing in [`Action::args`], and its arm in `life::requests`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// A planned change of the primary; nobody named: the best candidate.
    Switchover {
        to: Option<NodeName>,
    },
    /// The primary is dead or hangs: another one, now.
    Failover(Failover),
    /// Wipes this node's data and clones again.
    Reinit {
        node: NodeName,
    },
    /// This node leaves for good; `force`: even if it is the last that could lead.
    Leave {
        node: NodeName,
        force: bool,
    },
    /// Consul has forgotten the cluster: this node's data is its data.
    Adopt {
        node: NodeName,
        accept_loss: bool,
    },
    /// From now on people act, not lictor.
    Pause {
        reason: Option<String>,
    },
    Resume,
    /// Of backups.
    Backup(Wanted),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Failover {
    /// Nobody named: the best candidate.
    pub to: Option<NodeName>,
    /// Where nobody can take without losing acknowledged writes: all the same.
    pub accept_loss: bool,
    /// Whoever asks knows that the old primary does not run any more.
    pub primary_stopped: bool,
}

/// What is wanted of backups.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Wanted {
    /// A backup now; nobody named: by the best replica.
    Make { node: Option<NodeName> },
    /// A backup is looked at again, by a node that has it.
    Verify { id: BackupId, node: NodeName },
}

/// Every verb, as `Action::parse` reads it.
pub const VERBS: [&str; 9] = [
    "switchover",
    "failover",
    "reinit",
    "leave",
    "adopt",
    "pause",
    "resume",
    "backup",
    "backup-verify",
];

impl Action {
    /// Reads a record's verb and arguments. The error is for the person who asked.
    pub fn parse(verb: &str, args: &Args) -> Result<Action, String> {
        let mut args = Reader { verb, left: args.clone() };
        let action = match verb {
            "switchover" => Action::Switchover { to: args.node("to")? },
            "failover" => Action::Failover(Failover {
                to: args.node("to")?,
                accept_loss: args.flag("accept_loss")?,
                primary_stopped: args.flag("primary_stopped")?,
            }),
            "reinit" => Action::Reinit { node: args.needed_node("node")? },
            "leave" => {
                Action::Leave { node: args.needed_node("node")?, force: args.flag("force")? }
            }
            "adopt" => Action::Adopt {
                node: args.needed_node("node")?,
                accept_loss: args.flag("accept_loss")?,
            },
            "pause" => Action::Pause { reason: args.text("reason")? },
            "resume" => Action::Resume,
            "backup" => Action::Backup(Wanted::Make { node: args.node("node")? }),
            "backup-verify" => {
                let (id, node) = (args.backup("id")?, args.node("node")?);
                let node = node.ok_or("`backup-verify` needs `node`")?;
                Action::Backup(Wanted::Verify { id, node })
            }
            other => {
                return Err(format!(
                    "this version does not know `{other}`; it knows {}",
                    VERBS.join(", ")
                ));
            }
        };
        args.end().map(|()| action)
    }

    pub fn verb(&self) -> &'static str {
        match self {
            Action::Switchover { .. } => "switchover",
            Action::Failover(_) => "failover",
            Action::Reinit { .. } => "reinit",
            Action::Leave { .. } => "leave",
            Action::Adopt { .. } => "adopt",
            Action::Pause { .. } => "pause",
            Action::Resume => "resume",
            Action::Backup(Wanted::Make { .. }) => "backup",
            Action::Backup(Wanted::Verify { .. }) => "backup-verify",
        }
    }

    /// Whether it was asked of one primary: done to the next one it would be a surprise.
    pub fn is_of_one_term(&self) -> bool {
        match self {
            Action::Switchover { .. } => true,
            // Its answer says who took over since.
            Action::Failover(_) => false,
            Action::Reinit { .. }
            | Action::Leave { .. }
            | Action::Adopt { .. }
            | Action::Pause { .. }
            | Action::Resume
            | Action::Backup(_) => false,
        }
    }

    /// How long a request may wait for its first answer.
    pub fn good_for(&self) -> Span {
        match self {
            Action::Switchover { .. } | Action::Pause { .. } | Action::Resume => Span::secs(30),
            Action::Reinit { .. } | Action::Leave { .. } => Span::secs(30),
            Action::Backup(_) => Span::secs(30),
            // The lease may have to be waited out first.
            Action::Failover(_) | Action::Adopt { .. } => Span::secs(60),
        }
    }

    /// After what time whoever asked stops waiting for the end.
    pub fn ends_within(&self) -> Span {
        match self {
            Action::Switchover { .. } | Action::Pause { .. } | Action::Resume => Span::secs(40),
            Action::Failover(_) | Action::Adopt { .. } => Span::secs(120),
            // The clone's own limit is six hours by default.
            Action::Reinit { .. } => Span::secs(8 * 3_600),
            // A handover, and the stop of an application.
            Action::Leave { .. } => Span::secs(300),
            // Its answer says who begins; the end is looked for in `state/backup`.
            Action::Backup(_) => Span::secs(60),
        }
    }

    /// What [`Action::parse`] reads back.
    pub fn args(&self) -> Args {
        let mut args = Args::new();
        match self {
            Action::Switchover { to } => put(&mut args, "to", to.as_ref()),
            Action::Failover(failover) => {
                put(&mut args, "to", failover.to.as_ref());
                set(&mut args, "accept_loss", failover.accept_loss);
                set(&mut args, "primary_stopped", failover.primary_stopped);
            }
            Action::Reinit { node } => put(&mut args, "node", Some(node)),
            Action::Adopt { node, accept_loss } => {
                put(&mut args, "node", Some(node));
                set(&mut args, "accept_loss", *accept_loss);
            }
            Action::Leave { node, force } => {
                put(&mut args, "node", Some(node));
                set(&mut args, "force", *force);
            }
            Action::Pause { reason } => put(&mut args, "reason", reason.as_ref()),
            Action::Resume => {}
            Action::Backup(Wanted::Make { node }) => put(&mut args, "node", node.as_ref()),
            Action::Backup(Wanted::Verify { id, node }) => {
                put(&mut args, "id", Some(id));
                put(&mut args, "node", Some(node));
            }
        }
        args
    }
}

fn put(args: &mut Args, name: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        args.insert(name.to_owned(), value.to_string());
    }
}

fn set(args: &mut Args, name: &str, flag: bool) {
    put(args, name, flag.then_some(&flag));
}

/// Takes the arguments one by one; what is left over is an error.
struct Reader<'a> {
    verb: &'a str,
    left: Args,
}

impl Reader<'_> {
    fn node(&mut self, name: &str) -> Result<Option<NodeName>, String> {
        let Some(text) = self.left.remove(name) else { return Ok(None) };
        let named = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > NAME_MOST || !text.bytes().all(named) {
            let verb = self.verb;
            return Err(format!(
                "`{name}` of `{verb}` is not a node's name: [a-z0-9-], {NAME_MOST} bytes at most"
            ));
        }
        Ok(Some(NodeName::new(&text)))
    }

    fn needed_node(&mut self, name: &str) -> Result<NodeName, String> {
        let node = self.node(name)?;
        node.ok_or_else(|| format!("`{}` needs `{name}`: the node that is meant", self.verb))
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.left.remove(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(format!("`{name}` of `{}` is true or false", self.verb)),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(text) = self.left.remove(name) else { return Ok(None) };
        if text.trim().is_empty() || text.len() > TEXT_MOST || text.chars().any(char::is_control) {
            let verb = self.verb;
            return Err(format!("`{name}` of `{verb}` is not one line of 1 to {TEXT_MOST} bytes"));
        }
        Ok(Some(text))
    }

    fn backup(&mut self, name: &str) -> Result<BackupId, String> {
        let text = self.left.remove(name).unwrap_or_default();
        BackupId::parse(&text).ok_or(format!("`{name}` of `{}` is no backup's id", self.verb))
    }

    fn end(self) -> Result<(), String> {
        match self.left.keys().next() {
            Some(name) => Err(format!("`{}` takes no `{name}`", self.verb)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pairs: &[(&str, &str)]) -> Args {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn an_action_is_read_back_as_it_was_written() {
        let c = || NodeName::new("c");
        let actions = [
            Action::Switchover { to: None },
            Action::Switchover { to: Some(c()) },
            Action::Failover(Failover { to: None, accept_loss: false, primary_stopped: false }),
            Action::Failover(Failover { to: Some(c()), accept_loss: true, primary_stopped: true }),
            Action::Reinit { node: c() },
            Action::Leave { node: c(), force: false },
            Action::Leave { node: c(), force: true },
            Action::Adopt { node: c(), accept_loss: false },
            Action::Adopt { node: c(), accept_loss: true },
            Action::Pause { reason: None },
            Action::Pause { reason: Some("a new disk".into()) },
            Action::Resume,
            Action::Backup(Wanted::Make { node: None }),
            Action::Backup(Wanted::Make { node: Some(c()) }),
            Action::Backup(Wanted::Verify { id: BackupId::new("20261125-031500-7"), node: c() }),
        ];
        for action in actions {
            assert!(VERBS.contains(&action.verb()));
            assert_eq!(Action::parse(action.verb(), &action.args()), Ok(action));
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_mend() {
        let cases = [
            ("dance", args(&[]), "does not know `dance`; it knows switchover, failover, "),
            ("failover", args(&[("accept_loss", "yes")]), "`accept_loss` of `failover` is true or"),
            ("reinit", args(&[]), "`reinit` needs `node`: the node that is meant"),
            ("backup-verify", args(&[("id", "a/b"), ("node", "c")]), "is no backup's id"),
            ("backup-verify", args(&[("id", "a")]), "needs `node`"),
            ("pause", args(&[("reason", " ")]), "`reason` of `pause` is not one line of 1 to 200"),
            ("pause", args(&[("reason", "a\nb")]), "is not one line"),
            ("resume", args(&[("reason", "a")]), "`resume` takes no `reason`"),
            ("switchover", args(&[("too", "c")]), "`switchover` takes no `too`"),
            ("switchover", args(&[("to", "")]), "`to` of `switchover` is not a node's name"),
            ("switchover", args(&[("to", "../x")]), "is not a node's name: [a-z0-9-]"),
            ("switchover", args(&[("to", &"a".repeat(64))]), "63 bytes at most"),
        ];
        for (verb, args, says) in cases {
            let error = Action::parse(verb, &args).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
