//! `${NAME}` and `${NAME:-default}` in string values of the file; `$${` is a plain `${`.
//!
//! It happens after the TOML is parsed: a value can't break out of its string. Values from KV are
//! never substituted, or who may write KV could read the environment of every container.

use super::environment::Environment;

/// The value with its variables filled in; the error names the variable and the mend.
pub fn fill(text: &str, env: &Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = &reference[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err(
                "\"${\" is not closed by \"}\"; write \"$${\" for a plain \"${\"".to_owned()
            );
        };
        out.push_str(&value_of(&reference[2..end], env)?);
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(reference: &str, env: &Environment) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("\"${{{reference}}}\" names no environment variable"));
    }
    env.get(name).or(default).map(str::to_owned).ok_or_else(|| {
        format!("environment variable {name} is not set; set it or write \"${{{name}:-default}}\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_defaults_escapes_and_refuses_the_rest() {
        let env = Environment::from([("A", "1"), ("EMPTY", ""), ("NESTED", "${A}")]);
        for (text, want) in [
            ("plain $A {A}", "plain $A {A}"),
            ("${A}", "1"),
            ("<${A}-${A}>", "<1-1>"),
            ("${B:-two}", "two"),
            ("${B:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("$${A}", "${A}"),
            ("${NESTED}", "${A}"),
        ] {
            assert_eq!(fill(text, &env).as_deref(), Ok(want), "{text}");
        }
        for (text, hint) in [
            ("${B}", "B is not set"),
            ("${EMPTY}", "EMPTY is not set"),
            ("${A", "not closed"),
            ("${}", "names no"),
            ("${1A}", "names no"),
            ("${A-B}", "names no"),
        ] {
            let error = fill(text, &env).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
