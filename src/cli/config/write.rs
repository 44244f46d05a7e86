//! The one way a command changes `state/config`: read, change, judge against the members, write at
//! the index that was read. A write without an answer is looked up before anything is said of it.

use crate::cli::client::{Client, Failure, LIMIT};
use crate::cli::exit::Exit;
use crate::config::{self, ConfigError, NotWritten};
use crate::decide::call::{Call, StoreError, Verb};
use crate::decide::records::MemberValue;
use crate::decide::types::Index;
use crate::store::Store;

/// How often a change is made anew from what another wrote meanwhile.
pub const TRIES: u32 = 3;

/// `state/config` and the members, as one look shows them.
pub struct Stands {
    pub index: Index,
    pub bytes: Vec<u8>,
    pub members: Vec<MemberValue>,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrote {
    Done,
    /// Another change came first: nothing is written.
    Moved,
}

impl Stands {
    /// Proves the token too: what it may not see must not look like nothing.
    pub async fn look(client: &Client) -> Result<Stands, Failure> {
        let entry = client.read(client.keys.config(), false).await?.into_iter().next();
        let members = client.look().await?.members;
        let (index, bytes) = entry.map(|e| (e.modify, e.value)).unwrap_or_default();
        Ok(Stands { index, bytes, members })
    }

    /// The text; empty when there is none.
    pub fn text(&self) -> Result<&str, Failure> {
        config::kv_text(&self.bytes).map_err(bad)
    }

    /// Whether this text may be written.
    pub fn judge(&self, text: &str) -> Result<(), Failure> {
        match config::may_write(text, &self.members) {
            Ok(_) => Ok(()),
            Err(NotWritten::Bad(error)) => Err(bad(error)),
            Err(NotWritten::Strands(why)) => Err(Failure(why, Exit::Refused)),
        }
    }

    /// Writes it where nothing has changed since the look.
    pub async fn write(&self, client: &Client, text: &str) -> Result<Wrote, Failure> {
        let key = client.keys.config();
        let bytes = text.as_bytes().to_vec();
        let call = Call::Txn(vec![Verb::Cas(key.clone(), self.index, bytes.clone())]);
        match client.store.call(call, LIMIT).await {
            Ok(_) => Ok(Wrote::Done),
            Err(StoreError::Conflict { .. }) => Ok(Wrote::Moved),
            Err(StoreError::Unknown(why)) => {
                let found = client.read(key, false).await?.into_iter().next();
                if found.is_some_and(|entry| entry.value == bytes) {
                    return Ok(Wrote::Done);
                }
                let text = format!(
                    "Consul gave no answer ({why}), and does not show the change: it may come yet; \
                     look with `lictor config show --kv`"
                );
                Err(Failure(text, Exit::Failed))
            }
            Err(error) => Err(error.into()),
        }
    }
}

pub fn bad(error: ConfigError) -> Failure {
    Failure(error.to_string(), Exit::Usage)
}
