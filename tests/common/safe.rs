//! What makes a test's cluster a secure one: Consul under default-deny and by https with client
//! certificates, a token for each node with the rules of `docs/security.md`, and certificates for
//! the nodes' own port.

use super::certs::{Ca, Leaf};
use super::consul::{self, Consul};
use super::free_port;
use super::node::Node;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// In every node's certificate.
pub const PEER_NAME: &str = "db.lictor";
/// What operators send.
pub const OPERATOR: &str = "operator-secret-7c1f";

pub struct Safe {
    /// Consul's https.
    pub address: String,
    pub ca: Ca,
    /// Consul's own, which the nodes show as clients too.
    pub leaf: Leaf,
    /// One for all nodes' ports.
    pub peer: Leaf,
}

impl Safe {
    pub fn start(options: consul::Options) -> (Consul, Safe) {
        let ca = Ca::new();
        let (leaf, peer) = (ca.leaf(0, "consul"), ca.leaf(1, PEER_NAME));
        let port = free_port();
        let extra = json!({
            "ports": {"https": port},
            "verify_incoming_https": true,
            "ca_file": ca.cert(),
            "cert_file": leaf.cert,
            "key_file": leaf.key,
        });
        let consul = Consul::start(consul::Options { acl: true, extra, ..options });
        let safe = Safe { address: format!("https://localhost:{port}"), ca, leaf, peer };
        (consul, safe)
    }

    /// Writes the node's token and certificates into the cluster's directory.
    pub fn equip(&self, consul: &Consul, node: &Node, dir: &Path) {
        secret(&dir.join("operator"), OPERATOR);
        let token = consul.make_token(&node.name, &rules());
        secret(&token_file(dir, &node.name), &token);
    }

    /// What the node's file says in its table `consul`, and more tables.
    pub fn config(&self, node: &Node, dir: &Path) -> (String, String) {
        let consul = format!(
            "token_file = {:?}\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            token_file(dir, &node.name),
            self.ca.cert(),
            self.leaf.cert,
            self.leaf.key,
        );
        let tls = format!(
            "[tls]\ncert = {:?}\nkey = {:?}\nca = {:?}\n\
             peer_name = \"{PEER_NAME}\"\nplain = true\n",
            self.peer.cert,
            self.peer.key,
            self.ca.cert(),
        );
        (consul, tls)
    }
}

pub fn token_file(dir: &Path, node: &str) -> PathBuf {
    dir.join(format!("{node}.token"))
}

/// As an operator would: a new file, renamed over the old one.
pub fn secret(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, format!("{text}\n")).expect("our directory is writable");
    let only_us = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&beside, only_us).expect("it is ours");
    fs::rename(&beside, path).expect("it is ours");
}

/// The rules in `docs/security.md`, for the cluster and service `demo`: the document itself is
/// tested.
pub fn rules() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let page = fs::read_to_string(page).expect("docs/security.md is there");
    let block = page.split("```hcl\n").nth(1).expect("it has the rules");
    let rules = block.split("```").next().expect("they end");
    rules.replace("<cluster>", "demo").replace("<service>", "demo")
}
