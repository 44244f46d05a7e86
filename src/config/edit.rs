//! Changes to the text of `state/config`: one setting or several, with every comment kept; and
//! whether a text may be written at all.
//!
//! Everything that writes that key comes through here, the command line and `PATCH /config` alike.
//! Nothing here reads or writes it.

use super::error::ConfigError;
use super::layer;
use super::layers::{Layers, Shared, kv_text};
use super::settings::{self, Scope, Setting};
use super::shape::{Kind, written};
use crate::decide::records::MemberValue;
use crate::decide::time::Span;
use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table};

/// Leases are judged by each member's own limit, not by one here.
const ANY_LEASE: Span = Span(u64::MAX);
/// What a member accepts that does not say: the default of `lease_max`.
const LEASE_MAX: Span = Span::secs(3);

/// Why a text is not to be written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotWritten {
    /// No node could use it.
    #[error(transparent)]
    Bad(#[from] ConfigError),
    /// A member would be left behind.
    #[error("{0}")]
    Strands(String),
}

/// Whether this text may become `state/config` of a cluster with these members.
pub fn may_write(text: &str, members: &[MemberValue]) -> Result<Shared, NotWritten> {
    kv_text(text.as_bytes())?;
    let shared = Layers::bare().shared(Some(text), ANY_LEASE)?;
    let lease = shared.settings.lease;
    for member in members {
        let own = member.config.as_ref().is_some_and(|note| note.own.iter().any(|n| n == "lease"));
        let most = member.lease_max.unwrap_or(LEASE_MAX);
        if lease > most && !own {
            return Err(NotWritten::Strands(format!(
                "lease {} is above lease_max {} of {}; raise lease_max there first, or remove its \
                 record if that node is gone for good",
                written(lease),
                written(most),
                member.node
            )));
        }
    }
    Ok(shared)
}

/// The text with one setting set; `value` as on a command line: lists and tables in TOML.
pub fn set(text: &str, name: &str, value: &str) -> Result<String, ConfigError> {
    let (setting, entry) = find(name)?;
    let item = match entry {
        Some(_) => any_value(value).unwrap_or_else(|| toml_edit::value(value)),
        None => item(setting, name, value)?,
    };
    change(text, setting, entry, Some(item))
}

/// The text without one setting.
pub fn unset(text: &str, name: &str) -> Result<String, ConfigError> {
    let (setting, entry) = find(name)?;
    change(text, setting, entry, None)
}

/// The text with a JSON object merged in: `null` removes, groups are entered, everything else is
/// set (RFC 7396).
pub fn merge(text: &str, patch: &Value) -> Result<String, ConfigError> {
    let Value::Object(fields) = patch else {
        return Err(ConfigError::Check("write a JSON object of settings".to_owned()));
    };
    let mut merged = text.to_owned();
    for (name, value) in fields {
        let group = settings::GROUPS.contains(&name.as_str());
        match value {
            Value::Object(inner) if group => {
                for (key, value) in inner {
                    merged = merge_one(&merged, &format!("{name}.{key}"), value)?;
                }
            }
            _ => merged = merge_one(&merged, name, value)?,
        }
    }
    Ok(merged)
}

fn merge_one(text: &str, name: &str, value: &Value) -> Result<String, ConfigError> {
    let (setting, entry) = find(name)?;
    match (value, setting.kind, entry) {
        (Value::Null, _, _) => change(text, setting, entry, None),
        (Value::Object(rows), Kind::Table, None) => {
            let mut merged = text.to_owned();
            for (key, value) in rows {
                let item = if value.is_null() { None } else { Some(json_item(name, value)?) };
                merged = change(&merged, setting, Some(key), item)?;
            }
            Ok(merged)
        }
        (value, _, _) => change(text, setting, entry, Some(json_item(name, value)?)),
    }
}

