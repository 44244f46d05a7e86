//! Ports of our own and the simplest HTTP client.

use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const HTTP_LIMIT: Duration = Duration::from_secs(1);
/// Below the range that outgoing connections take theirs from: a killed server must get its own
/// again.
const FIRST_PORT: u16 = 18_000;
const LAST_PORT: u16 = 32_000;

/// Ports that nobody listens on now.
pub struct Ports(u16);

impl Ports {
    /// Two runs at once begin at different places.
    pub fn new() -> Ports {
        Ports(FIRST_PORT + u16::try_from(std::process::id() % 8_000).unwrap_or(0))
    }

    pub fn next(&mut self) -> Result<u16> {
        while self.0 < LAST_PORT {
            self.0 += 1;
            if TcpListener::bind(("127.0.0.1", self.0)).is_ok() {
                return Ok(self.0);
            }
        }
        bail!("no free port on 127.0.0.1 between {FIRST_PORT} and {LAST_PORT}")
    }
}

/// Status and body; `None`: no complete answer within a second.
pub fn http(port: u16, method: &str, path: &str) -> Option<(u16, String)> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, HTTP_LIMIT).ok()?;
    stream.set_read_timeout(Some(HTTP_LIMIT)).ok()?;
    stream.set_write_timeout(Some(HTTP_LIMIT)).ok()?;
    // By HTTP/1.0, which spares us chunks.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
    Some((status, body))
}
