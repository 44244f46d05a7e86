//! The one mount: the application's data in `app`, ours in `.lictor`.
//!
//! Ours: cluster id, disk id, epoch floor, the lock against a second process, the marker of a
//! bootstrap under way, whom the data last followed, the last good `state/config`, and the
//! directories hooks work in. Everything here is durable when its function returns: written beside,
//! synced, renamed, and the directory synced.

use crate::config::Config;
use crate::decide::records::{Follows, decode, encode};
use crate::decide::types::{ClusterId, DiskId, Epoch};
use crate::http::nonce;
use crate::process::user;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Why the volume can't be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "volume {0} is in use by another lictor; stop that one, or give this node a volume of its \
         own"
    )]
    InUse(PathBuf),
    #[error(
        "{app} and {own} are on two file systems; mount one volume over both, so that data and \
         what is known of it can't be parted"
    )]
    TwoFileSystems { app: PathBuf, own: PathBuf },
    #[error("{0} holds no number; restore the file or empty the volume")]
    BadFloor(PathBuf),
    #[error("{which} {name:?} is not known here: {source}")]
    NoUser { which: &'static str, name: String, source: io::Error },
    #[error("no random bytes for the disk's id")]
    NoRandom,
    #[error(
        "volume {path} belongs to cluster `{theirs}`, this node is configured for `{ours}`; mount \
         the right volume or correct `cluster`"
    )]
    OtherCluster { path: PathBuf, theirs: String, ours: String },
}

/// An open volume; the lock lasts as long as it does, and its guard's copy after it.
#[derive(Debug)]
pub struct Volume {
    pub app: PathBuf,
    pub own: PathBuf,
    pub disk: DiskId,
    pub floor: Epoch,
    pub cluster: Option<ClusterId>,
    pub data: bool,
    pub marker: bool,
    /// The term whose primary this data last followed.
    pub follows: Option<Follows>,
    hook_owner: Owner,
    /// The last good `state/config`.
    pub config: Option<String>,
    _lock: Flock<File>,
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> VolumeError + 'a {
    move |source| VolumeError::Io { what, path: path.to_owned(), source }
}

impl Volume {
    pub fn state_dir(&self) -> PathBuf {
        self.own.join("state")
    }

    pub fn secrets_dir(&self) -> PathBuf {
        self.own.join("secrets")
    }

    /// Opens the volume, makes what is missing and reads what it says. Called before the fork.
    pub fn open(config: &Config) -> Result<Volume, VolumeError> {
        let root = &config.local.volume;
        let (app, own) = (root.join("app"), root.join(".lictor"));
        for dir in [root, &app, &own] {
            fs::create_dir_all(dir).map_err(io("create", dir))?;
        }
        fs::set_permissions(&own, fs::Permissions::from_mode(0o711)).map_err(io("open", &own))?;
        one_file_system(&app, &own)?;
        let lock = lock(&own.join("lock"), root)?;
        let hook_owner = owner("hook_user", config.local.hook_user.as_deref())?;
        let app_owner = owner("app_user", config.local.app_user.as_deref())?.or(hook_owner);
        give(&app, app_owner)?;
        for name in ["state", "secrets"] {
            let dir = own.join(name);
            fs::create_dir_all(&dir).map_err(io("create", &dir))?;
            let mode = fs::Permissions::from_mode(if name == "state" { 0o755 } else { 0o500 });
            fs::set_permissions(&dir, mode).map_err(io("open", &dir))?;
            give(&dir, hook_owner)?;
        }
        let name = config.local.cluster.as_ref().map(|name| name.as_str()).unwrap_or_default();
        belongs(&own.join("name"), name, root)?;
        copy_secrets(config, &own.join("secrets"), hook_owner)?;
        let floor = read_floor(&own.join("floor"))?;
        let cluster = read_line(&own.join("cluster"))?.map(|id| ClusterId::new(&id));
        let disk = disk_id(&own)?;
        let data = !is_empty(&app)?;
        let marker = own.join("bootstrapping").exists();
        // Unreadable is as good as absent: the node is no candidate until it follows again.
        let follows = read_line(&own.join("follows"))?.and_then(|text| decode(text.as_bytes()));
        let follows = follows.filter(|_| data && !marker);
        // One that can't be read is one that was not kept.
        let config = fs::read_to_string(own.join("config")).ok();
        Ok(Volume {
            app,
            own,
            disk,
            floor,
            cluster,
            data,
            marker,
            follows,
            hook_owner,
            config,
            _lock: lock,
        })
    }

    pub fn write_floor(&self, epoch: Epoch) -> Result<(), VolumeError> {
        write_durably(&self.own, "floor", &epoch.to_string())
    }

    pub fn write_cluster(&self, id: &ClusterId) -> Result<(), VolumeError> {
        write_durably(&self.own, "cluster", id.as_str())
    }

    pub fn write_follows(&self, follows: &Follows) -> Result<(), VolumeError> {
        write_durably(&self.own, "follows", &String::from_utf8_lossy(&encode(follows)))
    }

    /// Replaces one of the hooks' secrets: a hook reads the old one or the new one, never a part.
    pub fn write_secret(&self, name: &str, bytes: &[u8]) -> Result<(), VolumeError> {
        write_secret(&self.secrets_dir(), name, bytes, self.hook_owner)
    }

    /// Keeps the cluster's configuration for a start that finds a bad one; `None`: there is none.
    pub fn write_config(&self, text: Option<&str>) -> Result<(), VolumeError> {
        match text {
            Some(text) => write_durably(&self.own, "config", text.trim_end_matches('\n')),
            None => remove(&self.own.join("config")).and_then(|()| sync_dir(&self.own)),
        }
    }

