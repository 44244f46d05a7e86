//! Who speaks: peers prove themselves by a MAC under `secrets/peer`, operators by a token.
//!
//! A peer's request carries HMAC-SHA256 over method, path, cluster id, sender, receiver, both run
//! ids, epoch, number, nonce and the body's SHA-256; each is preceded by its length, so no two
//! requests share an input. The body goes in as its digest so that the head can be proven before
//! the body is read: who has no key can't take a place from those who do. The answer is
//! authenticated likewise, over the status, the same parties, the request's nonce and the body,
//! under another label: an answer to anything else, an answer recorded earlier, or a request sent
//! back as an answer does not pass.
//!
//! A request is good for one process of one node (it names the receiver's run) and once in its life
//! (its number, see `replay`): `position` with a freeze has an effect, so a recorded one must not
//! work again.
//!
//! The key is known only after the cluster exists; until [`PeerAuth::set_key`] every peer request
//! is refused. Invariant: whatever is not proven has no effect and is counted. Must not: log or
//! show a key, a token or a MAC.

use super::nonce::{self, from_hex, to_hex};
use super::replay::Replays;
use crate::decide::types::{ClusterId, Epoch, NodeName, RunId};
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Bytes of `secrets/peer`.
pub const KEY_BYTES: usize = 32;

/// Bytes of a nonce: two never meet by chance.
const NONCE_BYTES: usize = 16;

/// The longest name, run id or number taken from a header.
const MAX_FIELD: usize = 128;

const REQUEST: &[u8] = b"lictor peer request 1";
const ANSWER: &[u8] = b"lictor peer answer 1";
const TOKEN: &[u8] = b"lictor token comparison";

const FROM: &str = "lictor-from";
const FROM_RUN: &str = "lictor-from-run";
const TO: &str = "lictor-to";
const TO_RUN: &str = "lictor-to-run";
const EPOCH: &str = "lictor-epoch";
const SEQ: &str = "lictor-seq";
const NONCE: &str = "lictor-nonce";
const BODY: &str = "lictor-body";
const MAC: &str = "lictor-mac";

/// Bytes that are never shown.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(Arc::from(bytes))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `given` is this secret, in a time that does not depend on where they differ. The
    /// empty one equals nothing.
    pub fn matches(&self, given: &[u8]) -> bool {
        let digest = |bytes: &[u8]| keyed(TOKEN).chain_update(bytes).finalize().into_bytes();
        !self.is_empty() && keyed(TOKEN).chain_update(given).verify(&digest(&self.0)).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The operators' token, as it is now: it can be replaced under way. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Token(Arc<RwLock<Option<Secret>>>);

impl Token {
    pub fn new(secret: Option<Secret>) -> Token {
        Token(Arc::new(RwLock::new(secret)))
    }

    pub fn set(&self, secret: Secret) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(secret);
    }

    /// None: actions over HTTP are off.
    pub fn get(&self) -> Option<Secret> {
        let secret = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        secret.filter(|secret| !secret.is_empty())
    }
}

/// `secrets/peer` is not a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("secrets/peer holds {0} bytes instead of {KEY_BYTES}")]
pub struct BadKey(pub usize);

/// Why a peer's request was not admitted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("this node does not know the cluster's peer key yet")]
    NoKey,
    #[error("a lictor-* header is missing or malformed")]
    Malformed,
    #[error("the MAC is wrong: another key, another cluster or a changed request")]
    WrongMac,
    #[error("the body is not the one under the MAC")]
    WrongBody,
    #[error("the request is for another node")]
    OtherReceiver,
    #[error("the request is for a former run of this node")]
    FormerRun,
    #[error("the request was seen before, or was overtaken by too many")]
    Replayed,
    /// Proven, and denied by the core: promises are given to the leader of `state/term` alone.
    #[error("the request is not from the node, run and epoch last seen in state/term")]
    OtherTerm,
}

impl Refusal {
    pub const ALL: [Refusal; 8] = [
        Refusal::NoKey,
        Refusal::Malformed,
        Refusal::WrongMac,
        Refusal::WrongBody,
        Refusal::OtherReceiver,
        Refusal::FormerRun,
        Refusal::Replayed,
        Refusal::OtherTerm,
    ];

    /// Stable, for machines.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::NoKey => "peer.no-key",
            Refusal::Malformed => "peer.malformed",
            Refusal::WrongMac => "peer.wrong-mac",
            Refusal::WrongBody => "peer.wrong-body",
            Refusal::OtherReceiver => "peer.other-receiver",
            Refusal::FormerRun => "peer.former-run",
            Refusal::Replayed => "peer.replayed",
            Refusal::OtherTerm => "peer.other-term",
        }
    }
}

