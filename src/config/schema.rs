//! The JSON Schema of a configuration, made from the settings' own table.

use super::settings::{self, Preset, Scope, Setting};
use super::shape::Form;
use serde_json::{Map, Value, json};

/// A name: `config::check_name`.
const NAME: &str = "^[a-z0-9-]{1,63}$";
const DURATION: &str = "^[0-9]+(ms|s|m|h)$";
/// A string of a file that is filled in from the environment may become anything.
const FILLED: &str = r"\$\{.*\}";

/// For a node's file, or with `kv` for the text of `state/config`: cluster scope, nothing filled
/// in.
pub fn schema(kv: bool) -> Value {
    let rows = || settings::all().filter(|it| !kv || it.scope == Scope::Cluster);
    let mut root = Map::new();
    for setting in rows() {
        match setting.name.split_once('.') {
            None => drop(root.insert(setting.name.to_owned(), property(setting, kv))),
            Some((group, key)) => {
                let inner = root.entry(group).or_insert_with(
                    || json!({"type": "object", "additionalProperties": false, "properties": {}}),
                );
                inner["properties"][key] = property(setting, kv);
            }
        }
    }
    let title = if kv { "lictor: state/config in Consul" } else { "lictor: a node's file" };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": false,
        "properties": root,
    })
}

fn property(setting: &Setting, kv: bool) -> Value {
    let mut value = form(setting.form, kv);
    value["description"] = json!(setting.about);
    match setting.preset {
        Preset::Is(text) => value["default"] = preset(setting.form, text),
        Preset::Told(_) => {}
    }
    value
}

fn preset(form: Form, text: &str) -> Value {
    match form {
        Form::UpTo(_) | Form::Switch => text.parse().unwrap_or_else(|_| json!(text)),
        Form::Text
        | Form::Name
        | Form::Ip
        | Form::Socket
        | Form::OneOf(_)
        | Form::Duration
        | Form::Texts
        | Form::Names
        | Form::TextOfText
        | Form::NumberOfName
        | Form::TextOfName => json!(text),
    }
}

/// A string of this pattern, or in a file one that is filled in.
fn pattern(pattern: &str, kv: bool) -> Value {
    if kv {
        return json!({"type": "string", "pattern": pattern});
    }
    json!({"type": "string", "anyOf": [{"pattern": pattern}, {"pattern": FILLED}]})
}

