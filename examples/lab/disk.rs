//! A small file system of a node's own, which can be filled: ext4 in a file, mounted by a loop
//! device.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Enough for the example's data and logs, little enough to fill in a second.
const SIZE_BYTES: u64 = 1 << 30;
const STEP_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes and mounts it at `mount`, which is an empty directory.
    pub fn mount(image: &Path, mount: &Path) -> Result<Disk> {
        File::create(image)?.set_len(SIZE_BYTES)?;
        tool("mkfs.ext4", &["-q", "-m", "0"], &[image])?;
        tool("mount", &["-o", "loop"], &[image, mount])?;
        Ok(Disk { mount: mount.to_owned(), image: image.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Until nothing fits any more.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("the filler")?;
        let mut size = STEP_BYTES;
        let bytes = vec![1; STEP_BYTES];
        while size >= 512 {
            match file.write(&bytes[..size]) {
                Ok(0) => size /= 2,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => bail!("cannot fill the disk: {error}"),
            }
        }
        Ok(())
    }

    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("the filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that ends just now must not keep the directory.
        if let Err(error) = tool("umount", &["-l"], &[&self.mount]) {
            eprintln!("{} stays mounted: {error}", self.mount.display());
        }
        let _ = fs::remove_file(&self.image);
    }
}

fn tool(name: &str, flags: &[&str], paths: &[&Path]) -> Result<()> {
    let mut command = Command::new(name);
    let output = command.args(flags).args(paths).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", told.trim());
    Ok(())
}
