//! Certificates for a test, made by the Consul binary: a CA of its own, and leaves that serve as
//! server and client alike.

use super::{consul, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A CA in a directory of its own.
pub struct Ca {
    dir: tempfile::TempDir,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Ca {
    pub fn new() -> Ca {
        let ca = Ca { dir: scratch("ca") };
        ca.make(&["ca", "create"]);
        ca
    }

    pub fn cert(&self) -> PathBuf {
        self.dir.path().join("consul-agent-ca.pem")
    }

    /// The `n`th leaf, counted from 0 in the order they are made; for `localhost` and 127.0.0.1
    /// beside this name.
    pub fn leaf(&self, n: usize, name: &str) -> Leaf {
        self.make(&["cert", "create", "-server", &format!("-additional-dnsname={name}")]);
        let file = |end: &str| self.dir.path().join(format!("dc1-server-consul-{n}{end}.pem"));
        Leaf { cert: file(""), key: file("-key") }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn make(&self, arguments: &[&str]) {
        let mut command = Command::new(consul::binary());
        let output = command.arg("tls").args(arguments).current_dir(self.dir.path()).output();
        let output = output.expect("consul runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
