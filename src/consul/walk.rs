//! Several addresses, one call: who is asked, in which order, and what a failure allows next.
//!
//! Invariants: an attempt that provably sent nothing goes on to the next address, within the time
//! of the call; one that may have sent a write ends the call as `Unknown`; a read goes on either
//! way. A call that hung makes the next call start at the next address.

use super::ConsulStore;
use super::error::{Failure, Kind};
use super::ext::Sent;
use crate::decide::call::StoreError;
use crate::decide::time::Span;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// An address gets at most so long to take a request (name look-up, connection, TLS) while another
/// one is left to ask; less when the call's time, shared among the addresses, is less.
const CONNECT_PATIENCE_MAX: Duration = Duration::from_secs(1);

/// Which addresses a call may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// The node's own agent, the first address: registrations belong to an agent.
    OwnAgent,
    /// Any, from the one that last worked on.
    Any,
}

/// What a call needs to be carried along the addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub kind: Kind,
    pub scope: Scope,
    pub limit: Duration,
}

/// How one attempt ended, seen from here.
enum Ended<T> {
    Answer(Result<T, Failure>),
    /// The address did not even take the request in its share of the time.
    NotTaken,
    /// The call's time is over.
    OutOfTime,
}

/// One try of a call at one address. A trait of its own rather than an async closure, whose future
/// can't be proven `Send` yet.
pub(super) trait Attempt {
    type Answer;

    /// Asks the address at this position; notes in `sent` when the request may have gone out.
    fn run(
        &self,
        at: usize,
        sent: Sent,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

impl ConsulStore {
    /// Tries `attempt` with one address after the other until one of them gives
    /// a definite answer, nothing more is allowed, or the time is over.
    pub(super) async fn walk<A: Attempt>(
        &self,
        route: Route,
        attempt: A,
    ) -> Result<A::Answer, StoreError> {
        let all = self.inner.addresses.len();
        let (start, tries) = match route.scope {
            Scope::OwnAgent => (0, 1),
            Scope::Any => (self.inner.preferred.load(Ordering::Relaxed) % all, all),
        };
        let whole = sleep(route.limit);
        tokio::pin!(whole);
        let share =
            (route.limit / u32::try_from(tries).unwrap_or(u32::MAX)).min(CONNECT_PATIENCE_MAX);
        let mut last = StoreError::NotSent("no time to send it".to_string());
        for step in 0..tries {
            let at = (start + step) % all;
            let sent = Sent::default();
            let patience = (step + 1 < tries).then_some(share);
            let ended = timed(attempt.run(at, sent.clone()), &sent, whole.as_mut(), patience).await;
            let address = &self.inner.addresses[at];
            let failure = match ended {
                Ended::Answer(Ok(answer)) => {
                    self.prefer(route.scope, at);
                    return Ok(answer);
                }
                Ended::Answer(Err(Failure::Final(error))) => {
                    self.prefer(route.scope, at);
                    return Err(error);
                }
                Ended::Answer(Err(Failure::NotSent(why))) => {
                    StoreError::NotSent(format!("{address}: {why}"))
                }
                Ended::Answer(Err(Failure::Lost(why))) => {
                    StoreError::Unknown(format!("{address}: {why}"))
                }
                Ended::NotTaken => StoreError::NotSent(format!("{address}: no connection in time")),
                Ended::OutOfTime => {
                    self.leave(route.scope, start, step);
                    let limit = route.limit.as_millis();
                    return Err(match sent.may_be() {
                        true => StoreError::Unknown(format!("{address}: no answer in {limit} ms")),
                        false => StoreError::NotSent(format!("{address}: not taken in {limit} ms")),
                    });
                }
            };
            tracing::debug!(event = "consul_attempt_failed", address = %address, error = %failure);
            let ambiguous = matches!(failure, StoreError::Unknown(_));
            if ambiguous && route.kind == Kind::Write {
                self.leave(route.scope, start, step);
                return Err(failure);
            }
            // An earlier "unknown" of a read says more than the refused connection after it.
            if ambiguous || matches!(last, StoreError::NotSent(_)) {
                last = failure;
            }
        }
        self.leave(route.scope, start, 0);
        Err(last)
    }

    fn prefer(&self, scope: Scope, at: usize) {
        match scope {
            Scope::OwnAgent => {}
            Scope::Any => self.inner.preferred.store(at, Ordering::Relaxed),
        }
    }

    /// Makes the next call start after the address that failed at `step`, unless another call has
    /// moved on from the ones tried here meanwhile: a watch notices a hung address long after the
    /// calls did.
    fn leave(&self, scope: Scope, start: usize, step: usize) {
        let all = self.inner.addresses.len();
        let now = self.inner.preferred.load(Ordering::Relaxed) % all;
        if (now + all - start) % all <= step {
            self.prefer(scope, (start + step + 1) % all);
        }
    }
}

/// One limit over the several requests of one call.
pub(super) async fn within<T>(
    limit: Span,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit.to_std(), work).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unknown(format!("no answer in {limit}"))),
    }
}

/// Runs one attempt. Giving up on a request that was not taken is sound because dropping it
/// withdraws it: a connection that finds its requester gone does not write it (test
/// `not_taken_is_not_sent`).
async fn timed<T>(
    attempt: impl Future<Output = Result<T, Failure>>,
    sent: &Sent,
    mut whole: std::pin::Pin<&mut Sleep>,
    patience: Option<Duration>,
) -> Ended<T> {
    tokio::pin!(attempt);
    let patient = sleep(patience.unwrap_or_default());
    tokio::pin!(patient);
    let mut waits = patience.is_some();
    loop {
        tokio::select! {
            biased;
            answer = &mut attempt => return Ended::Answer(answer),
            () = whole.as_mut() => return Ended::OutOfTime,
            () = &mut patient, if waits => {
                if !sent.may_be() {
                    return Ended::NotTaken;
                }
                waits = false;
            }
        }
    }
}
