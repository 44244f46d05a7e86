//! A proxy between a client and Consul that loses, delays and doubles real requests.
//!
//! It works by whole HTTP requests: each is read to its end, noted, and then treated by the mode of
//! that moment. Every request goes over a connection of its own to the target, so none hides behind
//! another.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a waiting thread looks whether the proxy is still there.
const TICK: Duration = Duration::from_millis(20);
/// Longer than any blocking query of a test.
const REPLY_LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Pass,
    /// The request is carried out; its reply never comes, the connection stays open.
    DropReply,
    /// The request is carried out; the connection is closed instead of a reply.
    CutReply,
    /// The request arrives later; the reply is returned.
    DelayRequest(Duration),
    /// The reply is returned; a copy of the request arrives later, its reply is lost.
    Duplicate(Duration),
    /// The request is noted and goes nowhere; the connection stays open.
    BlackHole,
}

struct Shared {
    target: SocketAddr,
    mode: Mutex<Mode>,
    seen: Mutex<Vec<Vec<u8>>>,
    is_over: AtomicBool,
}

/// Listens on a free port of 127.0.0.1 until dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn start(target_port: u16) -> Proxy {
        let port = super::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is ours");
        let shared = Arc::new(Shared {
            target: SocketAddr::from(([127, 0, 0, 1], target_port)),
            mode: Mutex::new(Mode::Pass),
            seen: Mutex::new(Vec::new()),
            is_over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(stream), shared) = (stream, accepting.clone()) else { continue };
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Proxy { port, shared }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().expect("nothing panics while it holds this") = mode;
    }

    /// Every request so far, byte by byte.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.shared.seen.lock().expect("nothing panics while it holds this").clone()
    }

    /// The last request whose first line contains `part`.
    pub fn last_seen(&self, part: &str) -> Vec<u8> {
        let is_it = |request: &&Vec<u8>| {
            let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
            String::from_utf8_lossy(line).contains(part)
        };
        self.seen().iter().rfind(is_it).expect("such a request was made").clone()
    }

    /// Sends a copy of a request now: late or doubled, as the test has it. Status and body.
    pub fn deliver(&self, request: &[u8]) -> (u16, String) {
        let reply = exchange(self.shared.target, request).expect("the target answers");
        let text = String::from_utf8_lossy(&reply).into_owned();
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_string());
        (status.expect("a status line"), body.unwrap_or_default())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; it sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(shared: &Shared, mut client: TcpStream) {
    let _ = client.set_nodelay(true);
    let _ = client.set_read_timeout(Some(TICK));
    while let Some(request) = read_request(shared, &mut client) {
        shared.seen.lock().expect("nothing panics while it holds this").push(request.clone());
        let mode = *shared.mode.lock().expect("nothing panics while it holds this");
        let reply = match mode {
            Mode::BlackHole => None,
            Mode::DelayRequest(delay) => {
                thread::sleep(delay);
                exchange(shared.target, &request)
            }
            Mode::Pass | Mode::DropReply | Mode::CutReply | Mode::Duplicate(_) => {
                exchange(shared.target, &request)
            }
        };
        let now = *shared.mode.lock().expect("nothing panics while it holds this");
        match (mode, now, reply) {
            (_, Mode::BlackHole, _) | (Mode::BlackHole | Mode::DropReply, ..) => {
                hang(shared, &mut client);
                return;
            }
            (Mode::CutReply, _, _) | (_, _, None) => {
                let _ = client.shutdown(Shutdown::Both);
                return;
            }
            (_, _, Some(reply)) => {
                if client.write_all(&reply).is_err() {
                    return;
                }
            }
        }
        if let Mode::Duplicate(delay) = mode {
            let target = shared.target;
            thread::spawn(move || {
                thread::sleep(delay);
                exchange(target, &request)
            });
        }
    }
}

/// Keeps the connection open until the client or the proxy ends it.
fn hang(shared: &Shared, client: &mut TcpStream) {
    let mut byte = [0];
    while !shared.is_over.load(Ordering::SeqCst) {
        match client.read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

/// One request: its head and as many bytes as `Content-Length` says. `None`: the client is done.
fn read_request(shared: &Shared, client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(end) = find(&request, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |text| text.trim().parse().unwrap_or(0));
            if request.len() >= end + 4 + length {
                return Some(request);
            }
        }
        match client.read(&mut chunk) {
            Ok(0) => return None,
            Ok(count) => request.extend_from_slice(&chunk[..count]),
            Err(error) if is_timeout(&error) && !shared.is_over.load(Ordering::SeqCst) => {}
            Err(_) => return None,
        }
    }
}

/// Sends a request with `Connection: close` and reads to the end; the reply comes back without that
/// line, for the client's own connection goes on.
fn exchange(target: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let mut server = TcpStream::connect(target).ok()?;
    server.set_read_timeout(Some(REPLY_LIMIT)).ok()?;
    let end = find(request, b"\r\n")?;
    server.write_all(&request[..end + 2]).ok()?;
    server.write_all(b"Connection: close\r\n").ok()?;
    server.write_all(&request[end + 2..]).ok()?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply).ok()?;
    let line = b"Connection: close\r\n";
    if let Some(at) = find(&reply, line) {
        reply.drain(at..at + line.len());
    }
    (!reply.is_empty()).then_some(reply)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
