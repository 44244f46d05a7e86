//! Time as the core sees it: integer milliseconds on CLOCK_BOOTTIME.
//!
//! `At` is an instant, `Span` a length. Both are plain numbers so that states can be hashed,
//! compared and shifted.

use super::types::bounded;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// An instant: milliseconds of CLOCK_BOOTTIME (which counts suspend).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct At(pub u64);

/// A length of time in milliseconds.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Span(pub u64);

impl TryFrom<u64> for Span {
    type Error = String;
    fn try_from(number: u64) -> Result<Span, String> {
        bounded(number).map(Span)
    }
}

impl From<Span> for u64 {
    fn from(span: Span) -> u64 {
        span.0
    }
}

impl At {
    /// The length from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: At) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// How long until `later`; zero when it has passed.
    pub fn until(self, later: At) -> Span {
        later.since(self)
    }
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn secs(seconds: u64) -> Span {
        Span(seconds * 1_000)
    }

    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// `self * num / den`, rounded up: a wait is never shorter than the arithmetic says.
    pub const fn scaled_up(self, num: u64, den: u64) -> Span {
        Span((self.0 * num).div_ceil(den))
    }
}

impl Add<Span> for At {
    type Output = At;
    fn add(self, span: Span) -> At {
        At(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for At {
    type Output = At;
    fn sub(self, span: Span) -> At {
        At(self.0.saturating_sub(span.0))
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Span;
    fn sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 1_000 => write!(f, "{ms} ms"),
            ms if ms % 1_000 == 0 => write!(f, "{} s", ms / 1_000),
            ms => write!(f, "{}.{:03} s", ms / 1_000, ms % 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_rounds_up_and_display_keeps_units() {
        assert_eq!(Span(3_000).scaled_up(103, 100), Span(3_090));
        assert_eq!(Span(1).scaled_up(103, 100), Span(2));
        assert_eq!(Span(250).to_string(), "250 ms");
        assert_eq!(Span(3_000).to_string(), "3 s");
        assert_eq!(Span(3_090).to_string(), "3.090 s");
        assert_eq!(At(5).since(At(9)), Span::ZERO);
    }
}
