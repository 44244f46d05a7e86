//! The directory of backups: what `decide` asks to be done with it, done.
//!
//! ```text
//!   <backup_dir>/<cluster>/<id>/manifest.json    where it is from, and every file's SHA-256
//!                              /data/            what the backup hook wrote
//!   <backup_dir>/<cluster>/.part.<node>.<what>   being made, being removed, or left half-done
//! ```
//!
//! Invariant: a directory that is named by its id is whole and listed; everything else begins with
//! `.part.`, with the name of the one node that may touch it, for the mount may be shared. It must
//! not decide what goes, and must not follow a link.
//!
//! All of it blocks, reads whole backups, and runs on a thread of its own.

mod manifest;
#[cfg(test)]
mod tests;

use crate::decide::backup::{BackupAct, BackupDone, BackupId, Source};
use manifest::{Checked, MANIFEST, check, read_manifest, seal};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

const PART: &str = ".part.";

/// Where this node's backups are, and whose they are.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// `backup_dir`; none: backups can only be read from a path.
    pub root: Option<PathBuf>,
    pub cluster: String,
    pub node: String,
    /// The hooks' user and group.
    pub owner: Option<(u32, u32)>,
}

/// What was attempted with what, and why it failed.
pub(crate) fn failed<'a>(
    what: &'a str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> String + 'a {
    move |error| format!("cannot {what} {}: {error}", path.display())
}

impl Shelf {
    /// Carries out one act.
    pub fn act(&self, act: BackupAct) -> Result<BackupDone, String> {
        match act {
            BackupAct::Begin { id } => self.begin(&id),
            BackupAct::Measure { id } => {
                Ok(BackupDone::Measured(size_of(&self.part(id.as_str())?.join("data"))))
            }
            BackupAct::Seal { origin } => {
                let dir = self.part(origin.id.as_str())?;
                let place = self.place(&origin.id)?;
                let (bytes, files, manifest) = seal(&dir, origin)?;
                let dir = place.to_string_lossy().into_owned();
                Ok(BackupDone::Sealed { bytes, files, manifest, dir })
            }
            BackupAct::Check { source } => self.check(&source),
            BackupAct::Scratch { id } => {
                let dir = self.part(&format!("verify-{id}"))?;
                remove(&dir)?;
                self.make(&dir)?;
                Ok(BackupDone::Dir(dir.to_string_lossy().into_owned()))
            }
            BackupAct::Sweep { listed, but } => self.sweep(&listed, but.as_ref()),
            BackupAct::Delete { id, own } => self.delete(&id, own),
            BackupAct::Find { source } => {
                let dir = self.find(&source)?;
                let (manifest, sum) = read_manifest(&dir)?;
                if let Source::Id { manifest: Some(expected), id } = &source
                    && *expected != sum
                {
                    return Err(format!("{id} in {} is not the one of the catalog", dir.display()));
                }
                let dir = data_of(&dir);
                Ok(BackupDone::Found { dir, origin: manifest.origin })
            }
        }
    }

    fn dir(&self) -> Result<PathBuf, String> {
        let root = self.root.as_ref().ok_or("no backup_dir is set on this node")?;
        Ok(root.join(&self.cluster))
    }

    fn place(&self, id: &BackupId) -> Result<PathBuf, String> {
        Ok(self.dir()?.join(id.as_str()))
    }

    fn part(&self, what: &str) -> Result<PathBuf, String> {
        Ok(self.dir()?.join(format!("{PART}{}.{what}", self.node)))
    }