fn form(form: Form, kv: bool) -> Value {
    let names = json!({"pattern": NAME});
    match form {
        Form::Text => json!({"type": "string"}),
        Form::Name => pattern(NAME, kv),
        Form::Ip => pattern("^[0-9a-fA-F.:]+$", kv),
        Form::Socket => pattern(r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5}$", kv),
        Form::OneOf(words) if kv => json!({"type": "string", "enum": words}),
        Form::OneOf(words) => {
            json!({"type": "string", "anyOf": [{"enum": words}, {"pattern": FILLED}]})
        }
        Form::Duration => pattern(DURATION, kv),
        Form::UpTo(most) => json!({"type": "integer", "minimum": 0, "maximum": most}),
        Form::Switch => json!({"type": "boolean"}),
        Form::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Form::Names => json!({"type": "array", "items": pattern(NAME, kv)}),
        Form::TextOfText => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Form::NumberOfName => json!({
            "type": "object", "propertyNames": names,
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
        }),
        Form::TextOfName => json!({
            "type": "object", "propertyNames": names, "additionalProperties": {"type": "string"},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer::{Source, from_toml};
    use super::super::{Environment, all_settings};
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;
    use std::path::Path;

    /// The words of JSON Schema that are used here, and no others.
    fn complaint(schema: &Value, value: &Value, at: &str) -> Option<String> {
        for (word, rule) in schema.as_object().expect("a schema is an object") {
            let when = |bad: bool, what: &str| bad.then(|| format!("{at}: {what}"));
            let wrong = match word.as_str() {
                "$schema" | "title" | "description" | "default" | "properties" => None,
                "type" => when(!is_type(rule, value), "type"),
                "enum" => when(!rule.as_array().expect("words").contains(value), "words"),
                "pattern" => {
                    let pattern = Regex::new(rule.as_str().expect("text")).expect("a pattern");
                    when(value.as_str().is_some_and(|text| !pattern.is_match(text)), "pattern")
                }
                "anyOf" => {
                    let mut choices = rule.as_array().expect("schemas").iter();
                    when(choices.all(|one| complaint(one, value, at).is_some()), "choices")
                }
                "minimum" => when(value.as_i64() < rule.as_i64(), "small"),
                "maximum" => when(value.as_i64() > rule.as_i64(), "large"),
                "items" => value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find_map(|item| complaint(rule, item, at)),
                "propertyNames" => value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .find_map(|(name, _)| complaint(rule, &json!(name), at)),
                "additionalProperties" => {
                    value.as_object().into_iter().flatten().find_map(|(name, inner)| {
                        let below = format!("{at}.{name}");
                        match (schema["properties"].get(name), rule) {
                            (Some(known), _) => complaint(known, inner, &below),
                            (None, Value::Bool(false)) => Some(format!("{below}: unknown")),
                            (None, rule) => complaint(rule, inner, &below),
                        }
                    })
                }
                other => panic!("the validator of this test does not know {other}"),
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    fn is_type(rule: &Value, value: &Value) -> bool {
        match rule.as_str().expect("text") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            other => panic!("no type: {other}"),
        }
    }

    fn says(text: &str, kv: bool) -> Option<String> {
        let value: toml::Value = toml::from_str(text).expect("TOML");
        complaint(&schema(kv), &serde_json::to_value(value).expect("JSON"), "")
    }

    #[test]
    fn the_examples_are_valid() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut seen = 0;
        for path in ["containers/mariadb/lictor.toml", "tests/cli/config.in/good.toml"] {
            let text = std::fs::read_to_string(root.join(path)).expect(path);
            assert_eq!(says(&text, false), None, "{path}");
            seen += 1;
        }
        let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
        for block in readme.split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap_or_default();
            assert_eq!(says(text, false), None, "{text}");
            seen += 1;
        }
        assert!(seen >= 3, "{seen} examples");
    }

    #[test]
    fn every_setting_and_no_other_is_in_it() {
        for setting in all_settings() {
            let place = setting.name.replace('.', "/properties/");
            for (kv, there) in [(false, true), (true, setting.scope == Scope::Cluster)] {
                let pointer = format!("/properties/{place}");
                assert_eq!(schema(kv).pointer(&pointer).is_some(), there, "{}", setting.name);
            }
        }
    }

    /// Value by value: what the schema takes is what the parser takes, but for numbers that only
    /// the checks know.
    #[test]
    fn schema_and_parser_agree() {
        let env = Environment::default();
        let file = Source::File(Path::new("x"), &env);
        for (text, good) in [
            ("lease = \"3s\"", true),
            ("lease = \"3\"", false),
            ("lease = 3", false),
            ("sync = \"on\"", true),
            ("sync = \"maybe\"", false),
            ("sync_acks = -1", false),
            ("app_port = 65535", true),
            ("app_port = 65536", false),
            ("app_port = \"1\"", false),
            ("node = \"N1\"", false),
            ("node = \"n1\"", true),
            ("listen = \"[::]:8008\"", true),
            ("listen = \"8008\"", false),
            ("no_failover = [\"n1\"]", true),
            ("no_failover = [\"N1\"]", false),
            ("no_failover = \"n1\"", false),
            ("[priorities]\nn1 = 5", true),
            ("[priorities]\nN1 = 5", false),
            ("[priorities]\nn1 = \"5\"", false),
            ("[timeouts]\nsync = \"5s\"", true),
            ("[timeouts]\nsink = \"5s\"", false),
            ("nothing = 1", false),
            ("[consul]\nssl = true", true),
            ("[consul]\nssl = \"true\"", false),
            ("[secret_files]\nreplication = \"/x\"", true),
            ("[env]\nX = \"y\"", true),
            ("[env]\nX = 1", false),
        ] {
            assert_eq!(from_toml(text, file).is_ok(), good, "the parser: {text}");
            assert_eq!(says(text, false).is_none(), good, "the schema: {text}");
        }
        assert_eq!(says("node = \"${N}\"", false), None);
        assert!(says("[priorities]\nn1 = 1\n[timeouts]\nsync = \"${N}\"", true).is_some());
        assert!(says("node = \"n1\"", true).is_some(), "local in KV");
    }

    proptest! {
        #[test]
        fn durations_of_the_schema_are_durations(text in "[0-9]{1,4}(ms|s|m|h|d|)") {
            let line = format!("expel_after = \"{text}\"");
            let parsed = from_toml(&line, Source::Kv).is_ok();
            let taken = says(&line, true).is_none();
            // Beyond 30 days only the parser knows.
            prop_assert!(parsed == taken || taken && text.ends_with(['h', 'm']));
        }
    }
}
