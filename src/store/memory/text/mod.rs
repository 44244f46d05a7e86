//! Consul's HTTP, as far as lictor and the `consul` command use it: a request's text in, an
//! answer's text out.
//!
//! ```text
//!   route     which methods a path takes; what it is
//!   read      what can be waited for: keys, sessions
//!   catalog   the same of nodes, services and checks;  agent  what agents are told and say
//!   kv, txn, session    the writes
//!   decode    queries, durations, percent signs
//! ```
//!
//! Texts and codes are those of Consul 1.8.7, measured.

mod agent;
mod catalog;
mod decode;
mod kv;
mod read;
mod route;
mod session;
mod txn;

use self::decode::{Flags, duration, split};
use super::{Fault, Memory, State};
use crate::decide::time::{At, Span};
use serde_json::Value;

/// Of a value, and of a transaction's text.
pub const BYTES_MOST: usize = 512 << 10;
/// Without `wait`, and at most.
const WAIT: Span = Span::secs(300);
const WAIT_MOST: Span = Span::secs(600);

/// One request: `PUT`, `/v1/kv/a?cas=3`, its body; at which agent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: &'a [u8],
    pub node: &'a str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    pub status: u16,
    /// `X-Consul-Index`.
    pub index: Option<u64>,
    /// A read, which tells of the leader too.
    pub is_read: bool,
    /// One more header.
    pub header: Option<(&'static str, String)>,
    pub body: Body,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Body {
    Nothing,
    Json(String),
    Text(String),
    /// A value as it is.
    Raw(Vec<u8>),
}

impl Body {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Nothing => &[],
            Body::Json(text) | Body::Text(text) => text.as_bytes(),
            Body::Raw(bytes) => bytes,
        }
    }
}

/// An answer, or what it waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answered {
    Now(Reply),
    Wait(Waiting),
}

/// A read that returns when its index is above the one it was given, or its wait is over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Waiting {
    path: String,
    flags: Flags,
    after: u64,
    until: At,
    /// As it was when it began.
    restores: u64,
}

impl Waiting {
    pub fn until(&self) -> At {
        self.until
    }
}

/// What a read finds: its index at once, its text when it is wanted.
struct Look<'a> {
    index: u64,
    text: Box<dyn FnOnce() -> Reply + 'a>,
}

impl<'a> Look<'a> {
    fn new(index: u64, text: impl FnOnce() -> Reply + 'a) -> Look<'a> {
        Look { index: index.max(1), text: Box::new(text) }
    }

    fn reply(self) -> Reply {
        Reply { index: Some(self.index), is_read: true, ..(self.text)() }
    }
}

impl Reply {
    fn new(status: u16, body: Body) -> Reply {
        Reply { status, index: None, is_read: false, header: None, body }
    }

    fn json(value: &Value) -> Reply {
        Reply::new(200, Body::Json(value.to_string()))
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Reply {
        Reply::new(fault.status, Body::Text(fault.text))
    }
}

impl Memory {
    /// Carries out one request. What has no place here is 404.
    pub fn answer(&mut self, now: At, asked: &Asked<'_>) -> Answered {
        self.tick(now);
        let Some((path, flags)) = split(asked.target) else {
            return Answered::Now(Fault::new(400, "400 Bad Request").into());
        };
        if path.contains("//") {
            return Answered::Now(moved(asked.target));
        }
        let is_pretty = flags.contains_key("pretty");
        match self.route(now, asked, &path, flags) {
            Ok(Answered::Now(reply)) if is_pretty => Answered::Now(pretty(reply)),
            Ok(answered) => answered,
            Err(fault) => Answered::Now(fault.into()),
        }
    }

    /// Of a read that waited: what it returns now, if it does.
    pub fn answer_waiting(&mut self, now: At, waiting: &Waiting) -> Option<Reply> {
        self.tick(now);
        let Waiting { path, flags, after, until, restores } = waiting;
        let abandoned = self.abandoned.as_deref().filter(|_| *restores != self.restores);
        let state = abandoned.unwrap_or_else(|| self.seen_by(flags));
        let look = match read::look(state, path, flags, &self.node_id()) {
            Ok(look) => look,
            Err(fault) => return Some(fault.into()),
        };
        let is_over = abandoned.is_some() || look.index > *after || *until <= now;
        is_over.then(|| match flags.contains_key("pretty") {
            true => pretty(look.reply()),
            false => look.reply(),
        })
    }

    fn read_text(&mut self, now: At, path: &str, flags: Flags) -> Result<Answered, Fault> {
        let both = ["stale", "consistent"].iter().all(|name| flags.contains_key(*name));
        if both {
            let text = "Cannot specify ?stale with ?consistent, conflicting semantics.";
            return Err(Fault::new(400, text));
        }
        let index = flags.get("index").map_or(Ok(0), |text| text.parse());
        let after: u64 = index.map_err(|_| Fault::new(400, "Invalid index"))?;
        let wait = match flags.get("wait").map(|text| duration(text)) {
            None | Some(Ok(Span::ZERO)) => WAIT,
            Some(Ok(wait)) => wait.min(WAIT_MOST),
            Some(Err(_)) => return Err(Fault::new(400, "Invalid wait time")),
        };
        if !flags.contains_key("stale") {
            self.leads()?;
        }
        let look = read::look(self.seen_by(&flags), path, &flags, &self.node_id())?;
        if after == 0 || look.index > after {
            return Ok(Answered::Now(look.reply()));
        }
        drop(look);
        let (path, restores) = (path.to_owned(), self.restores);
        Ok(Answered::Wait(Waiting { path, flags, after, until: now + wait, restores }))
    }

    fn seen_by(&self, flags: &Flags) -> &State {
        match (&self.behind, flags.contains_key("consistent")) {
            (Some(behind), false) => behind,
            (_, _) => &self.state,
        }
    }
}

/// What Consul says of a body of this size, where that is too much for it.
pub fn too_large(target: &str, bytes: usize) -> Option<Reply> {
    let name = match target.starts_with("/v1/txn") {
        true => "txn_max_req_len",
        false => "kv_max_value_size",
    };
    let text = format!(
        "Request body({bytes} bytes) too large, max size: {BYTES_MOST} bytes. See \
         https://www.consul.io/docs/agent/options.html#{name}."
    );
    (bytes > BYTES_MOST).then(|| Fault::new(413, text).into())
}

/// Go's server takes no empty part of a path; a client asks again, or sees that it is none.
fn moved(target: &str) -> Reply {
    let (path, query) = target.split_once('?').map_or((target, None), |(a, b)| (a, Some(b)));
    let path = path.replace("%2F", "/").replace("%2f", "/");
    let mut place = String::new();
    for c in path.chars() {
        if c != '/' || !place.ends_with('/') {
            place.push(c);
        }
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let header = Some(("Location", place + &query));
    Reply { header, ..Reply::new(301, Body::Nothing) }
}

fn pretty(reply: Reply) -> Reply {
    let Body::Json(text) = &reply.body else { return reply };
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    Reply { body: Body::Json(format!("{value:#}\n")), ..reply }
}