/// A setting by its dotted name, or one entry of a table: `priorities.n1`.
fn find(name: &str) -> Result<(&'static Setting, Option<&str>), ConfigError> {
    let found = settings::all().find(|setting| setting.name == name);
    let entry = || {
        let (table, entry) = name.rsplit_once('.')?;
        let is_table = |it: &&Setting| it.name == table && it.kind == Kind::Table;
        Some((settings::all().find(is_table)?, Some(entry)))
    };
    match found.map(|setting| (setting, None)).or_else(entry) {
        Some((setting, _)) if setting.scope == Scope::Local => Err(ConfigError::Check(format!(
            "{name} is local: who may write KV must not get a shell in every container; set it in \
             each node's file, by {} or by --{}",
            setting.variable(),
            setting.flag()
        ))),
        Some(found) => Ok(found),
        None => Err(ConfigError::Check(layer::unknown(name))),
    }
}

fn item(setting: &Setting, name: &str, value: &str) -> Result<Item, ConfigError> {
    let fail = |what: String| ConfigError::Check(format!("{name}: {what}"));
    match setting.kind {
        Kind::Text | Kind::Duration | Kind::Secret => Ok(toml_edit::value(value)),
        Kind::Number => match value.parse::<i64>() {
            Ok(number) => Ok(toml_edit::value(number)),
            Err(_) => Err(fail(format!("\"{value}\" is no whole number"))),
        },
        Kind::Switch => match value {
            "true" | "1" => Ok(toml_edit::value(true)),
            "false" | "0" => Ok(toml_edit::value(false)),
            other => Err(fail(format!("\"{other}\" is neither true nor false"))),
        },
        Kind::List => any_value(value)
            .ok_or_else(|| fail(format!("{value} is no list; write '[\"a\", \"b\"]'"))),
        Kind::Table => any_value(value)
            .ok_or_else(|| fail(format!("{value} is no table; write '{{ a = 1 }}'"))),
    }
}

fn any_value(text: &str) -> Option<Item> {
    text.parse::<toml_edit::Value>().ok().map(Item::Value)
}

fn json_item(name: &str, value: &Value) -> Result<Item, ConfigError> {
    let toml = toml::Value::try_from(value)
        .map_err(|_| ConfigError::Check(format!("{name}: null has no place inside a value")))?;
    any_value(&toml.to_string())
        .ok_or_else(|| ConfigError::Check(format!("{name}: {value} is no value of TOML")))
}

fn change(
    text: &str,
    setting: &Setting,
    entry: Option<&str>,
    item: Option<Item>,
) -> Result<String, ConfigError> {
    // What stands there now may be broken: then it is to be edited as a whole.
    let mut doc: DocumentMut = text.parse().map_err(|_| {
        let broken = Layers::bare().shared(Some(text), ANY_LEASE).err();
        broken.unwrap_or_else(|| ConfigError::Check("state/config is no TOML".to_owned()))
    })?;
    let mut path: Vec<&str> = setting.name.split('.').collect();
    path.extend(entry);
    let last = path.pop().expect("a name has at least one part");
    let mut table: &mut Table = doc.as_table_mut();
    for part in path {
        if item.is_none() && !table.contains_key(part) {
            return Ok(text.to_owned());
        }
        let fresh = || {
            let mut fresh = Table::new();
            fresh.set_implicit(false);
            Item::Table(fresh)
        };
        let inner = table.entry(part).or_insert_with(fresh);
        // `timeouts = { .. }` on one line becomes a table of its own.
        if let Item::Value(toml_edit::Value::InlineTable(inline)) = inner {
            *inner = Item::Table(std::mem::take(inline).into_table());
        }
        table = inner.as_table_mut().ok_or_else(|| {
            ConfigError::Check(format!("state/config: {part} is no table; edit it as a whole"))
        })?;
    }
    match item {
        Some(item) => put(table, last, item),
        None => drop(table.remove(last)),
    }
    Ok(doc.to_string())
}

