//! Random bytes from the operating system, for nonces and new identities.
//!
//! The one place that draws random numbers for the network side; the core never does. It goes
//! through the TLS library's generator (`getrandom(2)` underneath), so it works where a container
//! has no `/dev/urandom`.

/// The operating system gave no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandom;

/// `N` random bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut drawn = [0_u8; N];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut drawn).map_err(|_| NoRandom)?;
    Ok(drawn)
}

/// `2 N` lowercase hex digits of `N` random bytes.
pub fn hex<const N: usize>() -> Result<String, NoRandom> {
    Ok(to_hex(&bytes::<N>()?))
}

/// Lowercase hex digits.
pub(super) fn to_hex(raw: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    raw.iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// The bytes of an even number of hex digits; `None` for anything else.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if text.len() % 2 != 0 {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_the_rest() {
        assert_eq!(to_hex(&[0, 15, 0xa5, 255]), "000fa5ff");
        assert_eq!(from_hex("000fa5FF"), Some(vec![0, 15, 0xa5, 255]));
        for bad in ["0", "0g", "é", "+1", " 1"] {
            assert_eq!(from_hex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn draws_differ() {
        assert_ne!(bytes::<16>().expect("random"), bytes::<16>().expect("random"));
        assert_eq!(hex::<8>().expect("random").len(), 16);
    }
}
