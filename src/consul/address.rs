//! Where a Consul agent or server listens: `host:port`, `http://host[:port]` or
//! `https://host[:port]`.
//!
//! Consul's own forms without a scheme are accepted; a Unix socket is refused with a sentence, not
//! later with a strange connection error.

use super::error::SetupError;
use std::fmt;
use std::str::FromStr;

/// Consul's own ports, for an address that names none.
const HTTP_PORT: u16 = 8500;
const HTTPS_PORT: u16 = 8501;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    Http,
    Https,
}

/// A checked address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    scheme: Scheme,
    /// `scheme://host:port`, without a slash at its end.
    base: String,
}

impl Address {
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `scheme://host:port`, to which a path is appended.
    pub fn base(&self) -> &str {
        &self.base
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl FromStr for Address {
    type Err = SetupError;

    fn from_str(text: &str) -> Result<Address, SetupError> {
        let bad = |why: &'static str| SetupError::Address { text: text.to_string(), why };
        if text.starts_with("unix:") {
            return Err(bad("Unix sockets are not supported: give host:port of the agent"));
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Http, text),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(_) => return Err(bad("the scheme must be http or https")),
        };
        let rest = rest.trim_end_matches('/');
        let authority: http::uri::Authority =
            rest.parse().map_err(|_| bad("expected host:port, without a path"))?;
        if authority.host().is_empty() || rest.contains('@') {
            return Err(bad("expected host:port, without user or password"));
        }
        let port = match (authority.port_u16(), scheme) {
            (Some(port), _) => port,
            (None, _) if authority.host() != rest => return Err(bad("the port is no port")),
            (None, Scheme::Http) => HTTP_PORT,
            (None, Scheme::Https) => HTTPS_PORT,
        };
        if port == 0 {
            return Err(bad("the port is 0"));
        }
        let name = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        Ok(Address { scheme, base: format!("{name}://{}:{port}", authority.host()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuls_own_forms_are_understood() {
        let cases = [
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("consul.service", "http://consul.service:8500"),
            ("http://127.0.0.1:8500/", "http://127.0.0.1:8500"),
            ("https://consul", "https://consul:8501"),
            ("https://[::1]:443", "https://[::1]:443"),
        ];
        for (text, base) in cases {
            assert_eq!(text.parse::<Address>().expect(text).base(), base, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_refused_with_its_reason() {
        let cases = [
            ("unix:///run/consul.sock", "Unix sockets"),
            ("ftp://x:1", "scheme"),
            ("127.0.0.1:8500/v1", "without a path"),
            ("u:p@host:1", "without user"),
            ("host:0", "port is 0"),
            ("host:99999", "port"),
            ("host:", "port"),
            ("", "host:port"),
        ];
        for (text, why) in cases {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
