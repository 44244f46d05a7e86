//! Layers: a TOML text, environment variables or flags become one [`Raw`] each, and every error
//! knows its place.

use super::environment::Environment;
use super::error::{ConfigError, Place};
use super::settings::{self, GROUPS, Raw, Scope, Setting};
use super::shape::Kind;
use super::substitute::fill;
use serde::Deserialize;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Facts of the hook contract that are named like settings but are none: lictor's own commands
/// called by a hook.
const HOOK_FACTS: [&str; 1] = ["LICTOR_SYNC_ACKS"];

/// Where a TOML text comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    File(&'a Path, &'a Environment),
    Kv,
}

impl Source<'_> {
    fn place(self, text: &str, at: usize) -> Place {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[start..].chars().count() + 1;
        match self {
            Source::File(path, _) => Place::File { path: path.to_owned(), line, column },
            Source::Kv => Place::Kv { line, column },
        }
    }

    fn error(self, text: &str, at: usize, what: impl Into<String>) -> ConfigError {
        ConfigError::Value { place: self.place(text, at), what: what.into() }
    }
}

/// Reads a file's or KV's text.
pub fn from_toml(text: &str, source: Source<'_>) -> Result<Raw, ConfigError> {
    let read_error = |e: toml::de::Error| {
        let at = e.span().map_or(0, |span| span.start);
        source.error(text, at, e.message().replace('\n', "; "))
    };
    let mut root = DeTable::parse(text).map_err(read_error)?;
    visit(root.get_mut(), "", &mut |name, span, value| {
        check_key(name, source).map_err(|what| source.error(text, span, what))?;
        let Source::File(_, env) = source else { return Ok(()) };
        fill_all(value, env).map_err(|(at, what)| source.error(text, at, what))
    })?;
    let names = spans(root.get_ref());
    Raw::deserialize(toml::Deserializer::from(root)).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        let key = names.iter().find(|(_, span)| span.contains(&at)).map(|(name, _)| name);
        let what = match key {
            Some(key) => format!("{key}: {}", e.message()),
            None => e.message().to_owned(),
        };
        source.error(text, at, what)
    })
}

/// Visits every setting of a parsed text: its dotted name, where its key stands, its value. Groups
/// are entered.
fn visit<'i>(
    table: &mut DeTable<'i>,
    prefix: &str,
    each: &mut impl FnMut(&str, usize, &mut Spanned<DeValue<'i>>) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    for (key, value) in table.iter_mut() {
        let name = format!("{prefix}{}", key.get_ref());
        let is_group = GROUPS.contains(&name.as_str());
        match value.get_mut() {
            DeValue::Table(inner) if is_group => visit(inner, &format!("{name}."), each)?,
            DeValue::Table(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => each(&name, key.span().start, value)?,
        }
    }
    Ok(())
}

/// Where each setting's value stands, for the name in an error.
fn spans(table: &DeTable<'_>) -> Vec<(String, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    for (key, value) in table.iter() {
        match value.get_ref() {
            DeValue::Table(inner) if GROUPS.contains(&key.get_ref().as_ref()) => {
                let inner = spans(inner).into_iter();
                found.extend(inner.map(|(name, span)| (format!("{}.{name}", key.get_ref()), span)));
            }
            DeValue::Table(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => found.push((key.get_ref().to_string(), value.span())),
        }
    }
    found
}

fn check_key(name: &str, source: Source<'_>) -> Result<(), String> {
    if GROUPS.contains(&name) {
        return Err(format!("{name} is a group; write a table: [{name}]"));
    }
    let Some(setting) = settings::all().find(|setting| setting.name == name) else {
        return Err(unknown(name));
    };
    match (source, setting.scope) {
        (Source::File(..), _) | (Source::Kv, Scope::Cluster) => Ok(()),
        (Source::Kv, Scope::Local) => Err(format!(
            "{name} is local: who may write KV must not get a shell in every container; \
             set it in the file, by {} or by --{}",
            setting.variable(),
            setting.flag(),
        )),
    }
}

pub fn unknown(name: &str) -> String {
    match nearest(name, settings::all().map(|setting| setting.name)) {
        Some(near) => format!("unknown setting {name}; did you mean {near}?"),
        None => format!("unknown setting {name}; docs/settings.md lists them all"),
    }
}

/// Fills `${..}` in every string inside a value; the error carries where it stands.
fn fill_all(value: &mut Spanned<DeValue<'_>>, env: &Environment) -> Result<(), (usize, String)> {
    let at = value.span().start;
    match value.get_mut() {
        DeValue::String(text) => {
            *text = fill(text, env).map_err(|what| (at, what))?.into();
            Ok(())
        }
        DeValue::Array(items) => items.iter_mut().try_for_each(|item| fill_all(item, env)),
        DeValue::Table(table) => table.iter_mut().try_for_each(|(_, inner)| fill_all(inner, env)),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            Ok(())
        }
    }
}

