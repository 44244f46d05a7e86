//! Single values as people write them: durations with a unit, names, Consul addresses.
//!
//! Each is checked while it is read, so that the error carries the place. A message says what is
//! wrong and what to write.

use crate::decide::time::Span;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest duration a setting may have: 30 days, far from any overflow of `At` arithmetic.
const LONGEST: Span = Span::secs(30 * 24 * 3_600);

/// The longest name: a DNS label.
const NAME_MAX: usize = 63;

/// A duration as written: `"3s"`, `"500ms"`, `"10m"`, `"6h"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Duration(pub Span);

/// A name that becomes part of a key, a DNS label or a file name: `[a-z0-9-]`, 1 to 63.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(pub String);

/// `sync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    Off,
    On,
    Strict,
}

/// What the holder does when its application dies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrash {
    /// Release the lock clean: another node takes over.
    Failover,
    /// Start it again in place, inside the lease.
    Restart,
}

/// What the holder does when Consul does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConsulLoss {
    /// Go on while every other node that could take promises not to.
    Hold,
    /// Fence when the lease runs out.
    Fence,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Reads a duration; the error says what to write.
pub fn parse_duration(text: &str) -> Result<Span, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match if digits == 0 { "none" } else { unit } {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => {
            return Err(format!("{text} has no unit; write \"{text}s\" or \"{text}ms\""));
        }
        _ => {
            return Err(format!(
                "\"{text}\" is no duration; write a whole number and ms, s, m or h, as in \"500ms\""
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .map(Span)
        .filter(|span| *span <= LONGEST)
        .ok_or_else(|| format!("\"{text}\" is not in 0ms to 720h"))
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"3s\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                parse_duration(text).map(Duration).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Duration, E> {
                self.visit_str(&n.to_string())
            }
        }
        from.deserialize_any(Text)
    }
}

/// Checks a name; the error says which characters are allowed.
pub fn check_name(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(allowed) {
        return Err(format!("\"{text}\" is no name; write 1 to 63 of a-z, 0-9 and -"));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        let text = String::deserialize(from)?;
        check_name(&text).map_err(de::Error::custom)?;
        Ok(Name(text))
    }
}

/// Turns `host:port`, `http://host:port` or `https://host:port` into a base URL without a final
/// slash.
pub fn consul_url(text: &str, https: bool) -> Result<String, String> {
    let mend = "write \"host:port\", \"http://host:port\" or \"https://host:port\"";
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some((other, _)) => return Err(format!("scheme \"{other}\" is not supported; {mend}")),
        None => (if https { "https" } else { "http" }, text),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed = authority.parse::<http::uri::Authority>().ok();
    match parsed {
        Some(it)
            if it.port_u16().is_some() && !it.host().is_empty() && !authority.contains('@') =>
        {
            Ok(format!("{scheme}://{authority}"))
        }
        Some(it) if it.port().is_none() => {
            Err(format!("\"{text}\" has no port; write \"{text}:8500\""))
        }
        Some(_) | None => Err(format!("\"{text}\" is no address of Consul; {mend}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("3s", 3_000), ("500ms", 500), ("10m", 600_000), ("6h", 21_600_000)] {
            assert_eq!(parse_duration(text), Ok(Span(ms)), "{text}");
        }
        for (text, hint) in [
            ("3", "write \"3s\""),
            ("", "as in \"500ms\""),
            ("s", "as in \"500ms\""),
            ("1.5s", "whole number"),
            ("-3s", "whole number"),
            ("3 s", "whole number"),
            ("721h", "720h"),
            ("99999999999999999999s", "720h"),
            ("18446744073709551615h", "720h"),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn names() {
        let longest = "a".repeat(63);
        for name in ["a", "db-1", "0", longest.as_str()] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(64);
        for name in ["", "A", "a.b", "a/b", "a_b", "ä", too_long.as_str()] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn consul_addresses() {
        for (text, https, url) in [
            ("127.0.0.1:8500", false, "http://127.0.0.1:8500"),
            ("127.0.0.1:8501", true, "https://127.0.0.1:8501"),
            ("http://consul:8500/", true, "http://consul:8500"),
            ("https://[::1]:8501", false, "https://[::1]:8501"),
        ] {
            assert_eq!(consul_url(text, https).as_deref(), Ok(url));
        }
        for text in
            ["", "consul", "unix:///run/consul.sock", "http://a:1/path", "a:b@c:1", "a:99999"]
        {
            assert!(consul_url(text, false).is_err(), "{text}");
        }
    }
}