    /// A new directory for the hooks' user alone: a backup is as secret as the data.
    fn make(&self, dir: &Path) -> Result<(), String> {
        fs::create_dir(dir).map_err(failed("create", dir))?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed("open", dir))?;
        if let Some((uid, gid)) = self.owner {
            chown(dir, Some(uid), Some(gid)).map_err(failed("give away", dir))?;
        }
        Ok(())
    }

    fn begin(&self, id: &BackupId) -> Result<BackupDone, String> {
        let root = self.root.as_ref().ok_or("no backup_dir is set on this node")?;
        // Not made: a mount that is missing must not be taken for an empty disk.
        if !root.is_dir() {
            return Err(format!("backup_dir {} is not there; mount or create it", root.display()));
        }
        let dir = self.dir()?;
        match self.make(&dir) {
            Ok(()) => {}
            Err(_) if dir.is_dir() => {}
            Err(why) => return Err(why),
        }
        let place = self.place(id)?;
        if place.exists() {
            return Err(format!("{} is there already", place.display()));
        }
        let part = self.part(id.as_str())?;
        remove(&part)?;
        self.make(&part)?;
        let data = part.join("data");
        self.make(&data)?;
        Ok(BackupDone::Dir(data.to_string_lossy().into_owned()))
    }

    fn find(&self, source: &Source) -> Result<PathBuf, String> {
        let dir = match source {
            Source::Id { id, .. } => self.place(id)?,
            Source::Path(path) => PathBuf::from(path),
            Source::Latest => self.latest()?,
        };
        match dir.join(MANIFEST).is_file() {
            true => Ok(dir),
            false => Err(format!("there is no backup at {}", dir.display())),
        }
    }

    fn latest(&self) -> Result<PathBuf, String> {
        let dir = self.dir()?;
        let names = names(&dir)?;
        let ids = names.iter().filter_map(|name| BackupId::parse(name));
        let whole = ids.filter(|id| dir.join(id.as_str()).join(MANIFEST).is_file());
        let newest = whole.max().ok_or(format!("there is no backup in {}", dir.display()))?;
        Ok(dir.join(newest.as_str()))
    }

    fn check(&self, source: &Source) -> Result<BackupDone, String> {
        let dir = self.find(source)?;
        let expected = match source {
            Source::Id { manifest, .. } => manifest.as_deref(),
            Source::Latest | Source::Path(_) => None,
        };
        match check(&dir, expected)? {
            Checked::Corrupt(what) => Ok(BackupDone::Corrupt(what)),
            Checked::Whole { origin, bytes, files } => {
                Ok(BackupDone::Whole { dir: data_of(&dir), origin, bytes, files })
            }
        }
    }

    /// Only what this node has left: the others', on a shared mount, are theirs.
    fn sweep(
        &self,
        listed: &BTreeSet<BackupId>,
        but: Option<&BackupId>,
    ) -> Result<BackupDone, String> {
        let dir = self.dir()?;
        if !dir.is_dir() {
            return Ok(BackupDone::Done);
        }
        let own = format!("{PART}{}.", self.node);
        for name in names(&dir)? {
            let Some(what) = name.strip_prefix(&own) else { continue };
            let id = BackupId::parse(what.strip_prefix("verify-").unwrap_or(what));
            if id.is_some() && id.as_ref() == but {
                continue;
            }
            let path = dir.join(&name);
            match id.filter(|id| id.as_str() == what && listed.contains(id)) {
                // It was written to the catalog; only its name is missing.
                Some(id) if path.join(MANIFEST).is_file() => {
                    let place = dir.join(id.as_str());
                    fs::rename(&path, &place).map_err(failed("rename", &path))?;
                }
                Some(_) | None => remove(&path)?,
            }
        }
        sync(&dir)?;
        Ok(BackupDone::Done)
    }

    fn delete(&self, id: &BackupId, own: bool) -> Result<BackupDone, String> {
        let (dir, place) = (self.dir()?, self.place(id)?);
        if !place.exists() {
            // An own one may have gone in a round before, or with its disk.
            return match own {
                true => Ok(BackupDone::Done),
                false => Err(format!("{} is not here", place.display())),
            };
        }
        // First its name: half of a backup must not look like one.
        let part = self.part(&format!("gone-{id}"))?;
        remove(&part)?;
        fs::rename(&place, &part).map_err(failed("rename", &place))?;
        sync(&dir)?;
        remove(&part)?;
        Ok(BackupDone::Done)
    }
}

fn data_of(dir: &Path) -> String {
    dir.join("data").to_string_lossy().into_owned()
}

fn names(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(failed("list", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn remove(dir: &Path) -> Result<(), String> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn sync(path: &Path) -> Result<(), String> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

/// What the files below have so far; those that vanish meanwhile count nothing.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