/// Consul's own variable for a setting; empty for one that has none.
pub fn consul_variable(name: &str) -> &'static str {
    match name {
        "consul.addresses" => "CONSUL_HTTP_ADDR",
        "consul.token" => "CONSUL_HTTP_TOKEN",
        "consul.token_file" => "CONSUL_HTTP_TOKEN_FILE",
        "consul.ca" => "CONSUL_CACERT",
        "consul.cert" => "CONSUL_CLIENT_CERT",
        "consul.key" => "CONSUL_CLIENT_KEY",
        "consul.ssl" => "CONSUL_HTTP_SSL",
        _ => "",
    }
}

/// Consul's own variables.
pub fn from_consul_variables(env: &Environment) -> Result<Raw, ConfigError> {
    let mut raw = Raw::default();
    let path = |name: &str| env.get(name).map(std::path::PathBuf::from);
    let list = |text: &str| text.split(',').map(|it| it.trim().to_owned()).collect();
    raw.consul.addresses = env.get("CONSUL_HTTP_ADDR").map(list);
    raw.consul.token = env.get("CONSUL_HTTP_TOKEN").map(super::secret::Secret::new);
    raw.consul.token_file = path("CONSUL_HTTP_TOKEN_FILE");
    raw.consul.ca = path("CONSUL_CACERT");
    raw.consul.cert = path("CONSUL_CLIENT_CERT");
    raw.consul.key = path("CONSUL_CLIENT_KEY");
    raw.consul.ssl = match env.get("CONSUL_HTTP_SSL") {
        None => None,
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        Some(other) => {
            let place = Place::Env("CONSUL_HTTP_SSL".to_owned());
            let what = format!("\"{other}\" is neither true nor false");
            return Err(ConfigError::Value { place, what });
        }
    };
    Ok(raw)
}

/// `LICTOR_*`: every scalar setting by one rule. The second value: variables that look like a
/// mistyped setting.
pub fn from_variables(env: &Environment) -> Result<(Raw, Vec<String>), ConfigError> {
    let in_hook = env.get("LICTOR_HOOK").is_some();
    let mut raw = Raw::default();
    for setting in settings::all().filter(|setting| setting.kind.is_scalar()) {
        let variable = setting.variable();
        if in_hook && HOOK_FACTS.contains(&variable.as_str()) {
            continue;
        }
        if let Some(text) = env.get(&variable) {
            raw.cover(one(setting, text, Place::Env(variable.clone()))?);
        }
    }
    // Inside a hook the contract's own facts are there, some named much like settings.
    let warnings = if in_hook { Vec::new() } else { mistyped(env) };
    Ok((raw, warnings))
}

fn mistyped(env: &Environment) -> Vec<String> {
    let scalars = || settings::all().filter(|setting| setting.kind.is_scalar());
    let known: Vec<String> = scalars().map(Setting::variable).collect();
    env.0
        .keys()
        .filter(|name| name.starts_with("LICTOR_") && !known.contains(name))
        .filter_map(|name| {
            let near = nearest(name, known.iter().map(String::as_str))?;
            Some(format!("environment {name} is no setting; did you mean {near}?"))
        })
        .collect()
}

/// Flags: setting name and text.
pub fn from_flags(flags: &[(String, String)]) -> Result<Raw, ConfigError> {
    let mut raw = Raw::default();
    for (name, text) in flags {
        let place = Place::Flag(format!("--{}", name.replace(['.', '_'], "-")));
        let Some(setting) = settings::all().find(|it| it.name == name && it.kind.has_flag()) else {
            return Err(ConfigError::Value { place, what: unknown(name) });
        };
        raw.cover(one(setting, text, place)?);
    }
    Ok(raw)
}

/// One scalar setting from its text.
pub fn one(setting: &Setting, text: &str, place: Place) -> Result<Raw, ConfigError> {
    let fail = |what: String| ConfigError::Value { place: place.clone(), what };
    let value = match setting.kind {
        Kind::Text | Kind::Duration | Kind::Secret => toml::Value::String(text.to_owned()),
        Kind::Number => match text.parse::<i64>() {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => return Err(fail(format!("\"{text}\" is no whole number"))),
        },
        Kind::Switch => match text {
            "true" | "1" => toml::Value::Boolean(true),
            "false" | "0" => toml::Value::Boolean(false),
            other => return Err(fail(format!("\"{other}\" is neither true nor false"))),
        },
        Kind::List | Kind::Table => return Err(fail("only the file can set it".to_owned())),
    };
    let nested = setting.name.rsplit('.').fold(value, |inner, part| {
        toml::Value::Table(toml::Table::from_iter([(part.to_owned(), inner)]))
    });
    Raw::deserialize(nested).map_err(|e| fail(e.message().to_owned()))
}

/// The known name at most two edits away, if there is one.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let substituted = corner + usize::from(from != to);
            corner = row[j + 1];
            row[j + 1] = substituted.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance() {
        for (a, b, want) in [("", "", 0), ("abc", "abc", 0), ("leese", "lease", 1), ("ab", "", 2)] {
            assert_eq!(edits(a, b), want, "{a} {b}");
            assert_eq!(edits(b, a), want, "{b} {a}");
        }
        assert_eq!(nearest("vulume", settings::all().map(|it| it.name)), Some("volume"));
        assert_eq!(nearest("entirely", settings::all().map(|it| it.name)), None);
    }
}
