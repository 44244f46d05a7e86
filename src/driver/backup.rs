//! Work on the directory of backups: on a thread of its own, one piece after the other.
//!
//! Not on the pool of two: reading a backup takes as long as it is large, and the pool is what
//! writes the epoch's floor.

use super::Driver;
use super::setup::{StartError, user_of};
use crate::backup::Shelf;
use crate::config::Config;
use crate::decide::backup::BackupAct;
use crate::decide::io::Input;
use crate::decide::types::OpId;
use crate::process;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The directory of backups, and whose turn it is.
pub(super) struct Shelves {
    shelf: Shelf,
    order: Arc<tokio::sync::Mutex<()>>,
}

impl Shelves {
    pub fn of(config: &Config) -> Result<Shelves, StartError> {
        let local = &config.local;
        let owner = user_of(local.hook_user.as_deref())?;
        let shelf = Shelf {
            root: local.backup_dir.clone(),
            cluster: local.cluster.as_ref().map(|name| name.to_string()).unwrap_or_default(),
            node: local.node.to_string(),
            owner: owner.map(|user| (user.uid, user.gid)),
        };
        Ok(Shelves { shelf, order: Arc::default() })
    }
}

impl Driver {
    pub(super) fn on_shelf(&self, id: OpId, act: BackupAct) {
        let shelf = self.shelves.shelf.clone();
        let order = Arc::clone(&self.shelves.order);
        self.beside(async move {
            let _turn = order.lock().await;
            let (tell, told) = oneshot::channel();
            let work = move || {
                process::step_back();
                // Whoever asked is gone only with the process.
                drop(tell.send(Shelf::act(&shelf, act)));
            };
            let begun = std::thread::Builder::new().name("backup".to_owned()).spawn(work);
            let result = match begun {
                Ok(_) => told.await.unwrap_or_else(|_| Err("the thread ended early".to_owned())),
                Err(error) => Err(format!("no thread can be started: {error}")),
            };
            Input::BackupActed { id, result }
        });
    }
}