/// Why no request could be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NotSigned {
    #[error(transparent)]
    NoKey(Refusal),
    #[error(transparent)]
    NoRandom(#[from] nonce::NoRandom),
    #[error("a node's name or run does not fit in a header")]
    Unfit,
}

/// This node's side of every peer conversation; clones are one.
#[derive(Clone)]
pub struct PeerAuth(Arc<Inner>);

struct Inner {
    node: NodeName,
    run: RunId,
    key: RwLock<Option<Key>>,
    seq: AtomicU64,
    replays: Mutex<Replays>,
    refused: [AtomicU64; Refusal::ALL.len()],
}

#[derive(Clone)]
struct Key {
    cluster: ClusterId,
    mac: Hmac<Sha256>,
}

/// Who asks whom, as the headers of a request say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub from: NodeName,
    pub from_run: RunId,
    pub to: NodeName,
    pub to_run: RunId,
    pub epoch: Epoch,
    pub seq: u64,
    pub nonce: String,
    /// SHA-256 of the body.
    body: Vec<u8>,
}

impl fmt::Debug for PeerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (node, run) = (&self.0.node, &self.0.run);
        f.debug_struct("PeerAuth").field("node", node).field("run", run).finish_non_exhaustive()
    }
}

impl PeerAuth {
    /// Without a key: refuses everybody.
    pub fn new(node: NodeName, run: RunId) -> PeerAuth {
        PeerAuth(Arc::new(Inner {
            node,
            run,
            key: RwLock::new(None),
            seq: AtomicU64::new(0),
            replays: Mutex::default(),
            refused: Default::default(),
        }))
    }

    /// Takes the content of `state/cluster` and `secrets/peer` into use; replaces a former one.
    pub fn set_key(&self, cluster: ClusterId, secret: &Secret) -> Result<(), BadKey> {
        if secret.0.len() != KEY_BYTES {
            return Err(BadKey(secret.0.len()));
        }
        let key = Key { cluster, mac: keyed(&secret.0) };
        *self.0.key.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(())
    }

    /// Whether peers can be asked and answered.
    pub fn has_key(&self) -> bool {
        self.key().is_some()
    }

    /// How many requests were refused for this reason since the start.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.0.refused[why as usize].load(Ordering::Relaxed)
    }

    fn key(&self) -> Option<Key> {
        self.0.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The headers of a request of this node, and what its answer is checked against.
    pub(super) fn sign(
        &self,
        (to, to_run): (&NodeName, &RunId),
        epoch: Epoch,
        path: &str,
        body: &[u8],
    ) -> Result<(Head, HeaderMap), NotSigned> {
        let key = self.key().ok_or(NotSigned::NoKey(Refusal::NoKey))?;
        let head = Head {
            from: self.0.node.clone(),
            from_run: self.0.run.clone(),
            to: to.clone(),
            to_run: to_run.clone(),
            epoch,
            seq: self.0.seq.fetch_add(1, Ordering::Relaxed) + 1,
            nonce: nonce::hex::<NONCE_BYTES>()?,
            body: Sha256::digest(body).to_vec(),
        };
        let mac = key.request(&head, "POST", path).finalize().into_bytes();
        let headers = head.headers(&mac).ok_or(NotSigned::Unfit)?;
        Ok((head, headers))
    }

    /// Who sends this request, if its head is proven; else the reason, counted. The body is still
    /// to be read and to be given to [`PeerAuth::admit_body`].
    pub(super) fn admit(
        &self,
        method: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Head, Refusal> {
        self.judge(method, path, headers).inspect_err(|why| self.count(*why))
    }

    /// Whether this is the body of the admitted head.
    pub(super) fn admit_body(&self, asked: &Head, body: &[u8]) -> Result<(), Refusal> {
        if asked.body == Sha256::digest(body).as_slice() {
            return Ok(());
        }
        self.count(Refusal::WrongBody);
        Err(Refusal::WrongBody)
    }

    pub(super) fn count(&self, why: Refusal) {
        let count = self.0.refused[why as usize].fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(event = "peer.refused", code = why.code(), count);
    }

    fn judge(&self, method: &str, path: &str, headers: &HeaderMap) -> Result<Head, Refusal> {
        let key = self.key().ok_or(Refusal::NoKey)?;
        let (head, mac) = Head::parse(headers).ok_or(Refusal::Malformed)?;
        let expected = key.request(&head, method, path);
        expected.verify_slice(&mac).map_err(|_| Refusal::WrongMac)?;
        if head.to != self.0.node {
            return Err(Refusal::OtherReceiver);
        }
        if head.to_run != self.0.run {
            return Err(Refusal::FormerRun);
        }
        let mut replays = self.0.replays.lock().unwrap_or_else(PoisonError::into_inner);
        if !replays.admit(&head.from, &head.from_run, head.seq) {
            return Err(Refusal::Replayed);
        }
        Ok(head)
    }

    /// The headers of the answer to an admitted request; none when the key is gone.
    pub(super) fn sign_answer(&self, asked: &Head, status: u16, body: &[u8]) -> HeaderMap {
        let signed = self.key().and_then(|key| {
            let mac = key.answer(asked, status, body).finalize().into_bytes();
            let mut headers = HeaderMap::new();
            headers.insert(NONCE, HeaderValue::from_str(&asked.nonce).ok()?);
            headers.insert(MAC, HeaderValue::from_str(&to_hex(&mac)).ok()?);
            Some(headers)
        });
        signed.unwrap_or_default()
    }

    /// Whether this is the answer to `asked`, from the process that was asked.
    pub(super) fn check_answer(
        &self,
        asked: &Head,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), &'static str> {
        let key = self.key().ok_or("the peer key is gone")?;
        if field(headers, NONCE) != Some(&asked.nonce) {
            return Err("the answer does not repeat the nonce");
        }
        let mac = field(headers, MAC).and_then(from_hex).ok_or("the answer has no MAC")?;
        let expected = key.answer(asked, status, body);
        expected.verify_slice(&mac).map_err(|_| "the answer's MAC is wrong")
    }
}

