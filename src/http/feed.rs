//! The tail of the journal as this node read it last: `/history` and `/events` answer from it.
//!
//! The driver reads when somebody asks ([`Feed::wanted`]) and shows what it read; handlers wait a
//! moment for that and decide nothing. Bounded: so many entries, so many followers, and a follower
//! that does not read is dropped.

use super::limits::{FOLLOW_ALIVE, FOLLOW_QUEUE, FOLLOWERS, HISTORY_GOOD, HISTORY_WAIT};
use super::routes::{Shared, error, line};
use crate::decide::journal::Entry;
use crate::decide::journal::read::Tail;
use crate::decide::time::At;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

/// The place of the tail; clones show the same.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shown: Mutex<Shown>,
    /// Counts what was shown, failures too.
    turns: watch::Sender<u64>,
    wanted: Notify,
    places: Arc<Semaphore>,
}

#[derive(Clone, Debug, Default)]
struct Shown {
    entries: VecDeque<Arc<Entry>>,
    missing: Vec<(u64, u64)>,
    seq: u64,
    /// When the last read that succeeded was begun.
    read_at: Option<At>,
    /// Why the last one failed.
    error: Option<String>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed(Arc::new(Inner {
            shown: Mutex::default(),
            turns: watch::Sender::new(0),
            wanted: Notify::new(),
            places: Arc::new(Semaphore::new(FOLLOWERS)),
        }))
    }
}

impl Feed {
    /// Entries kept here: some ten failovers.
    pub const KEPT: usize = 128;

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back when somebody wants to know.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    pub fn is_followed(&self) -> bool {
        self.0.places.available_permits() < FOLLOWERS
    }

    /// The last number shown.
    pub fn last(&self) -> u64 {
        self.shown().seq
    }

    /// Adds what was read after the last number; `asked`: when the read was begun.
    pub fn show(&self, tail: Tail, asked: At) {
        {
            let mut shown = self.shown();
            if tail.seq < shown.seq {
                // Keys were deleted or restored: what is here is another journal's.
                *shown = Shown::default();
            }
            let known = shown.seq;
            let fresh = tail.entries.into_iter().filter(|entry| entry.seq > known);
            shown.entries.extend(fresh.map(Arc::new));
            while shown.entries.len() > Feed::KEPT {
                shown.entries.pop_front();
            }
            let first = shown.entries.front().map_or(tail.seq, |entry| entry.seq);
            shown.missing.extend(tail.missing);
            shown.missing.retain(|(_, to)| *to >= first);
            shown.seq = tail.seq;
            shown.read_at = Some(asked);
            shown.error = None;
        }
        self.0.turns.send_modify(|turn| *turn += 1);
    }

    pub fn failed(&self, why: String) {
        self.shown().error = Some(why);
        self.0.turns.send_modify(|turn| *turn += 1);
    }

    fn is_good(&self, now: At) -> bool {
        let shown = self.shown();
        let good = |at| self.is_followed() || now.since(at) < HISTORY_GOOD;
        shown.error.is_none() && shown.read_at.is_some_and(good)
    }

    /// Waits a moment for a read that is not older than [`HISTORY_GOOD`].
    async fn freshen(&self, now: At) {
        if self.is_good(now) {
            return;
        }
        let mut turns = self.0.turns.subscribe();
        self.0.wanted.notify_one();
        // Whatever came of it, the answer says how old it is.
        let _ = timeout(HISTORY_WAIT, turns.changed()).await;
    }

    fn history(&self, now: At, most: usize) -> (StatusCode, Value) {
        let shown = self.shown().clone();
        let Some(read_at) = shown.read_at else {
            let why = shown.error.unwrap_or_else(|| "Consul has not answered yet".into());
            let text = format!("the journal could not be read: {why}");
            let body = json!({"code": "history.unread", "error": text});
            return (StatusCode::SERVICE_UNAVAILABLE, body);
        };
        let skip = shown.entries.len().saturating_sub(most);
        let entries: Vec<&Entry> = shown.entries.iter().skip(skip).map(Arc::as_ref).collect();
        let body = json!({
            "v": 1,
            "entries": entries,
            "seq": shown.seq,
            "missing": shown.missing,
            "age_ms": now.since(read_at),
            "error": shown.error,
        });
        (StatusCode::OK, body)
    }

    /// What a follower who has seen number `after` has not seen, and the gap before it, if any.
    fn since(&self, after: u64) -> (Option<(u64, u64)>, Vec<Arc<Entry>>) {
        let shown = self.shown();
        let after = if after > shown.seq { 0 } else { after };
        let fresh: Vec<_> = shown.entries.iter().filter(|it| it.seq > after).cloned().collect();
        let first = fresh.first().map_or(shown.seq + 1, |entry| entry.seq);
        let gap = (first > after + 1).then_some((after + 1, first - 1));
        (gap, fresh)
    }
}

type Asked = BTreeMap<String, String>;

/// `GET /history`: the newest entries, newest last; `?n=`: at most so many.
pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Asked>,
) -> Response {
    let most = match asked.get("n").map(|text| text.parse::<usize>()) {
        None => Feed::KEPT,
        Some(Ok(most)) => most,
        Some(Err(_)) => {
            let text = "n takes a number, such as ?n=20";
            return error(StatusCode::BAD_REQUEST, "http.bad-n", text);
        }
    };
    let (feed, clock) = (&shared.parts.feed, shared.parts.clock);
    feed.freshen(clock()).await;
    let (status, body) = feed.history(clock(), most);
    line(status, &body)
}

