//! The parts of a request's text: path and query, percent signs, numbers, Go's durations.

use super::super::Fault;
use crate::decide::time::Span;
use std::collections::BTreeMap;

pub(super) type Flags = BTreeMap<String, String>;

/// Path and query, decoded; `None`: its percent signs are none.
pub(super) fn split(target: &str) -> Option<(String, Flags)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let flags = query.split('&').filter(|part| !part.is_empty()).filter_map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        // As Go reads a query: a plus is a blank, and what can't be read was not said.
        let text = |text: &str| decoded(&text.replace('+', " "));
        Some((text(name)?, text(value)?))
    });
    Some((decoded(path)?, flags.collect()))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let two = tail.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()?);
        rest = &tail[2..];
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn number(flags: &Flags, name: &str) -> Result<Option<u64>, Fault> {
    let Some(text) = flags.get(name) else { return Ok(None) };
    let bad = || Fault::new(500, format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
    text.parse().map(Some).map_err(|_| bad())
}

/// Go's: `15s`, `1500ms`, `1.5m`, `1h0m0s`. Parts of a millisecond are rounded up: what is not 0
/// stays so.
pub(super) fn duration(text: &str) -> Result<Span, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (mut rest, mut total) = (text, 0.0_f64);
    if rest == "0" {
        return Ok(Span::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let digits = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let count: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest.find(is_number).unwrap_or(rest.len());
        total += count
            * match &rest[..end] {
                "ns" => 1e-6,
                "us" | "µs" => 1e-3,
                "ms" => 1.0,
                "s" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "" => return Err(format!("time: missing unit in duration {text:?}")),
                unit => {
                    return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
                }
            };
        rest = &rest[end..];
    }
    // Go counts nanoseconds in 63 bits.
    match total < 9.2e12 {
        true => Ok(Span(total.ceil() as u64)),
        false => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let cases = [
            ("15s", Ok(15_000)),
            ("1500ms", Ok(1_500)),
            ("1m30s", Ok(90_000)),
            ("1h0m0s", Ok(3_600_000)),
            ("1.5s", Ok(1_500)),
            ("10us", Ok(1)),
            ("0s", Ok(0)),
            ("0", Ok(0)),
            ("15", Err("missing unit")),
            ("", Err("invalid")),
            ("s", Err("invalid")),
            ("5 s", Err("unknown unit")),
            ("9999999h", Err("invalid")),
        ];
        for (text, want) in cases {
            match (duration(text), want) {
                (Ok(span), Ok(ms)) => assert_eq!(span.0, ms, "{text}"),
                (Err(told), Err(part)) => assert!(told.contains(part), "{text}: {told}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn percent_signs_and_pluses() {
        let (path, flags) = split("/v1/kv/a%20b%2Fc+d?x=1+2&raw&y=%zz").expect("good");
        assert_eq!(path, "/v1/kv/a b/c+d");
        let told: Vec<_> = flags.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(told, [("raw", ""), ("x", "1 2")]);
        assert_eq!(split("/v1/kv/%zz"), None);
        assert_eq!(split("/v1/kv/%+1"), None);
    }
}