impl Key {
    fn request(&self, head: &Head, method: &str, path: &str) -> Hmac<Sha256> {
        let (epoch, seq) = (head.epoch.0.to_be_bytes(), head.seq.to_be_bytes());
        let fields: [&[u8]; 12] = [
            REQUEST,
            method.as_bytes(),
            path.as_bytes(),
            self.cluster.as_str().as_bytes(),
            head.from.as_str().as_bytes(),
            head.to.as_str().as_bytes(),
            head.from_run.as_str().as_bytes(),
            head.to_run.as_str().as_bytes(),
            &epoch,
            &seq,
            head.nonce.as_bytes(),
            &head.body,
        ];
        self.over(&fields)
    }

    /// The answering node is the one asked: its name and run come from the request.
    fn answer(&self, asked: &Head, status: u16, body: &[u8]) -> Hmac<Sha256> {
        let status = status.to_be_bytes();
        let fields: [&[u8]; 9] = [
            ANSWER,
            &status,
            self.cluster.as_str().as_bytes(),
            asked.to.as_str().as_bytes(),
            asked.from.as_str().as_bytes(),
            asked.to_run.as_str().as_bytes(),
            asked.from_run.as_str().as_bytes(),
            asked.nonce.as_bytes(),
            body,
        ];
        self.over(&fields)
    }

    fn over(&self, fields: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for bytes in fields {
            let length = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
            mac.update(&length.to_be_bytes());
            mac.update(bytes);
        }
        mac
    }
}

impl Head {
    fn headers(&self, mac: &[u8]) -> Option<HeaderMap> {
        let fields = [
            (FROM, self.from.to_string()),
            (FROM_RUN, self.from_run.to_string()),
            (TO, self.to.to_string()),
            (TO_RUN, self.to_run.to_string()),
            (EPOCH, self.epoch.to_string()),
            (SEQ, self.seq.to_string()),
            (NONCE, self.nonce.clone()),
            (BODY, to_hex(&self.body)),
            (MAC, to_hex(mac)),
        ];
        let mut headers = HeaderMap::with_capacity(fields.len());
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_str(&value).ok()?);
        }
        Some(headers)
    }

    fn parse(headers: &HeaderMap) -> Option<(Head, Vec<u8>)> {
        let head = Head {
            from: NodeName::new(field(headers, FROM)?),
            from_run: RunId::new(field(headers, FROM_RUN)?),
            to: NodeName::new(field(headers, TO)?),
            to_run: RunId::new(field(headers, TO_RUN)?),
            epoch: Epoch(field(headers, EPOCH)?.parse().ok()?),
            seq: field(headers, SEQ)?.parse().ok()?,
            nonce: field(headers, NONCE)?.to_owned(),
            body: from_hex(field(headers, BODY)?)?,
        };
        Some((head, from_hex(field(headers, MAC)?)?))
    }
}

