//! A certificate for 127.0.0.1, under an authority made for one run.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug)]
pub struct Tls {
    authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    pub fn make(dir: &Path) -> Result<Tls> {
        let path = |name: &str| dir.join(name);
        let (authority, authority_key) = (path("ca.pem"), path("ca.key"));
        let (certificate, key) = (path("cert.pem"), path("cert.key"));
        let (request, names) = (path("cert.csr"), path("names"));
        fs::write(&names, "subjectAltName=IP:127.0.0.1\n")?;
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let made = ["req", "-x509", "-days", "2", "-subj", "/CN=lab authority"];
        openssl(
            &[&made[..], &curve].concat(),
            &[("-keyout", &authority_key), ("-out", &authority)],
        )?;
        let asked = [&["req", "-subj", "/CN=lab"], &curve[..]].concat();
        openssl(&asked, &[("-keyout", &key), ("-out", &request)])?;
        let files = [
            ("-in", &request),
            ("-CA", &authority),
            ("-CAkey", &authority_key),
            ("-extfile", &names),
            ("-out", &certificate),
        ];
        openssl(&["x509", "-req", "-days", "2", "-CAcreateserial"], &files)?;
        Ok(Tls { authority, certificate, key })
    }

    /// For a node's table `[consul]`.
    pub fn settings(&self) -> String {
        format!("ca = \"{}\"\n", self.authority.display())
    }
}

fn openssl(words: &[&str], files: &[(&str, &PathBuf)]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(words);
    for (option, path) in files {
        command.arg(option).arg(path);
    }
    let output = command.stdin(Stdio::null()).output().context("cannot start openssl")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {words:?}: {}", told.trim());
    Ok(())
}
