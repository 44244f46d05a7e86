//! How each type of a setting is written: its kind, what its texts may be, and how a value is
//! shown.

use super::secret::Secret;
use super::values::{Duration, LogFormat, LogLevel, Name, OnConsulLoss, OnCrash, Sync};
use crate::decide::time::Span;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// How it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Duration,
    Number,
    Switch,
    Secret,
    List,
    Table,
}

impl Kind {
    /// Has an environment variable.
    pub fn is_scalar(self) -> bool {
        match self {
            Kind::Text | Kind::Duration | Kind::Number | Kind::Switch | Kind::Secret => true,
            Kind::List | Kind::Table => false,
        }
    }

    /// Has a flag: scalars, but never a secret, for arguments can be seen by every user of the
    /// machine.
    pub fn has_flag(self) -> bool {
        self.is_scalar() && self != Kind::Secret
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Duration => "duration",
            Kind::Number => "number",
            Kind::Switch => "true or false",
            Kind::Secret => "secret",
            Kind::List => "list",
            Kind::Table => "table",
        }
    }
}

/// What may stand there, finer than the kind; for the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Any text.
    Text,
    Name,
    Ip,
    /// `ip:port`.
    Socket,
    OneOf(&'static [&'static str]),
    Duration,
    /// A whole number from 0 to this.
    UpTo(u32),
    Switch,
    Texts,
    Names,
    TextOfText,
    NumberOfName,
    TextOfName,
}

/// A setting's type.
pub trait Shape {
    const KIND: Kind;
    const FORM: Form;

    /// As JSON, written as in a file. A secret says only that it is set.
    fn shown(&self) -> Value;
}

macro_rules! shapes {
    ($($type:ty => $kind:ident, $form:expr, |$it:ident| $shown:expr;)*) => {
        $(impl Shape for $type {
            const KIND: Kind = Kind::$kind;
            const FORM: Form = $form;

            fn shown(&self) -> Value {
                let $it = self;
                $shown
            }
        })*
    };
}

shapes! {
    String => Text, Form::Text, |it| json!(it);
    PathBuf => Text, Form::Text, |it| json!(it);
    IpAddr => Text, Form::Ip, |it| json!(it);
    SocketAddr => Text, Form::Socket, |it| json!(it);
    Name => Text, Form::Name, |it| json!(it.0);
    Sync => Text, Form::OneOf(&["off", "on", "strict"]), |it| json!(it);
    OnCrash => Text, Form::OneOf(&["failover", "restart"]), |it| json!(it);
    OnConsulLoss => Text, Form::OneOf(&["fence"]), |it| json!(it);
    LogLevel => Text, Form::OneOf(&["error", "warn", "info", "debug", "trace"]), |it| json!(it);
    LogFormat => Text, Form::OneOf(&["text", "json"]), |it| json!(it);
    Duration => Duration, Form::Duration, |it| json!(written(it.0));
    u16 => Number, Form::UpTo(u16::MAX as u32), |it| json!(it);
    u32 => Number, Form::UpTo(u32::MAX), |it| json!(it);
    bool => Switch, Form::Switch, |it| json!(it);
    Secret => Secret, Form::Text, |_it| json!("(set)");
    Vec<String> => List, Form::Texts, |it| json!(it);
    Vec<Name> => List, Form::Names, |it| it.iter().map(|name| name.0.as_str()).collect();
    BTreeMap<String, String> => Table, Form::TextOfText, |it| json!(it);
    BTreeMap<Name, u32> => Table, Form::NumberOfName, |it| by_name(it);
    BTreeMap<Name, PathBuf> => Table, Form::TextOfName, |it| by_name(it);
}

fn by_name<T: serde::Serialize>(map: &BTreeMap<Name, T>) -> Value {
    Value::Object(map.iter().map(|(name, value)| (name.0.clone(), json!(value))).collect())
}

/// A duration as in a file, in the largest unit that is exact; seconds up to two minutes.
pub fn written(span: Span) -> String {
    match span.0 {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 && ms >= 120_000 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::parse_duration;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_written_in_the_unit_people_would_choose() {
        for (ms, want) in [
            (0, "0s"),
            (500, "500ms"),
            (3_000, "3s"),
            (60_000, "60s"),
            (90_000, "90s"),
            (600_000, "10m"),
            (21_600_000, "6h"),
            (1_001, "1001ms"),
        ] {
            assert_eq!(written(Span(ms)), want);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(Secret::new("hunter2").shown(), json!("(set)"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0_u64..=2_592_000_000) {
            prop_assert_eq!(parse_duration(&written(Span(ms))), Ok(Span(ms)));
        }
    }
}
