//! Is this token good for what lictor does? Asked before an empty answer counts.
//!
//! Under default-deny Consul shows an anonymous reader an empty cluster (404, `[]`), which is what
//! a node that may bootstrap hopes to see. Writes are refused openly, so two writes that change
//! nothing are the proof.

use super::ConsulStore;
use crate::decide::call::{StoreError, Verb};
use crate::decide::keys::Key;
use crate::decide::time::Span;
use crate::decide::types::Index;

/// The shortest TTL Consul takes by default; the session lives for a moment only.
const PROBE_TTL: Span = Span::secs(10);

/// No entry ever has this index, so the write is judged (permission first) and never done.
const NEVER: Index = Index(u64::MAX);

impl ConsulStore {
    /// `Ok`: the token may write `probe`'s key and make sessions on the agent's node; an empty read
    /// with it means empty. `Denied`: it may not. Anything else: not known yet, ask again.
    ///
    /// `probe` is one of the cluster's keys, best `leader`; it is not changed. Each of the up to
    /// three requests has `limit`.
    pub async fn prove_token(&self, probe: &Key, limit: Span) -> Result<(), StoreError> {
        let verb = Verb::Cas(probe.clone(), NEVER, Vec::new());
        match self.txn(&[verb], limit).await {
            Err(StoreError::Conflict { .. }) => {}
            Ok(_) => return Err(StoreError::Unknown("an impossible write was done".to_string())),
            Err(StoreError::Denied(why)) => {
                return Err(StoreError::Denied(format!("write of {probe}: {why}")));
            }
            Err(other) => return Err(other),
        }
        let session = match self.session_create("lictor-probe", PROBE_TTL, limit).await {
            Ok(session) => session,
            Err(StoreError::Denied(why)) => {
                return Err(StoreError::Denied(format!("making a session: {why}")));
            }
            Err(other) => return Err(other),
        };
        self.session_destroy(&session, limit).await
    }
}
