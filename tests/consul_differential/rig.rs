//! Both sides of a comparison: the real Consul, the model, and which id and index of one is which
//! of the other.

use super::common::consul::Consul;
use super::script::{Act, At as Index, Form, SLOTS, Verb};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lictor::decide::time::At;
use lictor::store::memory::{Answered, Asked, Memory, Mode, Reply, Waiting as Query};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A query that must return does so within this; the machine may be busy.
const RETURNS: Duration = Duration::from_secs(20);
/// Longer than any script.
const WAIT: &str = "60s";
const WRONG: [(&str, &str, &str); 6] = [
    ("PUT", "/v1/kv/?flags=1", "x"),
    ("PUT", "/v1/kv/x?acquire=1&release=2", "x"),
    ("GET", "/v1/kv/", ""),
    ("DELETE", "/v1/kv/x?recurse&cas=3", ""),
    ("PUT", "/v1/session/create", r#"{"TTL":"1s"}"#),
    ("PUT", "/v1/session/renew/00000000-0000-0000-0000-000000000000", ""),
];

/// What came of a request.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    status: u16,
    index: Option<u64>,
    body: String,
}

impl From<Reply> for Told {
    fn from(reply: Reply) -> Told {
        Told {
            status: reply.status,
            index: reply.index,
            body: String::from_utf8_lossy(reply.body.bytes()).into_owned(),
        }
    }
}

/// A blocking query on both sides.
struct Waiting {
    query: Query,
    before: Vec<String>,
    stream: TcpStream,
    told: Receiver<Told>,
    thread: Option<JoinHandle<()>>,
    target: String,
    /// A key whose write it must return for.
    wakes: String,
    /// Nothing is expected of it any more.
    asleep: bool,
}

pub struct Rig {
    port: u16,
    model: Memory,
    began: Instant,
    /// Ours by theirs.
    ids: BTreeMap<String, String>,
    /// Theirs by ours.
    indexes: BTreeMap<u64, u64>,
    corners: u64,
    /// Theirs and ours.
    slots: [(String, String); SLOTS],
    /// Ours, of each key, as it was read last and before that.
    seen: BTreeMap<String, (u64, u64)>,
    waiting: Vec<Waiting>,
    /// The act was one that Consul does not wake every waiter for.
    misses: bool,
    compared: usize,
    statuses: BTreeMap<String, usize>,
    planted: bool,
}

impl Rig {
    pub fn new(consul: &Consul) -> Rig {
        let mut model = Memory::new(7);
        // As the harness did with theirs, so that no first index of ours is that of nothing.
        model.put(At(0), "test-harness/up", 0, b"1".to_vec(), &Mode::Plain).expect("it leads");
        model.delete("test-harness/up", None).expect("it leads");
        let absent = "00000000-0000-0000-0000-00000000dead".to_owned();
        Rig {
            port: consul.servers[0].http,
            model,
            began: Instant::now(),
            ids: BTreeMap::new(),
            indexes: BTreeMap::from([(0, 0)]),
            corners: 0,
            slots: std::array::from_fn(|_| (absent.clone(), absent.clone())),
            seen: BTreeMap::new(),
            waiting: Vec::new(),
            misses: false,
            compared: 0,
            statuses: BTreeMap::new(),
            planted: false,
        }
    }

    /// From now on the model tells a wrong LockIndex after a plain write.
    pub fn plant(&mut self) {
        self.planted = true;
    }

    pub fn compared(&self) -> usize {
        self.compared
    }

    /// Each kind of answer that the scripts are made to bring.
    pub fn assert_all_reached(&self) {
        let reached = |what: &str| self.statuses.keys().any(|key| key.contains(what));
        for what in [
            "lock is already held",
            "lock isn't held",
            "due to lock delay",
            "invalid session",
            "index is stale",
            "failed index check",
            "failed session check",
            "doesn't exist",
            "exists",
            "unknown KV verb",
            "Conflicting flags",
            "Invalid Session TTL",
            "woken",
        ] {
            assert!(reached(what), "{what} was never an answer: {:?}", self.statuses);
        }
    }

    /// A corner of its own: what ran before is out of sight.
    pub fn begin(&mut self) {
        self.corners += 1;
        self.seen.clear();
        let slots = &self.slots;
        self.ids.retain(|theirs, _| slots.iter().any(|(known, _)| known == theirs));
    }