/// Keeps the comments around a value that is replaced.
fn put(table: &mut Table, key: &str, item: Item) {
    match (table.get_mut(key), item) {
        (Some(Item::Value(old)), Item::Value(mut new)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (_, item) => drop(table.insert(key, item)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::member;
    use super::*;
    use serde_json::json;

    const TEXT: &str =
        "# ours\nlease = \"3s\" # short\n\n# who goes first\n[priorities]\nn1 = 50\n";

    #[test]
    fn one_setting_is_set_or_removed_and_every_comment_stays() {
        for (name, value, want) in [
            ("lease", "2500ms", TEXT.replace("3s", "2500ms")),
            ("priorities.n1", "7", TEXT.replace("50", "7")),
            ("priorities.n2", "9", format!("{TEXT}n2 = 9\n")),
            ("timeouts.sync", "1s", format!("{TEXT}\n[timeouts]\nsync = \"1s\"\n")),
            ("sync_acks", "2", TEXT.replace("# short\n", "# short\nsync_acks = 2\n")),
            (
                "no_failover",
                "[\"n3\"]",
                TEXT.replace("# short\n", "# short\nno_failover = [\"n3\"]\n"),
            ),
        ] {
            assert_eq!(set(TEXT, name, value).as_deref(), Ok(want.as_str()), "{name}");
            may_write(&want, &[]).expect(name);
        }
        assert_eq!(unset(TEXT, "priorities.n1"), Ok(TEXT.replace("n1 = 50\n", "")));
        assert_eq!(unset(TEXT, "timeouts.sync").as_deref(), Ok(TEXT));
        assert_eq!(set("", "sync", "on").as_deref(), Ok("sync = \"on\"\n"));
        let inline = "timeouts = { sync = \"1s\" }\n";
        let text = set(inline, "timeouts.health", "2s").expect("an inline table");
        let shared = may_write(&text, &[]).expect("both").settings;
        assert_eq!(shared.timeouts.sync, Span::secs(1));
        assert_eq!(shared.timeouts.health, Span::secs(2));
    }

    #[test]
    fn what_no_change_can_be_is_told() {
        for (name, value, want) in [
            ("leese", "3s", "unknown setting leese; did you mean lease?"),
            ("command", "[\"sh\"]", "command is local: who may write KV"),
            ("env.X", "1", "env.X is local"),
            ("sync_acks", "two", "sync_acks: \"two\" is no whole number"),
            ("no_failover", "n1", "no_failover: n1 is no list; write"),
        ] {
            let error = set("", name, value).expect_err(name).to_string();
            assert!(error.contains(want), "{name}: {error}");
        }
        let error = set("lease =", "sync", "on").expect_err("broken").to_string();
        assert!(error.starts_with("KV state/config:1:8:"), "{error}");
    }

    #[test]
    fn json_is_merged_as_rfc_7396_says() {
        let patch = json!({
            "lease": "2500ms", "sync_acks": 2, "timeouts": {"sync": "1s", "health": null},
            "priorities": {"n1": null, "n2": 9}, "no_failover": ["n3"],
        });
        let merged = merge(TEXT, &patch).expect("merged");
        let shared = may_write(&merged, &[]).expect("good");
        assert_eq!(shared.settings.lease, Span(2_500));
        assert_eq!(shared.settings.priorities.len(), 1, "{merged}");
        assert!(merged.contains("# ours") && merged.contains("# short"), "{merged}");
        assert_eq!(merge(&merged, &json!({})), Ok(merged.clone()));
        for (patch, want) in [
            (json!([]), "write a JSON object"),
            (json!({"command": ["sh"]}), "command is local"),
            (json!({"consul": {"token": "x"}}), "consul.token is local"),
            (json!({"nothing": 1}), "unknown setting nothing"),
            (json!({"no_failover": [null]}), "no_failover: null has no place"),
        ] {
            let error = merge(TEXT, &patch).expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_lease_that_a_member_does_not_accept_is_refused_by_its_name() {
        let text = "lease = \"10s\"";
        let wide = MemberValue { lease_max: Some(Span::secs(10)), ..member("n1") };
        assert!(may_write(text, std::slice::from_ref(&wide)).is_ok());
        let narrow = MemberValue { lease_max: Some(Span::secs(5)), ..member("n2") };
        let error = may_write(text, &[wide.clone(), narrow]).expect_err("n2").to_string();
        assert!(error.starts_with("lease 10s is above lease_max 5s of n2"), "{error}");
        let error = may_write(text, &[member("n3")]).expect_err("not said").to_string();
        assert!(error.starts_with("lease 10s is above lease_max 3s of n3"), "{error}");
        let mut own = member("n4");
        own.config.get_or_insert_default().own = vec!["lease".to_owned()];
        assert!(may_write(text, &[own]).is_ok(), "it has a lease of its own");
    }
}