    /// Also forgets the cluster's id: beside a marker an id says that the hook has succeeded; and
    /// what the data followed, for it will be other data.
    pub fn write_marker(&self) -> Result<(), VolumeError> {
        write_durably(&self.own, "bootstrapping", "1")?;
        remove(&self.own.join("follows"))?;
        remove(&self.own.join("cluster"))?;
        sync_dir(&self.own)
    }

    pub fn remove_marker(&self) -> Result<(), VolumeError> {
        remove(&self.own.join("bootstrapping"))?;
        sync_dir(&self.own)
    }

    /// Empties the application's directory; the marker goes last, so that an interrupted wipe is
    /// done again.
    pub fn wipe(&self) -> Result<(), VolumeError> {
        let entries = fs::read_dir(&self.app).map_err(io("list", &self.app))?;
        for entry in entries {
            let path = entry.map_err(io("list", &self.app))?.path();
            let kind = fs::symlink_metadata(&path).map_err(io("look at", &path))?;
            let gone =
                if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(io("remove", &path))?;
        }
        sync_dir(&self.app)?;
        let state = self.state_dir();
        for entry in fs::read_dir(&state).map_err(io("list", &state))?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                remove(&entry.path())?;
            }
        }
        remove(&self.own.join("cluster"))?;
        self.remove_marker()
    }
}

fn one_file_system(app: &Path, own: &Path) -> Result<(), VolumeError> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).map_err(io("open", path));
    if device(app)? == device(own)? {
        return Ok(());
    }
    Err(VolumeError::TwoFileSystems { app: app.to_owned(), own: own.to_owned() })
}

fn lock(path: &Path, root: &Path) -> Result<Flock<File>, VolumeError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(io("open", path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| VolumeError::InUse(root.to_owned()))
}

type Owner = Option<(u32, u32)>;

fn owner(which: &'static str, name: Option<&str>) -> Result<Owner, VolumeError> {
    let Some(name) = name else { return Ok(None) };
    let found = user::find(name).map_err(|source| VolumeError::NoUser {
        which,
        name: name.to_owned(),
        source,
    })?;
    Ok(Some((found.uid, found.gid)))
}

fn give(path: &Path, owner: Owner) -> Result<(), VolumeError> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).map_err(io("give away", path))
}

/// A volume remembers the name of its cluster; the id is compared with Consul's later.
fn belongs(path: &Path, ours: &str, root: &Path) -> Result<(), VolumeError> {
    match read_line(path)? {
        Some(theirs) if theirs != ours => {
            Err(VolumeError::OtherCluster { path: root.to_owned(), theirs, ours: ours.to_owned() })
        }
        Some(_) => Ok(()),
        None => {
            let dir = path.parent().unwrap_or(root);
            write_durably(dir, "name", ours)
        }
    }
}

fn copy_secrets(config: &Config, dir: &Path, owner: Owner) -> Result<(), VolumeError> {
    for entry in fs::read_dir(dir).map_err(io("list", dir))?.flatten() {
        remove(&entry.path())?;
    }
    for (name, source) in &config.local.secret_files {
        let bytes = fs::read(source).map_err(io("read secret file", source))?;
        write_secret(dir, name, &bytes, owner)?;
    }
    Ok(())
}

fn write_secret(dir: &Path, name: &str, bytes: &[u8], owner: Owner) -> Result<(), VolumeError> {
    // Names of secrets have no dot.
    let (beside, path) = (dir.join(format!("{name}.new")), dir.join(name));
    remove(&beside)?;
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o400)
        .open(&beside)
        .map_err(io("write", &beside))?;
    file.write_all(bytes).map_err(io("write", &beside))?;
    give(&beside, owner)?;
    fs::rename(&beside, &path).map_err(io("write", &path))
}

fn is_empty(dir: &Path) -> Result<bool, VolumeError> {
    let mut entries = fs::read_dir(dir).map_err(io("list", dir))?;
    // What mkfs leaves on a fresh file system is not data.
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

fn read_line(path: &Path) -> Result<Option<String>, VolumeError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

fn read_floor(path: &Path) -> Result<Epoch, VolumeError> {
    match read_line(path)? {
        None => Ok(Epoch::NONE),
        Some(text) => {
            let number = text.parse::<u64>().map_err(|error| error.to_string());
            let floor = number.and_then(Epoch::try_from);
            floor.map_err(|_| VolumeError::BadFloor(path.to_owned()))
        }
    }
}

fn disk_id(own: &Path) -> Result<DiskId, VolumeError> {
    if let Some(id) = read_line(&own.join("disk"))? {
        return Ok(DiskId::new(&id));
    }
    let id = nonce::hex::<8>().map_err(|_| VolumeError::NoRandom)?;
    write_durably(own, "disk", &id)?;
    Ok(DiskId::new(&id))
}

fn write_durably(dir: &Path, name: &str, text: &str) -> Result<(), VolumeError> {
    let (beside, path) = (dir.join(format!("{name}.new")), dir.join(name));
    let mut file = File::create(&beside).map_err(io("write", &beside))?;
    writeln!(file, "{text}").map_err(io("write", &beside))?;
    file.sync_all().map_err(io("sync", &beside))?;
    fs::rename(&beside, &path).map_err(io("write", &path))?;
    sync_dir(dir)
}

fn remove(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), VolumeError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))
}
