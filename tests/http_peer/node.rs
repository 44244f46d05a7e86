//! A node's HTTP side with the test as its driver, raw requests, and a tape between two nodes.

use lictor::decide::peer::{Ask, PeerCall, Told};
use lictor::decide::reason::Reason;
use lictor::decide::time::{At, Span};
use lictor::decide::types::{ClusterId, Epoch, NodeName, RunId};
use lictor::http::{
    App, Board, Clock, Feed, Incoming, Metrics, Parts, PeerAuth, Published, Role, Secret, Server,
    Tls, Token,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub const KEY: [u8; 32] = [7; 32];

/// The deadline of [`published`].
pub const DEADLINE: At = At(5_000);

/// Nothing here takes that long unless it hangs.
const GENEROUS: Duration = Duration::from_secs(60);

pub struct Node {
    pub addr: SocketAddr,
    pub board: Board,
    #[allow(dead_code, reason = "tests of the journal's pages alone use it")]
    pub feed: Feed,
    pub auth: PeerAuth,
    pub incoming: mpsc::Receiver<Incoming>,
    name: NodeName,
    run: RunId,
    server: JoinHandle<()>,
}

pub struct Options {
    pub clock: Clock,
    pub token: Option<&'static str>,
    pub keyless: bool,
    pub tls: Option<Tls>,
}

/// A peer's question as it reached the driver.
pub struct Asked {
    pub from: NodeName,
    pub run: RunId,
    pub epoch: Epoch,
    pub ask: Ask,
}

/// An HTTP answer, read to its end; status 0 when there was none.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// What went over one proxied connection.
pub struct Tape {
    addr: SocketAddr,
    request: Arc<Mutex<Vec<u8>>>,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Default for Options {
    fn default() -> Options {
        Options { clock: || At(1_000), token: None, keyless: false, tls: None }
    }
}

impl Options {
    pub fn parts(&self, name: &str, run: &str) -> Parts {
        let keyless = PeerAuth::new(NodeName::new(name), RunId::new(run));
        Parts {
            board: Board::new(published(name), At(1_000)),
            auth: if self.keyless { keyless } else { auth(name, run) },
            clock: self.clock,
            token: Token::new(self.token.map(|token| Secret::new(token.as_bytes()))),
            tls: self.tls.clone(),
            metrics: Metrics::default(),
            feed: Feed::default(),
        }
    }
}

impl Node {
    pub async fn start(name: &str, run: &str) -> Node {
        Node::with(name, run, Options::default()).await
    }

    pub async fn with(name: &str, run: &str, options: Options) -> Node {
        let parts = options.parts(name, run);
        let (board, auth, feed) = (parts.board.clone(), parts.auth.clone(), parts.feed.clone());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (server, incoming) = Server::bind(any, parts).await.expect("a free port");
        let addr = server.addr();
        let server = tokio::spawn(server.run());
        let (name, run) = (NodeName::new(name), RunId::new(run));
        Node { addr, board, feed, auth, incoming, name, run, server }
    }

    pub fn call(&self, ask: Ask) -> PeerCall {
        call_to(&self.addr.to_string(), self.name.as_str(), self.run.as_str(), ask)
    }

    /// Takes the next question and answers it.
    pub async fn answer(&mut self, told: Told) -> Asked {
        match within(self.incoming.recv()).await {
            Some(Incoming::Peer { from, run, epoch, ask, reply, .. }) => {
                let _ = reply.send(told);
                Asked { from, run, epoch, ask }
            }
            other => panic!("not a peer's question: {other:?}"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Answer {
    fn parse(raw: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(raw);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }
}

impl Tape {
    /// A proxy to `to` that keeps what passes.
    pub async fn record(to: SocketAddr) -> Tape {
        let (listener, addr) = listen().await;
        let (request, answer) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::default());
        let (asked, told) = (Arc::clone(&request), Arc::clone(&answer));
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a client");
            let server = TcpStream::connect(to).await.expect("the node");
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(pass(from_client, to_server, asked), pass(from_server, to_client, told));
        });
        Tape { addr, request, answer }
    }

    /// The same question, by way of the proxy.
    pub fn call(&self, call: PeerCall) -> PeerCall {
        PeerCall { addr: self.addr.to_string(), ..call }
    }

    pub fn request(&self) -> Vec<u8> {
        let request = self.request.lock().expect("no panic before");
        assert!(!request.is_empty(), "nothing was recorded");
        request.clone()
    }

    /// A server that gives the recorded answer to whatever it is asked; `forge`: under the
    /// question's own nonce.
    pub async fn liar(&self, forge: bool) -> SocketAddr {
        let (listener, addr) = listen().await;
        let answer = self.answer.lock().expect("no panic before").clone();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut question = Vec::new();
            while !question.ends_with(b"}") {
                stream.read_buf(&mut question).await.expect("a question");
            }
            let mut answer = String::from_utf8(answer).expect("text");
            if forge {
                let asked = Answer::parse(&question).header("lictor-nonce").expect("a nonce");
                let told = Answer::parse(answer.as_bytes()).header("lictor-nonce");
                answer = answer.replace(&told.expect("a nonce"), &asked);
            }
            stream.write_all(answer.as_bytes()).await.expect("sent");
        });
        addr
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    tape: Arc<Mutex<Vec<u8>>>,
) {
    let mut chunk = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        tape.lock().expect("no panic before").extend_from_slice(&chunk[..read]);
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// Fails the test instead of hanging.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(GENEROUS, work).await.expect("it hangs")
}

pub async fn ask_raw(addr: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    ask_with_header(addr, method, path, "X-Nothing: 1", body).await
}

pub async fn ask_with_token(
    addr: SocketAddr,
    token: &'static str,
    path: &'static str,
    body: &'static str,
) -> Answer {
    ask_with_header(addr, "POST", path, &format!("Authorization: Bearer {token}"), body).await
}

pub async fn ask_with_header(
    addr: SocketAddr,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{header}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    send_raw(addr, request.as_bytes()).await
}

/// Sends these bytes and reads until the whole answer is there or the other side closes.
pub async fn send_raw(addr: SocketAddr, request: &[u8]) -> Answer {
    within(async {
        let Ok(mut stream) = TcpStream::connect(addr).await else {
            return Answer::parse(b"");
        };
        // The other side may answer and close before it has read all.
        let _ = stream.write_all(request).await;
        let mut raw = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut raw).await {
            if whole(&raw, request) {
                break;
            }
        }
        Answer::parse(&raw)
    })
    .await
}

fn whole(raw: &[u8], request: &[u8]) -> bool {
    let answer = Answer::parse(raw);
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    let expected = if request.starts_with(b"HEAD") { Some(0) } else { length };
    raw.windows(4).any(|end| end == b"\r\n\r\n") && expected == Some(answer.body.len())
}

pub fn cluster() -> ClusterId {
    ClusterId::new("c")
}

pub fn auth(name: &str, run: &str) -> PeerAuth {
    let auth = PeerAuth::new(NodeName::new(name), RunId::new(run));
    auth.set_key(cluster(), &Secret::new(&KEY)).expect("a key of 32 bytes");
    auth
}

pub fn call_to(addr: &str, name: &str, run: &str, ask: Ask) -> PeerCall {
    PeerCall {
        to: NodeName::new(name),
        run: RunId::new(run),
        addr: addr.to_owned(),
        tls: false,
        ask,
        timeout: Span::secs(20),
    }
}

/// A healthy primary.
pub fn published(name: &str) -> Published {
    Published {
        node: NodeName::new(name),
        role: Role::Primary,
        state: "running".into(),
        epoch: Epoch(3),
        deadline: Some(DEADLINE),
        sync: true,
        lag_seconds: None,
        app: App::Healthy,
        ready: true,
        leader: Some(NodeName::new(name)),
        leader_since: At(900),
        reason: Reason::new("test.reason", "a test says so"),
        status: Arc::new(serde_json::json!({"all": "of it"})),
        config: Arc::new(serde_json::json!({})),
    }
}

pub fn pong() -> Told {
    Told::Pong {
        epoch: Epoch(3),
        state: "running".into(),
        lag_seconds: Some(1.5),
        healthy: true,
        notes: 0,
    }
}

pub fn position() -> Told {
    let text = "0-1-77".to_owned();
    Told::Position { order: 77, text, lag_seconds: Some(0.5), priority: 100, frozen: true }
}

pub fn refused() -> Told {
    Told::Refused { reason: "a former term".into() }
}
