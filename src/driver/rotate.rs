//! Files that may change under a running node: tokens, secrets and certificates.
//!
//! Each is read every [`ROUND`], and at once when Consul has refused the token; what has changed is
//! taken into use without a restart. A file that can't be read, or a token that Consul refuses,
//! changes nothing: what was in use stays, which is told once for each content. Must not: keep what
//! a file holds (digests tell changes), or hold up the loop: files are read in the pool.

use super::volume::Volume;
use crate::config::{self, Config};
use crate::consul::{ConsulStore, Secret as ConsulSecret, Tls};
use crate::decide::call::StoreError;
use crate::decide::io::{Input, Renewed};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::http;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// A file replaced is in use after this, and what Consul's answer is worth.
const ROUND: Span = Span::secs(5);
/// Between two rounds that refusals ask for.
const SOONEST: Span = Span(500);
/// The largest file that is read: a bundle of CA certificates has a few hundred kilobytes.
const FILE_MAX: u64 = 1_024 * 1_024;

/// What is needed to take changed files into use.
pub(super) struct Rotation {
    pub config: Arc<Config>,
    pub store: ConsulStore,
    /// A key of the cluster that a new token must be able to write.
    pub probe: Key,
    pub served: http::Parts,
    pub volume: Arc<Volume>,
    pub inputs: mpsc::Sender<Input>,
    /// Consul refused a call.
    pub refused: Arc<Notify>,
}

type Print = [u8; 32];

/// What a file was when it was last looked at.
#[derive(Clone, PartialEq, Eq)]
enum Look {
    Holds(Print),
    Unreadable(String),
}

/// What became of a changed file.
enum Fate {
    Used,
    Refused(String),
    /// Consul did not answer: asked again with the next round.
    Open,
}

impl Rotation {
    /// Looks until the process ends. What the files held at the start was taken into use by the
    /// start itself.
    pub(super) async fn run(self) {
        let mut known: BTreeMap<Renewed, Look> = BTreeMap::new();
        for (what, files) in self.files() {
            known.insert(what, look(&read(files).await));
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(ROUND.to_std()) => {}
                () = self.refused.notified() => tokio::time::sleep(SOONEST.to_std()).await,
            }
            for (what, files) in self.files() {
                let found = read(files).await;
                let now = look(&found);
                if known.get(&what) == Some(&now) {
                    continue;
                }
                let fate = match found {
                    Ok(contents) => self.renew(&what, contents).await,
                    Err(why) => Fate::Refused(why),
                };
                let result = match fate {
                    Fate::Open => continue,
                    Fate::Used => Ok(()),
                    Fate::Refused(why) => Err(why),
                };
                known.insert(what.clone(), now);
                // The receiver is gone only when the process leaves.
                drop(self.inputs.send(Input::Renewed { what, result }).await);
            }
        }
    }

    fn files(&self) -> Vec<(Renewed, Vec<PathBuf>)> {
        let local = &self.config.local;
        let consul = &local.consul;
        let one =
            |what: Renewed, path: &Option<PathBuf>| path.clone().map(|path| (what, vec![path]));
        let identity = consul.identity.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]);
        let certificates: Vec<PathBuf> = consul.ca.iter().cloned().chain(identity).collect();
        let certificates =
            (!certificates.is_empty()).then_some((Renewed::ConsulCertificates, certificates));
        let own = local.tls.as_ref().map(|tls| {
            let identity = tls.identity.iter().flat_map(|(cert, key)| [cert, key]);
            (Renewed::NodeCertificates, [&tls.ca].into_iter().chain(identity).cloned().collect())
        });
        let secrets = local
            .secret_files
            .iter()
            .map(|(name, path)| (Renewed::Secret(name.clone()), vec![path.clone()]));
        one(Renewed::ConsulToken, &consul.token_file)
            .into_iter()
            .chain(one(Renewed::ActionToken, &local.token_file))
            .chain(certificates)
            .chain(own)
            .chain(secrets)
            .collect()
    }

    async fn renew(&self, what: &Renewed, contents: Vec<Vec<u8>>) -> Fate {
        match what {
            Renewed::ConsulToken => self.renew_consul_token(&contents).await,
            Renewed::ActionToken => match secret_text(&contents) {
                Ok(text) => {
                    self.served.token.set(http::Secret::new(text.as_bytes()));
                    Fate::Used
                }
                Err(why) => Fate::Refused(why),
            },
            Renewed::ConsulCertificates => {
                let set = self.store.set_tls(&self.consul_tls(contents));
                set.map_or_else(|error| Fate::Refused(error.to_string()), |()| Fate::Used)
            }
            Renewed::NodeCertificates => {
                let mut contents = contents.into_iter();
                let ca = contents.next().unwrap_or_default();
                let pem = http::Pem { ca, identity: contents.next().zip(contents.next()) };
                let set = self.served.tls.as_ref().map_or(Ok(()), |tls| tls.replace(&pem));
                set.map_or_else(|error| Fate::Refused(error.to_string()), |()| Fate::Used)
            }
            Renewed::Secret(name) => {
                let (volume, name) = (self.volume.clone(), name.clone());
                let bytes = contents.concat();
                let written = tokio::task::spawn_blocking(move || {
                    volume.write_secret(&name, &bytes).map_err(|error| error.to_string())
                });
                match written.await.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(()) => Fate::Used,
                    Err(why) => Fate::Refused(why),
                }
            }
        }
    }

    /// In the order of `files`: the CA's, if there is one, then certificate and key.
    fn consul_tls(&self, contents: Vec<Vec<u8>>) -> Tls {
        let mut contents = contents.into_iter();
        let has_ca = self.config.local.consul.ca.is_some();
        let ca = if has_ca { contents.next() } else { None };
        Tls { ca, identity: contents.next().zip(contents.next()) }
    }

    /// Proven before it is used: the old one may still be good.
    async fn renew_consul_token(&self, contents: &[Vec<u8>]) -> Fate {
        let token = match secret_text(contents) {
            Ok(text) => ConsulSecret::new(&text),
            Err(why) => return Fate::Refused(why),
        };
        let limit = self.config.cluster.request_timeout;
        match self.store.with_token(token.clone()).prove_token(&self.probe, limit).await {
            Ok(()) => {
                self.store.set_token(Some(token));
                Fate::Used
            }
            Err(StoreError::Denied(why)) => Fate::Refused(format!("Consul refuses it: {why}")),
            Err(_) => Fate::Open,
        }
    }
}

fn secret_text(contents: &[Vec<u8>]) -> Result<String, String> {
    let text = std::str::from_utf8(contents.first().map_or(&[][..], Vec::as_slice))
        .map_err(|_| "it is not text".to_owned())?;
    config::secret_of(text).map(|secret| secret.reveal().to_owned())
}

async fn read(files: Vec<PathBuf>) -> Result<Vec<Vec<u8>>, String> {
    let read = tokio::task::spawn_blocking(move || files.iter().map(|path| one(path)).collect());
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn one(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > FILE_MAX {
        return Err(format!("{}: {size} bytes are more than {FILE_MAX}", path.display()));
    }
    fs::read(path).map_err(fail)
}

fn look(found: &Result<Vec<Vec<u8>>, String>) -> Look {
    match found {
        Ok(contents) => {
            let mut digest = Sha256::new();
            for content in contents {
                digest.update((content.len() as u64).to_be_bytes());
                digest.update(content);
            }
            Look::Holds(digest.finalize().into())
        }
        Err(why) => Look::Unreadable(why.clone()),
    }
}
