//! The output of a hook: log lines of bounded length and rate, and the last one kept where it is
//! the answer.
//!
//! A hook that writes without end costs a fixed buffer and a counter. Nothing here waits for the
//! hook's end by itself.

#![expect(clippy::disallowed_methods, reason = "a limit of log lines decides nothing")]

use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// A log line is cut here; an answer that is longer counts as none.
pub const LINE_LIMIT: usize = 16 * 1_024;
const READ_SIZE: usize = 4 * 1_024;

/// Lines a second of one stream that are logged; the others are counted. One database start-up
/// writes about 100.
const LINES_A_SECOND: u32 = 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Reads until everybody has closed the pipe; returns the last line that was not empty, if
/// `keep_last`.
pub async fn log(
    hook: &'static str,
    op: u64,
    stream: Stream,
    mut from: pipe::Receiver,
    keep_last: bool,
) -> Option<String> {
    let mut lines = Lines::default();
    let mut budget = Budget::new();
    let mut last = None;
    let mut buffer = [0u8; READ_SIZE];
    let mut emit = |line: Line| {
        let text = String::from_utf8_lossy(&line.bytes);
        if budget.take() {
            let (stream, cut) = (stream.name(), line.cut);
            tracing::info!(event = "hook_output", hook, op, stream, cut, line = %text);
        }
        if keep_last && !text.trim().is_empty() {
            last = (!line.cut).then(|| text.into_owned());
        }
    };
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        lines.take(&buffer[..count], &mut emit);
    }
    lines.end(&mut emit);
    budget.end(hook, op, stream);
    last
}

struct Line {
    bytes: Vec<u8>,
    cut: bool,
}

/// Splits bytes into lines, none longer than [`LINE_LIMIT`].
#[derive(Default)]
struct Lines {
    held: Vec<u8>,
    cut: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], emit: &mut impl FnMut(Line)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                Some(_) | None => (piece, false),
            };
            let room = LINE_LIMIT - self.held.len();
            self.cut |= text.len() > room;
            self.held.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.emit(emit);
            }
        }
    }

    fn end(&mut self, emit: &mut impl FnMut(Line)) {
        if !self.held.is_empty() {
            self.emit(emit);
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(Line)) {
        let bytes = std::mem::take(&mut self.held);
        emit(Line { bytes, cut: std::mem::take(&mut self.cut) });
    }
}

/// How many lines may still be logged in this second.
struct Budget {
    since: Instant,
    left: u32,
    dropped: u64,
}

impl Budget {
    fn new() -> Budget {
        Budget { since: Instant::now(), left: LINES_A_SECOND, dropped: 0 }
    }

    fn take(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.since = Instant::now();
            self.left = LINES_A_SECOND;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.dropped += u64::from(!may);
        may
    }

    fn end(&self, hook: &'static str, op: u64, stream: Stream) {
        if self.dropped > 0 {
            let (stream, dropped) = (stream.name(), self.dropped);
            tracing::warn!(event = "hook_output_dropped", hook, op, stream, dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(usize, bool)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut emit = |line: Line| found.push((line.bytes.len(), line.cut));
        for piece in pieces {
            lines.take(piece, &mut emit);
        }
        lines.end(&mut emit);
        found
    }

    #[test]
    fn lines_are_joined_over_reads_and_cut_at_the_limit() {
        assert_eq!(split(&[b"ab", b"c\n\nd"]), [(3, false), (0, false), (1, false)]);
        let long = vec![b'x'; LINE_LIMIT + 1];
        assert_eq!(split(&[&long, b"y\nz\n"]), [(LINE_LIMIT, true), (1, false)]);
    }
}