/// `GET /events`: what is appended from now on, or after `Last-Event-ID`, as server-sent events.
pub(super) async fn events(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let feed = shared.parts.feed.clone();
    let after = match headers.get("last-event-id").map(|id| id.to_str().map(str::parse::<u64>)) {
        None => None,
        Some(Ok(Ok(after))) => Some(after),
        Some(_) => {
            let text = "Last-Event-ID is an entry's number";
            return error(StatusCode::BAD_REQUEST, "events.bad-id", text);
        }
    };
    feed.freshen((shared.parts.clock)()).await;
    let Ok(place) = Arc::clone(&feed.0.places).try_acquire_owned() else {
        let text = format!("{FOLLOWERS} follow already; ask /history instead");
        return error(StatusCode::SERVICE_UNAVAILABLE, "events.full", text);
    };
    // A driver that waits to be asked sees that somebody follows.
    feed.0.wanted.notify_one();
    let (frames, follower) = mpsc::channel(FOLLOW_QUEUE);
    let after = after.unwrap_or_else(|| feed.last());
    tokio::spawn(follow(feed, after, frames, place));
    let mut response = Body::new(Frames(follower)).into_response();
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let none = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, none);
    response
}

/// Until the follower is gone, or does not read.
async fn follow(
    feed: Feed,
    mut after: u64,
    frames: mpsc::Sender<Bytes>,
    place: OwnedSemaphorePermit,
) {
    let mut turns = feed.0.turns.subscribe();
    let send = |text: String| frames.try_send(Bytes::from(text)).is_ok();
    let mut fine = send("retry: 2000\n\n".into());
    while fine {
        turns.mark_unchanged();
        let (gap, fresh) = feed.since(after);
        if let Some((from, to)) = gap {
            fine = send(format!("event: missing\ndata: {}\n\n", json!({"from": from, "to": to})));
        }
        for entry in fresh {
            after = entry.seq;
            fine = fine && send(frame(&entry));
        }
        after = after.max(gap.map_or(0, |(_, to)| to)).min(feed.last());
        tokio::select! {
            () = frames.closed() => break,
            changed = turns.changed() => fine = fine && changed.is_ok(),
            () = sleep(FOLLOW_ALIVE) => fine = fine && send(": alive\n\n".into()),
        }
    }
    drop(place);
}

fn frame(entry: &Entry) -> String {
    let data = serde_json::to_string(entry).expect("an entry has string keys only");
    // A line break in a code would begin another field; ours have none, a stranger's could.
    let code: String = entry.line.code.chars().filter(|c| !c.is_control()).collect();
    format!("id: {}\nevent: {code}\ndata: {data}\n\n", entry.seq)
}

/// The frames of one follower as a body.
struct Frames(mpsc::Receiver<Bytes>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::journal::{Head, Line};
    use crate::decide::types::{Epoch, NodeName, RunId};

    fn tail(from: u64, to: u64) -> Tail {
        let entry = |seq| Entry {
            v: 1,
            epoch: Epoch(1),
            seq,
            node: NodeName::new("a"),
            run: RunId::new("r"),
            line: Line {
                no: seq,
                at: 0,
                seen: Epoch(1),
                code: "open".into(),
                text: "leads".into(),
                flip: None,
                inputs: BTreeMap::new(),
            },
        };
        Tail { entries: (from..=to).map(entry).collect(), missing: Vec::new(), first: 1, seq: to }
    }

    fn numbers(entries: &[Arc<Entry>]) -> Vec<u64> {
        entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn the_tail_is_bounded_and_never_twice() {
        let feed = Feed::default();
        feed.show(tail(1, 100), At(1));
        feed.show(tail(90, 150), At(2));
        let (gap, fresh) = feed.since(140);
        assert_eq!((gap, numbers(&fresh)), (None, (141..=150).collect()));
        let (gap, fresh) = feed.since(0);
        assert_eq!(gap, Some((1, 22)), "what is not kept here any more is said to be missing");
        assert_eq!(fresh.len(), Feed::KEPT);
        let (status, body) = feed.history(At(5), 3);
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["entries"][2]["seq"], 150);
        assert_eq!(
            (body["entries"].as_array().map(Vec::len), &body["age_ms"]),
            (Some(3), &json!(3))
        );
    }

    #[test]
    fn a_journal_that_begins_anew_replaces_the_old_one() {
        let feed = Feed::default();
        feed.show(tail(1, 100), At(1));
        feed.show(tail(1, 2), At(2));
        assert_eq!(numbers(&feed.since(0).1), [1, 2]);
        assert_eq!(numbers(&feed.since(100).1), [1, 2], "an old number is no number of this one");
        assert_eq!(Head::empty().seq, 0);
    }

    #[test]
    fn unread_is_no_answer_and_old_is_one_that_says_so() {
        let feed = Feed::default();
        feed.failed("connection refused".into());
        let (status, body) = feed.history(At(5), 3);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        feed.show(tail(1, 1), At(1));
        assert!(feed.is_good(At(2)));
        feed.failed("connection refused".into());
        assert!(!feed.is_good(At(2)));
        let (status, body) = feed.history(At(9_001), 3);
        assert_eq!((status, &body["age_ms"]), (StatusCode::OK, &json!(9_000)));
        assert_eq!(body["error"], "connection refused");
    }

    #[test]
    fn an_event_is_its_entry() {
        let text = frame(&tail(7, 7).entries[0]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["id: 7", "event: open"]);
        let data = lines[2].strip_prefix("data: ").expect("data");
        assert_eq!(serde_json::from_str::<Entry>(data).expect("an entry").seq, 7);
        assert!(text.ends_with("\n\n"));
    }
}
