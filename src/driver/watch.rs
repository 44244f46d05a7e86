//! The two watches: `leader` alone, for it changes every second, and everything under `state/`.
//!
//! A watch that fails begins again without an index, so that nothing is missed; so does one whose
//! index went back. The end of each wait returns all there is: no edge is the only trigger of
//! anything.
//!
//! A holder does not watch `leader`: each change would be its own renewal, whose answer says the
//! same. What others do to the key shows in the next one.

use crate::consul::ConsulStore;
use crate::decide::io::Input;
use crate::decide::keys::{Key, Keys};
use crate::decide::lead::Seen;
use crate::decide::time::Span;
use crate::http::Metrics;
use crate::store::{Store, Watched};
use tokio::sync::mpsc;
use tokio::sync::watch::{self, Receiver, Sender};

/// A holder renews three times a lease: a longer silence is news in itself, and a hung address is
/// noticed.
pub(super) const LEADER_WAIT: Span = Span::secs(5);
/// The reconcile of everything else.
pub(super) const STATE_WAIT: Span = Span::secs(30);
/// After an error; an agent that refuses at once must not be asked in a tight loop.
const PAUSE: Span = Span(200);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Leader,
    State,
}

impl What {
    /// One of `http::metrics::WATCHES`.
    fn name(self) -> &'static str {
        match self {
            What::Leader => "leader",
            What::State => "state",
        }
    }
}

/// A blocking query, again and again.
struct Watch {
    key: Key,
    what: What,
    metrics: Metrics,
    /// Whether this node holds the lock and its lease runs.
    leads: Receiver<bool>,
}

/// Starts both; what it returns is to be told whether this node holds the lock.
pub(super) fn spawn(
    keys: &Keys,
    store: &ConsulStore,
    inputs: &mpsc::Sender<Input>,
    metrics: &Metrics,
) -> Sender<bool> {
    let (tell, leads) = watch::channel(false);
    for (key, what) in [(keys.leader(), What::Leader), (keys.state(), What::State)] {
        let watch = Watch { key, what, metrics: metrics.clone(), leads: leads.clone() };
        tokio::spawn(watch.run(store.clone(), inputs.clone()));
    }
    tell
}

impl Watch {
    /// Runs until nobody listens any more.
    async fn run(self, store: ConsulStore, inputs: mpsc::Sender<Input>) {
        let Watch { key, what, metrics, mut leads } = self;
        let (recurse, wait) = match what {
            What::Leader => (false, LEADER_WAIT),
            What::State => (true, STATE_WAIT),
        };
        let mut after = None;
        let mut failing = false;
        loop {
            if what == What::Leader && *leads.borrow() {
                if leads.wait_for(|leads| !leads).await.is_err() {
                    return;
                }
                after = None;
            }
            match store.watch(&key, recurse, after, wait).await {
                Ok(watched) => {
                    if failing {
                        tracing::info!(event = "watch.back", key = %key);
                    }
                    failing = false;
                    after = (!watched.early).then_some(watched.index);
                    if inputs.send(input(what, watched)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    metrics.watch_restarted(what.name());
                    if !failing {
                        tracing::warn!(event = "watch.lost", key = %key, %error);
                    }
                    failing = true;
                    after = None;
                    tokio::time::sleep(PAUSE.to_std()).await;
                    if inputs.is_closed() {
                        return;
                    }
                }
            }
        }
    }
}

fn input(what: What, watched: Watched) -> Input {
    let seen = if watched.early { Seen::Early } else { Seen::Read };
    match what {
        What::Leader => Input::Leader { entry: watched.entries.into_iter().next(), seen },
        What::State => Input::State { entries: watched.entries, seen },
    }
}
