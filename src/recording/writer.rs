//! The file, behind a bounded queue and a thread of its own: the sidecar never waits for it.
//!
//! It ends for good when the disk is too slow or full, or the bound is reached: a recording with a
//! hole could not be replayed. The former one is kept as `FILE.1`, for who restarts a container
//! wants to know why.

use super::format::{Head, Line, told, without_secrets};
use crate::decide::io::{Effect, Input, Now};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

/// Steps that may wait for the disk: some minutes of an idle node.
const WAITING_MOST: usize = 2_048;
/// Where a recording ends: about a day of a cluster of three.
pub const BYTES_MOST: u64 = 256 << 20;

/// How every recording begins.
const BEGIN: &[u8] = br#"{"v":1,"lictor":"#;

/// Where steps are recorded; to be dropped at the first error.
pub struct Recorder {
    lines: SyncSender<Vec<u8>>,
    failed: Receiver<String>,
    bytes: u64,
    most: u64,
}

impl Recorder {
    /// Begins a new file; one that is there becomes `FILE.1`.
    pub fn start(path: &Path, head: &Head) -> io::Result<Recorder> {
        Recorder::bounded(path, head, BYTES_MOST)
    }

    fn bounded(path: &Path, head: &Head, most: u64) -> io::Result<Recorder> {
        put_aside(path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let (lines, waiting) = sync_channel(WAITING_MOST);
        let (tell, failed) = sync_channel(1);
        thread::Builder::new().name("record".into()).spawn(move || {
            if let Err(error) = write(file, &waiting) {
                // Nobody listens when the node has gone.
                drop(tell.try_send(error.to_string()));
            }
        })?;
        let mut recorder = Recorder { lines, failed, bytes: 0, most };
        recorder.put(head).map_err(io::Error::other)?;
        Ok(recorder)
    }

    /// What was said to the core, before it is stepped.
    pub fn heard(&self, input: &Input) -> Input {
        without_secrets(input)
    }

    /// A step, or why recording ends here.
    pub fn step(&mut self, now: Now, input: Input, effects: &[Effect]) -> Result<(), String> {
        let effects = effects.iter().map(told).collect();
        self.put(&Line { now, input, effects })
    }

    fn put(&mut self, line: &impl Serialize) -> Result<(), String> {
        if let Ok(error) = self.failed.try_recv() {
            return Err(error);
        }
        let mut bytes = serde_json::to_vec(line).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        self.bytes += bytes.len() as u64;
        if self.bytes > self.most {
            return Err(format!("it is {} MiB large", self.most >> 20));
        }
        match self.lines.try_send(bytes) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                Err(format!("the disk is slow: {WAITING_MOST} steps wait for it"))
            }
            Err(TrySendError::Disconnected(_)) => {
                Err(self.failed.try_recv().unwrap_or_else(|_| "its writer has gone".to_owned()))
            }
        }
    }
}

/// The former recording; nothing else is moved, for a path may be mistyped.
fn put_aside(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(there) => there.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut begin = Vec::new();
    if kind.is_file() {
        File::open(path)?.take(BEGIN.len() as u64).read_to_end(&mut begin)?;
    }
    if !kind.is_file() || begin != BEGIN {
        let what = "it is there and is no recording: it would be moved away";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let mut former = path.as_os_str().to_owned();
    former.push(".1");
    fs::rename(path, former)
}

/// Each line is in the file before the next one is waited for.
fn write(mut file: File, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    while let Ok(mut bytes) = lines.recv() {
        while let Ok(more) = lines.try_recv() {
            bytes.extend(more);
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}
