//! The manifest: every file of a backup with its size and SHA-256. Its own SHA-256 stands in the
//! catalog, so that neither can be changed unseen.

use super::{failed, sync};
use crate::decide::backup::Origin;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::Path;

pub(super) const MANIFEST: &str = "manifest.json";
/// A file's line has its path and 100 bytes more: some millions of files.
const MANIFEST_MAX: u64 = 1 << 30;
/// Directories in each other; more is a loop.
const DEPTH_MAX: usize = 64;
const READ_SIZE: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    v: u32,
    pub origin: Origin,
    bytes: u64,
    files: Vec<Summed>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Summed {
    /// Below `data`.
    path: String,
    bytes: u64,
    sha256: String,
}

/// What a comparison found.
pub(super) enum Checked {
    Whole {
        origin: Origin,
        bytes: u64,
        files: u64,
    },
    /// The first thing that differs, by name.
    Corrupt(String),
}

/// Makes everything below `data` durable and writes the manifest beside it: bytes, files and the
/// manifest's own sum.
pub(super) fn seal(dir: &Path, origin: Origin) -> Result<(u64, u64, String), String> {
    let data = dir.join("data");
    let mut files = Vec::new();
    for path in paths(&data)? {
        let full = data.join(&path);
        let (bytes, sha256) = sum(&full, true).map_err(failed("read", &full))?;
        files.push(Summed { path, bytes, sha256 });
    }
    if files.is_empty() {
        return Err(format!("the backup hook wrote nothing to {}", data.display()));
    }
    let bytes = files.iter().map(|file| file.bytes).sum();
    let count = files.len() as u64;
    let manifest = Manifest { v: 1, origin, bytes, files };
    let text = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    let path = dir.join(MANIFEST);
    let mut file = File::create(&path).map_err(failed("create", &path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write", &path))?;
    sync(dir)?;
    Ok((bytes, count, hex(&Sha256::digest(&text))))
}

/// The manifest and its sum.
pub(super) fn read_manifest(dir: &Path) -> Result<(Manifest, String), String> {
    let path = dir.join(MANIFEST);
    let size = fs::metadata(&path).map_err(failed("open", &path))?.len();
    if size > MANIFEST_MAX {
        return Err(format!("{} has {size} bytes: it is no manifest", path.display()));
    }
    let text = fs::read(&path).map_err(failed("read", &path))?;
    let manifest = serde_json::from_slice(&text)
        .map_err(|error| format!("{} is no manifest: {error}", path.display()))?;
    Ok((manifest, hex(&Sha256::digest(&text))))
}

/// Compares all there is; `expected` is the manifest's sum as the catalog has it.
pub(super) fn check(dir: &Path, expected: Option<&str>) -> Result<Checked, String> {
    let (manifest, found) = match read_manifest(dir) {
        Ok(read) => read,
        Err(why) => return Ok(Checked::Corrupt(why)),
    };
    if expected.is_some_and(|expected| expected != found) {
        let path = dir.join(MANIFEST);
        return Ok(Checked::Corrupt(format!("{} was changed", path.display())));
    }
    let data = dir.join("data");
    let there = paths(&data)?;
    let listed: BTreeSet<&String> = manifest.files.iter().map(|file| &file.path).collect();
    if let Some(path) = there.iter().find(|path| !listed.contains(path)) {
        return Ok(Checked::Corrupt(format!(
            "{} is not in the manifest",
            data.join(path).display()
        )));
    }
    for file in &manifest.files {
        let full = data.join(&file.path);
        let name = full.display();
        match sum(&full, false) {
            Err(error) => return Ok(Checked::Corrupt(format!("cannot read {name}: {error}"))),
            Ok((bytes, _)) if bytes != file.bytes => {
                let text = format!("{name} has {bytes} bytes instead of {}", file.bytes);
                return Ok(Checked::Corrupt(text));
            }
            Ok((_, sha256)) if sha256 != file.sha256 => {
                return Ok(Checked::Corrupt(format!("{name} was changed: its SHA-256 differs")));
            }
            Ok(_) => {}
        }
    }
    let files = manifest.files.len() as u64;
    Ok(Checked::Whole { origin: manifest.origin, bytes: manifest.bytes, files })
}

/// Every file below, by its path, sorted. Only directories and plain files have a place in a
/// backup.
fn paths(data: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    walk(data, "", 0, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(dir: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{} is too deep", dir.display()));
    }
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let path = entry.path();
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| format!("{}: its name is not UTF-8", path.display()))?;
        let kind = entry.file_type().map_err(failed("look at", &path))?;
        let inner = format!("{prefix}{name}");
        if kind.is_dir() {
            walk(&path, &format!("{inner}/"), depth + 1, found)?;
        } else if kind.is_file() {
            found.push(inner);
        } else {
            return Err(format!("{} is neither a file nor a directory", path.display()));
        }
    }
    sync(dir)
}

fn sum(path: &Path, durably: bool) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_SIZE];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    if durably {
        file.sync_all()?;
    }
    Ok((bytes, hex(&hash.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
