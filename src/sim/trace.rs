//! What happened, one line an event, and a hash over all of it: the same seed has the same hash.

use super::fault::Place;

/// FNV-1a.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Clone, Debug)]
pub struct Trace {
    pub hash: u64,
    /// Kept only when somebody wants to read them.
    pub lines: Option<Vec<String>>,
}

impl Trace {
    pub fn new(keep: bool) -> Trace {
        Trace { hash: BASIS, lines: keep.then(Vec::new) }
    }

    pub fn line(&mut self, t: u64, node: Place, what: &str, more: impl FnOnce() -> String) {
        let bytes = t.to_le_bytes().into_iter().chain([u8::try_from(node).unwrap_or(u8::MAX)]);
        for byte in bytes.chain(what.bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        if let Some(lines) = &mut self.lines {
            let (s, ms) = (t / 1_000, t % 1_000);
            lines.push(format!("{s:>5}.{ms:03}  n{node}  {what:<14} {}", more()));
        }
    }
}