/// A header that is there once, not empty and not too long.
fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    let single = values.next().is_none();
    (single && !value.is_empty() && value.len() <= MAX_FIELD).then_some(value)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(node: &str, run: &str) -> PeerAuth {
        let auth = PeerAuth::new(NodeName::new(node), RunId::new(run));
        auth.set_key(ClusterId::new("c"), &Secret::new(&[7; KEY_BYTES])).expect("32 bytes");
        auth
    }

    fn asked(asker: &PeerAuth) -> (Head, HeaderMap) {
        let to = (&NodeName::new("b"), &RunId::new("rb"));
        asker.sign(to, Epoch(3), "/peer/ping", b"body").expect("signed")
    }

    #[test]
    fn every_part_of_a_request_is_bound() {
        let (a, b) = (auth("a", "ra"), auth("b", "rb"));
        let (_, headers) = asked(&a);
        for name in [FROM, FROM_RUN, TO, TO_RUN, EPOCH, SEQ, NONCE, BODY] {
            let mut changed = headers.clone();
            changed.insert(name, HeaderValue::from_static("99"));
            let refusal = b.admit("POST", "/peer/ping", &changed);
            assert_eq!(refusal, Err(Refusal::WrongMac), "{name}");
            changed.remove(name);
            let refusal = b.admit("POST", "/peer/ping", &changed);
            assert_eq!(refusal, Err(Refusal::Malformed), "{name}");
        }
        for (method, path) in [("PUT", "/peer/ping"), ("POST", "/peer/position")] {
            let refusal = b.admit(method, path, &headers);
            assert_eq!(refusal, Err(Refusal::WrongMac), "{method} {path}");
        }
        assert_eq!((b.refused(Refusal::WrongMac), b.refused(Refusal::Malformed)), (10, 8));
        let head = b.admit("POST", "/peer/ping", &headers).expect("as it was sent");
        assert_eq!(b.admit_body(&head, b"body"), Ok(()));
        assert_eq!(b.admit_body(&head, b"bodY"), Err(Refusal::WrongBody));
        assert_eq!(b.refused(Refusal::WrongBody), 1);
        let again = b.admit("POST", "/peer/ping", &headers);
        assert_eq!(again, Err(Refusal::Replayed));
    }

    #[test]
    fn bytes_do_not_move_between_fields() {
        let key = auth("a", "ra").key().expect("set");
        let one = key.over(&[b"ab", b"c"]).finalize().into_bytes();
        assert_ne!(one, key.over(&[b"a", b"bc"]).finalize().into_bytes());
    }

    #[test]
    fn a_request_is_for_one_node_and_one_run_and_one_cluster() {
        let (_, headers) = asked(&auth("a", "ra"));
        let other = auth("b", "rb");
        other.set_key(ClusterId::new("d"), &Secret::new(&[7; KEY_BYTES])).expect("32 bytes");
        let keyless = PeerAuth::new(NodeName::new("b"), RunId::new("rb"));
        for (receiver, why) in [
            (auth("c", "rb"), Refusal::OtherReceiver),
            (auth("b", "later"), Refusal::FormerRun),
            (other, Refusal::WrongMac),
            (keyless, Refusal::NoKey),
        ] {
            assert_eq!(receiver.admit("POST", "/peer/ping", &headers), Err(why));
            assert_eq!(receiver.refused(why), 1);
        }
    }

    #[test]
    fn an_answer_fits_one_request_and_a_request_is_no_answer() {
        let (a, b) = (auth("a", "ra"), auth("b", "rb"));
        let ((first, _), (second, request)) = (asked(&a), asked(&a));
        let answer = b.sign_answer(&first, 200, b"pong");
        assert_eq!(a.check_answer(&first, 200, &answer, b"pong"), Ok(()));
        assert!(a.check_answer(&second, 200, &answer, b"pong").is_err());
        assert!(a.check_answer(&first, 201, &answer, b"pong").is_err());
        assert!(a.check_answer(&first, 200, &answer, b"ping").is_err());
        assert!(a.check_answer(&second, 200, &request, b"body").is_err());
        let mut forged = answer;
        forged.insert(NONCE, HeaderValue::from_str(&second.nonce).expect("hex"));
        assert!(a.check_answer(&second, 200, &forged, b"pong").is_err());
    }

    #[test]
    fn secrets_are_not_shown_and_short_keys_refused() {
        let secret = Secret::new(b"hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter") && !secret.matches(b""));
        assert!(!Secret::new(b"").matches(b""));
        let auth = PeerAuth::new(NodeName::new("a"), RunId::new("r"));
        assert_eq!(auth.set_key(ClusterId::new("c"), &secret), Err(BadKey(7)));
        assert!(!auth.has_key() && !format!("{auth:?}").contains("key"));
    }
}
