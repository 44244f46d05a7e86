//! The log: `tracing` events as lines on stderr, through a queue that never makes anybody wait.
//!
//! A reader of stderr that stops reading must not stop a renewal. Lines go to a thread of their own
//! through a bounded queue; when it is full they are dropped and counted, and the count is a line
//! as soon as one fits again. Nothing here may be called before the guard is forked: [`start`]
//! makes a thread.

use crate::config::{Log, LogFormat, LogLevel};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Lines that wait for stderr; with [`LINE_MAX`] at most 4 MiB, usually 100 kB.
const QUEUE_LINES: usize = 512;

/// A longer line is cut.
const LINE_MAX: usize = 8 * 1_024;

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that were not written because stderr was full.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Item {
    Line(Vec<u8>),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

/// The running log.
pub struct Telemetry {
    queue: SyncSender<Item>,
}

impl Telemetry {
    /// Waits until what was logged so far is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            // Either way there is nothing left to do: the lines are written or stderr is full.
            let _ = written.recv_timeout(limit);
        }
    }
}

/// Starts the log of this process; a second call in one process is a programmer's error.
pub fn start(log: Log) -> io::Result<Telemetry> {
    let queue = spawn(log.format, io::stderr())?;
    let ansi = io::stderr().is_terminal();
    subscriber(log, Lines { queue: queue.clone() }, ansi).init();
    Ok(Telemetry { queue })
}

fn subscriber(log: Log, lines: Lines, ansi: bool) -> impl Subscriber + Send + Sync {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Libraries tell their warnings only.
    let others = level.min(LevelFilter::WARN);
    let targets = Targets::new().with_target("lictor", level).with_default(others);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(ansi).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets))
}

/// Starts the writing thread, with every signal blocked: signals are the main thread's.
fn spawn(format: LogFormat, out: impl Write + Send + 'static) -> io::Result<SyncSender<Item>> {
    let (queue, items) = sync_channel(QUEUE_LINES);
    let own = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let thread = std::thread::Builder::new().name("log".to_owned());
    let spawned = thread.spawn(move || write_all(format, items, out));
    own.thread_set_mask()?;
    spawned.map(|_| queue)
}

/// Writes until every sender is gone. A line that can't be written is lost: there is nowhere to say
/// so.
fn write_all(format: LogFormat, items: Receiver<Item>, mut out: impl Write) {
    let mut told = 0;
    for item in items {
        match item {
            Item::Line(line) => {
                let _ = out.write_all(&line);
            }
            Item::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
        let lost = dropped();
        if lost > told {
            let _ = out.write_all(loss(format, lost, lost - told).as_bytes());
            told = lost;
        }
    }
}

fn loss(format: LogFormat, total: u64, recent: u64) -> String {
    match format {
        LogFormat::Text => format!("WARN log_lines_dropped total={total} recent={recent}\n"),
        LogFormat::Json => format!(
            "{{\"level\":\"WARN\",\"message\":\"log_lines_dropped\",\"total\":{total},\
             \"recent\":{recent}}}\n"
        ),
    }
}

/// Makes one [`Line`] an event.
struct Lines {
    queue: SyncSender<Item>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { queue: self.queue.clone(), text: Vec::new() }
    }
}

/// One event's bytes, sent when it is complete.
struct Line {
    queue: SyncSender<Item>,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_MAX.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.text.is_empty() {
            return;
        }
        if self.text.last() != Some(&b'\n') {
            self.text.pop();
            self.text.push(b'\n');
        }
        match self.queue.try_send(Item::Line(std::mem::take(&mut self.text))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex};

    /// A stderr whose reader stops until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<Pipe>);

    #[derive(Default)]
    struct Pipe {
        text: Mutex<Option<Vec<u8>>>,
        opened: Condvar,
    }

    impl Gate {
        fn open(&self) {
            *self.0.text.lock().expect("no panic holds it") = Some(Vec::new());
            self.0.opened.notify_all();
        }

        fn text(&self) -> String {
            let text = self.0.text.lock().expect("no panic holds it");
            String::from_utf8(text.clone().unwrap_or_default()).expect("text")
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = self.0.text.lock().expect("no panic holds it");
            let mut text =
                self.0.opened.wait_while(text, |it| it.is_none()).expect("no panic holds it");
            text.get_or_insert_default().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// One test for the queue, for the counter is the process's.
    #[test]
    fn a_full_stderr_drops_and_counts_and_stops_nobody() {
        let gate = Gate::default();
        let queue = spawn(LogFormat::Json, gate.clone()).expect("a thread");
        let telemetry = Telemetry { queue: queue.clone() };
        let lines = Lines { queue };
        for n in 0..QUEUE_LINES * 3 {
            writeln!(lines.make_writer(), "line {n}").expect("never fails");
        }
        telemetry.flush(Duration::from_millis(1));
        let lost = dropped();
        let fit = QUEUE_LINES as u64;
        assert!(
            lost == 2 * fit || lost == 2 * fit - 1,
            "the queue's fill, and one in hand: {lost}"
        );
        gate.open();
        while !gate.text().contains(&format!("line {}\n", QUEUE_LINES - 1)) {
            std::thread::yield_now();
        }
        let long = "x".repeat(2 * LINE_MAX);
        write!(lines.make_writer(), "{long}").expect("never fails");
        telemetry.flush(Duration::from_secs(60));
        let text = gate.text();
        let told = text.lines().nth(1).expect("a second line");
        let told: serde_json::Value = serde_json::from_str(told).expect("JSON");
        assert_eq!((&told["message"], &told["total"]), (&"log_lines_dropped".into(), &lost.into()));
        assert!(text.ends_with("x\n"));
        let longest = text.lines().map(str::len).max();
        assert_eq!(longest, Some(LINE_MAX - 1), "a long line is cut");
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        for (format, want) in [
            (LogFormat::Text, "INFO lictor::telemetry::tests: term_opened epoch=7"),
            (LogFormat::Json, "\"message\":\"term_opened\",\"epoch\":7"),
        ] {
            let gate = Gate::default();
            gate.open();
            let queue = spawn(format, gate.clone()).expect("a thread");
            let log = Log { level: LogLevel::Info, format };
            let subscriber = subscriber(log, Lines { queue: queue.clone() }, false);
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(epoch = 7, "term_opened");
                tracing::debug!("too much");
                tracing::info!(target: "hyper", "not ours");
            });
            Telemetry { queue }.flush(Duration::from_secs(60));
            let text = gate.text();
            assert!(text.contains(want), "{text}");
            assert_eq!(text.lines().filter(|line| !line.contains("dropped")).count(), 1, "{text}");
        }
    }
}
