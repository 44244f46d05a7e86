//! The same interface on a Unix socket beside the volume: whoever may open the file, root, is
//! trusted; no token is asked.
//!
//! It has connections of its own, so that a port that is full does not lock the operator out.

use super::limits::{ACCEPT_PAUSE, SOCKET_CONNECTIONS};
use super::server::{Caller, Front, Server, speak};
use nix::sys::stat::{Mode, umask};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    front: Front,
}

impl Server {
    /// Listens on this path too; what an earlier process left there is removed. To be called before
    /// other threads make files: the mask of new files is the process's.
    pub fn socket(&self, path: &Path) -> io::Result<Socket> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other("something else is there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        Ok(Socket { listener: bound?, front: self.front() })
    }
}

impl Socket {
    /// Serves until dropped.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(event = "http.panic", %error, "a connection's task failed");
                    }
                }
                accepted = self.listener.accept(), if connections.len() < SOCKET_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
                            let caller = Caller::Socket { uid };
                            connections.spawn(speak(stream, caller, self.front.clone()));
                        }
                        Err(error) => {
                            tracing::warn!(event = "http.accept", %error);
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
    }
}
