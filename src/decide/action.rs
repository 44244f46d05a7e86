//! What an operator can ask for: a verb with arguments, read into an [`Action`].
//!
//! The same reading serves the command line, HTTP, and whoever writes `state/requests/<id>` by
//! hand. An unknown verb or a wrong argument is a sentence that names the mend.

use super::types::NodeName;
use std::collections::BTreeMap;

/// A verb's arguments as the record carries them.
pub type Args = BTreeMap<String, String>;

/// The longest node name.
const NAME_MOST: usize = 63;

/// One thing that an operator asks for. A new verb is a variant here, its reading in
/// [`Action::parse`], its writing in [`Action::args`], and its arm in `life::requests`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// A planned change of the primary; nobody named: the best candidate.
    Switchover { to: Option<NodeName> },
}

/// Every verb, as `Action::parse` reads it.
pub const VERBS: [&str; 1] = ["switchover"];

impl Action {
    /// Reads a record's verb and arguments. The error is for the person who asked.
    pub fn parse(verb: &str, args: &Args) -> Result<Action, String> {
        let mut args = Reader { verb, left: args.clone() };
        let action = match verb {
            "switchover" => Action::Switchover { to: args.node("to")? },
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
        }
    }

    /// What [`Action::parse`] reads back.
    pub fn args(&self) -> Args {
        let mut args = Args::new();
        match self {
            Action::Switchover { to } => put(&mut args, "to", to.as_ref()),
        }
        args
    }
}

fn put(args: &mut Args, name: &str, node: Option<&NodeName>) {
    if let Some(node) = node {
        args.insert(name.to_owned(), node.to_string());
    }
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
        let actions = [Action::Switchover { to: None }, Action::Switchover { to: Some(c()) }];
        for action in actions {
            assert!(VERBS.contains(&action.verb()));
            assert_eq!(Action::parse(action.verb(), &action.args()), Ok(action));
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_mend() {
        let cases = [
            ("dance", args(&[]), "does not know `dance`; it knows switchover"),
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
