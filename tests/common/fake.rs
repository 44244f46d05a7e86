//! Listeners that are no Consul: for what a connection can do between "refused" and "answered".

use super::free_port;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// For what comes at once.
const SOON: Duration = Duration::from_secs(5);

/// A listener whose queue is full: a connection to it is neither refused nor made.
pub struct FullListener {
    listener: tokio::net::TcpListener,
    held: Vec<tokio::net::TcpStream>,
    port: u16,
}

impl FullListener {
    pub async fn start() -> FullListener {
        let port = free_port();
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], port).into()).expect("the port is ours");
        let listener = socket.listen(0).expect("it listens");
        let mut held = Vec::new();
        let patience = Duration::from_millis(300);
        while let Ok(stream) =
            tokio::time::timeout(patience, tokio::net::TcpStream::connect(("127.0.0.1", port)))
                .await
        {
            held.push(stream.expect("taken by the queue"));
            assert!(held.len() < 16, "the queue never fills");
        }
        FullListener { listener, held, port }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Empties the queue and returns all that anybody sent, the held connections aside.
    pub async fn received(mut self) -> String {
        self.held.clear();
        let mut text = String::new();
        // SYNs are sent again after 1 s and 3 s; later ones of a dropped attempt can't come.
        let patience = Duration::from_millis(3_500);
        while let Ok(Ok((mut stream, _))) =
            tokio::time::timeout(patience, self.listener.accept()).await
        {
            let mut bytes = Vec::new();
            let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }
}

/// Answers one request of each connection, then closes it without having said so.
pub struct ClosingServer {
    port: u16,
    seen: Arc<Mutex<(usize, Vec<String>)>>,
}

impl ClosingServer {
    pub fn start() -> ClosingServer {
        ClosingServer::with(1)
    }

    pub fn start_keeping() -> ClosingServer {
        ClosingServer::with(usize::MAX)
    }

    fn with(requests: usize) -> ClosingServer {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is ours");
        let seen = Arc::new(Mutex::new((0, Vec::new())));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().expect("no panic inside").0 += 1;
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream, requests, &shared));
            }
        });
        ClosingServer { port, seen }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().expect("no panic inside").0
    }

    /// How often the write of `value-<n>` arrived.
    pub fn count(&self, n: usize) -> usize {
        let value = STANDARD.encode(format!("value-{n}"));
        let value = format!("\"{value}\"");
        let seen = self.seen.lock().expect("no panic inside");
        seen.1.iter().filter(|request| request.contains(&value)).count()
    }
}

fn answer(mut stream: TcpStream, requests: usize, seen: &Mutex<(usize, Vec<String>)>) {
    let entry = json!({"KV": {"Key": "lictor/orders/a", "Value": null, "ModifyIndex": 1}});
    let body = json!({"Results": [entry], "Errors": null}).to_string();
    for _ in 0..requests {
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        // The body is a JSON list, so its end is known by its last character.
        while !request.ends_with(b"}]") {
            match stream.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => request.extend_from_slice(&chunk[..count]),
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        seen.lock().expect("no panic inside").1.push(text);
        let length = body.len();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    }
}
