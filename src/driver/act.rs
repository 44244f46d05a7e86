//! Effects become acts; ends of acts become inputs.
//!
//! What may block or wait runs beside the loop and comes back through one bounded queue. The time
//! until which an effect is valid is looked at again here, just before the act.

use super::volume::{Volume, VolumeError};
use super::{Driver, OUTSIDE};
use crate::decide::call::{Call, StoreError};
use crate::decide::hook::{Hook, HookCall, HookEnd};
use crate::decide::io::{self, Input};
use crate::decide::peer::{PeerCall, PeerError};
use crate::decide::reason::Reason;
use crate::decide::time::At;
use crate::decide::types::OpId;
use crate::http::ActionReply;
use crate::process::{clock, hooks};
use crate::store::Store;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;

/// Counts an effect that is under way, until it is dropped.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> UnderWay {
        count.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Driver {
    /// Runs `work` beside the loop; its end is an input.
    pub(super) fn beside(&self, work: impl Future<Output = Input> + Send + 'static) {
        let inputs = self.inputs.clone();
        let counted = UnderWay::new(&self.under_way);
        tokio::spawn(async move {
            let input = work.await;
            // The receiver is gone only when the process leaves.
            drop(inputs.send(input).await);
            drop(counted);
        });
    }

    pub(super) fn call(&mut self, op: OpId, call: Call, valid_until: Option<At>) {
        if io::is_over(valid_until, clock::now()) {
            let result = Err(io::not_sent());
            self.queue.push_back(Input::StoreReply { op, result });
            return;
        }
        let store = self.store.clone();
        let limit = self.config.cluster.request_timeout;
        let refused = self.refused.clone();
        self.beside(async move {
            let result = store.call(call, limit).await;
            if let Err(error) = &result {
                tracing::debug!(event = "store.error", op = op.0, %error);
                if matches!(error, StoreError::Denied(_)) {
                    refused.notify_one();
                }
            }
            Input::StoreReply { op, result }
        });
    }

    pub(super) fn run_hook(&mut self, mut call: HookCall) {
        let id = call.id;
        if call.hook == Hook::Health
            && hooks::check(&self.config.local.hooks, Hook::Health).is_err()
        {
            self.try_port(call);
            return;
        }
        if call.hook == Hook::Reload
            && hooks::check(&self.config.local.hooks, Hook::Reload).is_err()
        {
            let end = HookEnd::Done { answer: None };
            self.queue.push_back(Input::HookEnded { id, end });
            return;
        }
        if !call.may_start(clock::now()) {
            self.queue.push_back(Input::HookEnded { id, end: HookEnd::Cancelled });
            return;
        }
        let inputs = self.inputs.clone();
        let counted = UnderWay::new(&self.under_way);
        self.hooks.start(call, move |_, end| {
            tokio::spawn(async move {
                drop(inputs.send(Input::HookEnded { id, end }).await);
                drop(counted);
            });
        });
    }

    /// The built-in check, where there is no `health` hook: does the application's port answer.
    fn try_port(&self, call: HookCall) {
        let local = &self.config.local;
        let address = (local.address, local.app_port.unwrap_or(0));
        let limit = call.timeout.to_std();
        self.beside(async move {
            let end = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => HookEnd::Done { answer: None },
                Ok(Err(_)) => HookEnd::Exit { code: 1 },
                Err(_) => HookEnd::Timeout,
            };
            Input::HookEnded { id: call.id, end }
        });
    }

    pub(super) fn peer_call(&mut self, id: OpId, call: PeerCall) {
        if !self.auth.has_key() {
            let error = PeerError::Unauthenticated("the peers' key is not known yet".into());
            self.queue.push_back(Input::PeerReplied { id, result: Err(error) });
            return;
        }
        let peers = self.peers.clone();
        let epoch = self.node.epoch();
        self.beside(async move {
            let result = peers.ask(call, epoch).await;
            Input::PeerReplied { id, result }
        });
    }

    pub(super) fn action_reply(&mut self, id: OpId, result: Result<String, StoreError>) {
        debug_assert!(id.0 > OUTSIDE, "actions are numbered from outside");
        if let Some(reply) = self.actions.remove(&id) {
            let told = match result {
                Ok(request) => ActionReply::Written { request },
                Err(StoreError::Conflict { .. }) => ActionReply::Refused(Reason::new(
                    "request.doubled",
                    "a request of this id is there already; nothing was written",
                )),
                Err(error @ StoreError::Unknown(_)) => ActionReply::Unknown(error.to_string()),
                Err(error) => ActionReply::NotWritten(error.to_string()),
            };
            drop(reply.send(told));
        }
    }

    /// Work on the volume, which may wait for the disk: on a thread of the small pool, never in
    /// between.
    pub(super) fn on_volume(
        &mut self,
        work: impl FnOnce(&Volume) -> Result<(), VolumeError> + Send + 'static,
        done: Input,
        failed: impl FnOnce(String) -> Input + Send + 'static,
    ) {
        let volume = Arc::clone(&self.volume);
        let order = Arc::clone(&self.volume_order);
        self.beside(async move {
            // One after the other, as they were asked for: two writes of one file share the name
            // beside it, and the last one asked for must be the one that stays.
            let _turn = order.lock().await;
            match tokio::task::spawn_blocking(move || work(&volume)).await {
                Ok(Ok(())) => done,
                Ok(Err(error)) => failed(error.to_string()),
                Err(error) => failed(error.to_string()),
            }
        });
    }
}