    pub fn end(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            // A query that nobody reads any more keeps its connection until it returns, and Consul
            // takes 200 of a client: so each is ended by what it waits for.
            let _ = self.same("PUT", &format!("/v1/kv/{}", waiting.wakes), "the end");
            let returns = if waiting.asleep { Duration::ZERO } else { RETURNS };
            if waiting.told.recv_timeout(returns).is_err() {
                let _ = waiting.stream.shutdown(Shutdown::Both);
            }
            if let Some(thread) = waiting.thread.take() {
                thread.join().expect("it only reads");
            }
        }
        for slot in 0..SLOTS {
            // Whatever comes of it, it is no part of the script.
            let _ = self.act(&Act::Destroy { slot });
        }
    }

    fn key(&self, key: &str) -> String {
        format!("d{}/{key}", self.corners)
    }

    pub fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Put { key, value, flags, form } => {
                let path = format!("/v1/kv/{}?flags={flags}", self.key(key));
                let (theirs, ours) = match form {
                    Form::Plain => (String::new(), String::new()),
                    Form::Cas(at) => {
                        let (theirs, ours) = self.index(key, *at)?;
                        (format!("&cas={theirs}"), format!("&cas={ours}"))
                    }
                    Form::Acquire(slot) => self.session("&acquire=", *slot),
                    Form::Release(slot) => self.session("&release=", *slot),
                };
                let targets = (path.clone() + &theirs, path + &ours);
                self.both("PUT", targets, (value, value))?;
            }
            Act::Get { key, recurse } => {
                let flag = if *recurse { "?recurse" } else { "" };
                self.same("GET", &format!("/v1/kv/{}{flag}", self.key(key)), "")?;
            }
            Act::Keys { prefix, separator } => {
                let flag = if *separator { "&separator=/" } else { "" };
                self.same("GET", &format!("/v1/kv/{}?keys{flag}", self.key(prefix)), "")?;
            }
            Act::Delete { key, cas: None } => {
                self.same("DELETE", &format!("/v1/kv/{}", self.key(key)), "")?;
            }
            Act::Delete { key, cas: Some(at) } => {
                let (theirs, ours) = self.index(key, *at)?;
                let path = format!("/v1/kv/{}?cas=", self.key(key));
                let targets = (format!("{path}{theirs}"), format!("{path}{ours}"));
                self.both("DELETE", targets, ("", ""))?;
            }
            Act::DeleteTree { prefix } => {
                self.same("DELETE", &format!("/v1/kv/{}?recurse", self.key(prefix)), "")?;
            }
            Act::NewSession { slot, delay, deletes } => {
                self.new_session(*slot, *delay, *deletes)?
            }
            Act::Destroy { slot } => self.of_session("PUT", "destroy", *slot)?,
            Act::Renew { slot } => self.of_session("PUT", "renew", *slot)?,
            Act::Info { slot } => self.of_session("GET", "info", *slot)?,
            Act::Txn(verbs) => {
                let mut after_a_write =
                    verbs.iter().skip_while(|(verb, ..)| !verb.writes()).skip(1);
                self.misses = after_a_write.any(|(verb, ..)| *verb == Verb::DeleteTree);
                self.txn(verbs)?;
            }
            Act::Watch { key, recurse } => return self.watch(key, *recurse),
            Act::Wrong { number } => {
                let (method, target, body) = WRONG[*number];
                self.same(method, target, body)?;
            }
        }
        self.wake()
    }

    fn session(&self, name: &str, slot: usize) -> (String, String) {
        let (theirs, ours) = &self.slots[slot];
        (format!("{name}{theirs}"), format!("{name}{ours}"))
    }

    fn of_session(&mut self, method: &str, verb: &str, slot: usize) -> Result<(), String> {
        let (theirs, ours) = self.slots[slot].clone();
        let path = |id: &str| format!("/v1/session/{verb}/{id}");
        self.both(method, (path(&theirs), path(&ours)), ("", "")).map(drop)
    }

    fn new_session(&mut self, slot: usize, delay: bool, deletes: bool) -> Result<(), String> {
        let body = json!({
            "Name": format!("s{slot}"), "TTL": "24h", "NodeChecks": [],
            "LockDelay": if delay { "50s" } else { "0s" },
            "Behavior": if deletes { "delete" } else { "release" },
        });
        let body = body.to_string();
        let theirs = self.ask_real("PUT", "/v1/session/create", &body);
        let ours = self.ask_model("PUT", "/v1/session/create", &body)?;
        let id = |told: &Told| -> Option<String> {
            let value: Value = serde_json::from_str(&told.body).ok()?;
            Some(value["ID"].as_str()?.to_owned())
        };
        let (Some(their_id), Some(our_id)) = (id(&theirs), id(&ours)) else {
            return Err(format!("no session: {theirs:?} and {ours:?}"));
        };
        self.ids.insert(their_id.clone(), our_id.clone());
        self.slots[slot] = (their_id, our_id);
        Ok(())
    }

    /// A key's index on both sides, read now.
    fn index(&mut self, key: &str, at: Index) -> Result<(u64, u64), String> {
        let path = self.key(key);
        let told = self.same("GET", &format!("/v1/kv/{path}"), "")?;
        let row: Value = serde_json::from_str(&told.body).unwrap_or_default();
        let now = row[0]["ModifyIndex"].as_u64().unwrap_or(0);
        let seen = self.seen.entry(path).or_default();
        if seen.0 != now {
            *seen = (now, seen.0);
        }
        let ours = match at {
            Index::Now => seen.0,
            Index::Before => seen.1,
            Index::Zero => 0,
        };
        Ok((self.indexes[&ours], ours))
    }

    fn txn(&mut self, verbs: &[(Verb, &'static str, &'static str)]) -> Result<(), String> {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for (verb, key, value) in verbs {
            let op = |name: &str| json!({"Verb": name, "Key": self.key(key)});
            let written = |name: &str| {
                let mut op = op(name);
                op["Value"] = json!(STANDARD.encode(value));
                op
            };
            let (op, name, pair) = match verb {
                Verb::Set => (written("set"), "", None),
                Verb::Get => (op("get"), "", None),
                Verb::GetTree => (op("get-tree"), "", None),
                Verb::CheckNotExists => (op("check-not-exists"), "", None),
                Verb::Delete => (op("delete"), "", None),
                Verb::DeleteTree => (op("delete-tree"), "", None),
                Verb::Garbage => (op("get-or-forget"), "", None),
                Verb::Lock(slot) => (written("lock"), "Session", Some(self.slot(*slot))),
                Verb::Unlock(slot) => (written("unlock"), "Session", Some(self.slot(*slot))),
                Verb::CheckSession(slot) => {
                    (op("check-session"), "Session", Some(self.slot(*slot)))
                }
                Verb::Cas(at) => (written("cas"), "Index", Some(self.number(key, *at)?)),
                Verb::CheckIndex(at) => (op("check-index"), "Index", Some(self.number(key, *at)?)),
                Verb::DeleteCas(at) => (op("delete-cas"), "Index", Some(self.number(key, *at)?)),
            };
            let (mut their, mut our) = (op.clone(), op);
            if let Some((a, b)) = pair {
                their[name] = a;
                our[name] = b;
            }
            theirs.push(json!({"KV": their}));
            ours.push(json!({"KV": our}));
        }
        let (theirs, ours) = (json!(theirs).to_string(), json!(ours).to_string());
        let target = "/v1/txn".to_owned();
        self.both("PUT", (target.clone(), target), (&theirs, &ours)).map(drop)
    }

    fn slot(&self, slot: usize) -> (Value, Value) {
        let (theirs, ours) = &self.slots[slot];
        (json!(theirs), json!(ours))
    }

    fn number(&mut self, key: &str, at: Index) -> Result<(Value, Value), String> {
        let (theirs, ours) = self.index(key, at)?;
        Ok((json!(theirs), json!(ours)))
    }

    fn same(&mut self, method: &str, target: &str, body: &str) -> Result<Told, String> {
        self.both(method, (target.to_owned(), target.to_owned()), (body, body))
    }

    /// Asks both and compares; the model's answer.
    fn both(
        &mut self,
        method: &str,
        (theirs, ours): (String, String),
        (their_body, our_body): (&str, &str),
    ) -> Result<Told, String> {
        let real = self.ask_real(method, &theirs, their_body);
        let model = self.ask_model(method, &ours, our_body)?;
        self.compare(&format!("{method} {theirs}"), real, &model)?;
        Ok(model)
    }

    fn ask_real(&self, method: &str, target: &str, body: &str) -> Told {
        let mut stream = connect(self.port);
        send(&mut stream, method, target, body);
        receive(&mut stream).expect("Consul answers")
    }

    fn ask_model(&mut self, method: &str, target: &str, body: &str) -> Result<Told, String> {
        let asked = Asked { method, target, body: body.as_bytes(), node: "server-1" };
        let now = self.now();
        match self.model.answer(now, &asked) {
            Answered::Now(reply) => Ok(Told::from(reply)),
            Answered::Wait(query) => Err(format!("it waits: {query:?}")),
        }
    }

    fn now(&self) -> At {
        At(1_000_000 + self.began.elapsed().as_millis() as u64)
    }

    /// Waits on both sides for what comes after now.
    fn watch(&mut self, key: &str, recurse: bool) -> Result<(), String> {
        let path = self.key(key);
        let flag = if recurse { "recurse&" } else { "" };
        let told = self.same("GET", &format!("/v1/kv/{path}?{flag}"), "")?;
        let ours = told.index.unwrap_or(0);
        let target = format!("/v1/kv/{path}?{flag}index={}&wait={WAIT}", self.indexes[&ours]);
        let own = format!("/v1/kv/{path}?{flag}index={ours}&wait=10m");
        let asked = Asked { method: "GET", target: &own, body: &[], node: "server-1" };
        let query = match self.model.answer(self.now(), &asked) {
            Answered::Wait(query) => query,
            Answered::Now(reply) => return Err(format!("{own} does not wait: {reply:?}")),
        };
        let mut stream = connect(self.port);
        send(&mut stream, "GET", &target, "");
        let mut reader = stream.try_clone().expect("a descriptor");
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            if let Some(told) = receive(&mut reader) {
                // Nobody waits for it any more.
                let _ = sender.send(told);
            }
        });
        let before = rows(&told);
        let thread = Some(thread);
        let wakes = if recurse { format!("{path}the-end") } else { path };
        let (told, asleep) = (receiver, false);
        self.waiting.push(Waiting { query, before, stream, told, thread, target, wakes, asleep });
        Ok(())
    }

    /// After an act: whoever must have returned has, with the same, and nobody else.
    fn wake(&mut self) -> Result<(), String> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let result = waiting.iter_mut().try_for_each(|one| self.wake_one(one));
        waiting.retain(|one| one.thread.is_some());
        self.waiting = waiting;
        self.misses = false;
        result
    }

    fn wake_one(&mut self, one: &mut Waiting) -> Result<(), String> {
        let now = self.now();
        let ours = self.model.answer_waiting(now, &one.query).map(Told::from);
        let absent = one.before.is_empty() && ours.as_ref().is_none_or(|told| told.status == 404);
        let is_gone = ours.as_ref().is_some_and(|told| told.status == 404);
        let may_sleep = self.misses && is_gone && !one.target.contains("recurse");
        one.asleep |= may_sleep;
        if absent || one.asleep {
            // Consul may have woken it or not.
            return Ok(());
        }
        let theirs = match &ours {
            Some(_) => one.told.recv_timeout(RETURNS).map_err(|_| "it waits on".to_owned()),
            None => match one.told.try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => Err("its connection ended".to_owned()),
                Ok(theirs) => return Err(format!("{}: woken by nothing: {theirs:?}", one.target)),
            },
        };
        let theirs = theirs.map_err(|what| format!("{}: {what}; model: {ours:?}", one.target))?;
        if let Some(thread) = one.thread.take() {
            thread.join().expect("it only reads");
        }
        if one.before.is_empty() && theirs.status == 404 {
            // It had returned before, for nothing.
            return Ok(());
        }
        *self.statuses.entry("woken".to_owned()).or_default() += 1;
        let ours = ours.unwrap_or_else(|| theirs.clone());
        self.compare(&one.target.clone(), theirs, &ours)
    }

    fn compare(&mut self, what: &str, theirs: Told, ours: &Told) -> Result<(), String> {
        self.compared += 1;
        let differ =
            |why: String| Err(format!("{what}: {why}\n  real:  {theirs:?}\n  model: {ours:?}"));
        if theirs.status != ours.status {
            return differ("another status".to_owned());
        }
        if let (Some(theirs_at), Some(ours_at)) = (theirs.index, ours.index)
            && let Err(why) = pair(&mut self.indexes, ours_at, theirs_at)
        {
            return differ(why);
        }
        let mut body = theirs.body.clone();
        for (their_id, our_id) in &self.ids {
            body = body.replace(their_id, our_id);
        }
        let (a, b) = (parsed(&body), parsed(&ours.body));
        let mut b = b;
        if self.planted {
            plant_in(&mut b);
        }
        self.note(&a);
        match equal(&mut self.indexes, &a, &b) {
            Ok(()) => Ok(()),
            // The parser's own words about what is no request.
            Err(_) if (400..409).contains(&theirs.status) => Ok(()),
            Err(why) => differ(why),
        }
    }

    fn note(&mut self, answer: &Value) {
        match answer {
            Value::String(text) => *self.statuses.entry(text.clone()).or_default() += 1,
            Value::Object(fields) => fields.values().for_each(|it| self.note(it)),
            Value::Array(list) => list.iter().for_each(|it| self.note(it)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Keys with their indexes, as told.
fn rows(told: &Told) -> Vec<String> {
    let value: Value = serde_json::from_str(&told.body).unwrap_or_default();
    let rows = value.as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| format!("{} {}", row["Key"], row["ModifyIndex"])).collect()
}

/// Plain text is a string.
fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|_| json!(body.trim()))
}

fn plant_in(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("LockIndex").is_some_and(|it| *it == 0) && fields.contains_key("Session")
            {
                fields.insert("LockIndex".to_owned(), json!(1));
            }
            fields.values_mut().for_each(plant_in);
        }
        Value::Array(list) => list.iter_mut().for_each(plant_in),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// One number of ours is one of theirs, and their order is the same.
fn pair(indexes: &mut BTreeMap<u64, u64>, ours: u64, theirs: u64) -> Result<(), String> {
    if let Some(known) = indexes.get(&ours) {
        return match *known == theirs {
            true => Ok(()),
            false => Err(format!("index {ours} was {known} and is {theirs}")),
        };
    }
    let below = indexes.range(..ours).next_back().map(|(_, theirs)| *theirs);
    let above = indexes.range(ours..).next().map(|(_, theirs)| *theirs);
    if below.is_some_and(|below| theirs <= below) || above.is_some_and(|above| theirs >= above) {
        return Err(format!("index {ours} is {theirs}, between {below:?} and {above:?}"));
    }
    indexes.insert(ours, theirs);
    Ok(())
}

fn equal(indexes: &mut BTreeMap<u64, u64>, theirs: &Value, ours: &Value) -> Result<(), String> {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let names = |fields: &serde_json::Map<String, Value>| {
                fields.keys().cloned().collect::<std::collections::BTreeSet<_>>()
            };
            if names(a) != names(b) {
                return Err(format!("fields {:?} and {:?}", names(a), names(b)));
            }
            a.iter().try_for_each(|(name, theirs)| {
                let ours = &b[name];
                let told = match (name.ends_with("ModifyIndex") || name == "CreateIndex", ours) {
                    (true, Value::Number(_)) => {
                        let number = |it: &Value| it.as_u64().unwrap_or(u64::MAX);
                        pair(indexes, number(ours), number(theirs))
                    }
                    (_, _) => equal(indexes, theirs, ours),
                };
                told.map_err(|why| format!("{name}: {why}"))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).try_for_each(|(theirs, ours)| equal(indexes, theirs, ours))
        }
        (Value::String(a), Value::String(b)) if a.contains("modify index") => {
            let (a, theirs) = without_numbers(a);
            let (b, ours) = without_numbers(b);
            if a != b || theirs.len() != ours.len() {
                return Err(format!("{a:?} and {b:?}"));
            }
            ours.iter().zip(theirs).try_for_each(|(ours, theirs)| pair(indexes, *ours, theirs))
        }
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("{a} and {b}")),
    }
}

/// The numbers after the key's name, and the text without them.
fn without_numbers(text: &str) -> (String, Vec<u64>) {
    let (head, tail) = text.split_once("modify index").unwrap_or((text, ""));
    let numbers = tail.split(|c: char| !c.is_ascii_digit()).filter_map(|it| it.parse().ok());
    (head.to_owned(), numbers.collect())
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("Consul listens")
}

fn send(stream: &mut TcpStream, method: &str, target: &str, body: &str) {
    let length = body.len();
    let text = format!("{method} {target} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).expect("it is read");
}

/// To the end of the connection; `None`: cut before an answer.
fn receive(stream: &mut TcpStream) -> Option<Told> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let index = head.lines().find_map(|line| line.strip_prefix("X-Consul-Index: "));
    let index = index.and_then(|text| text.trim().parse().ok());
    Some(Told { status, index, body: body.to_owned() })
}

/// One request to the real one: status and body.
pub fn http(port: u16, method: &str, target: &str, body: &str) -> (u16, String) {
    let mut stream = connect(port);
    send(&mut stream, method, target, body);
    let Told { status, body, .. } = receive(&mut stream).expect("Consul answers");
    (status, body)
}
