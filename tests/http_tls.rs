//! TLS on the port and between nodes: who is let in, who is believed, and certificates replaced
//! under way.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]
#![allow(dead_code, reason = "shared with tests that need more")]

use common::certs::{Ca, Leaf};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lictor::decide::peer::{Ask, PeerCall, PeerError};
use lictor::decide::types::Epoch;
use lictor::http::{Connector, PeerClient, Pem, Tls, TlsHow};
use node::*;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

mod common;
#[path = "http_peer/node.rs"]
mod node;

/// In every node's certificate.
const NAME: &str = "db.lictor";

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("it was made")
}

fn pem(ca: &Ca, leaf: Option<&Leaf>) -> Pem {
    Pem { ca: read(&ca.cert()), identity: leaf.map(|leaf| (read(&leaf.cert), read(&leaf.key))) }
}

fn how() -> TlsHow {
    TlsHow { peer_name: Some(NAME.into()), plain: false, verify_clients: false }
}

fn tls(ca: &Ca, leaf: Option<&Leaf>, how: TlsHow) -> Tls {
    Tls::new(&pem(ca, leaf), how).expect("good certificates")
}

async fn serving(tls: Tls) -> Node {
    Node::with("b", "rb", Options { tls: Some(tls), ..Options::default() }).await
}

/// `GET /primary` as anybody: the status, or why there is none.
async fn get(node: &Node, scheme: &str, tls: Option<Tls>) -> Result<u16, String> {
    let client = Client::builder(TokioExecutor::new()).build(Connector::new(tls));
    let client: Client<Connector, Empty<Bytes>> = client;
    let uri = format!("{scheme}://{}/primary", node.addr).parse().expect("a URI");
    match client.get(uri).await {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(error) => Err(format!("{error:?}")),
    }
}

async fn ping(node: &mut Node, tls: Tls) -> Result<(), PeerError> {
    // Numbers of requests count for a run: each client is another.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = format!("r{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let client = PeerClient::with_tls(auth("a", &run), Some(tls));
    let call = PeerCall { tls: true, ..node.call(Ask::Ping) };
    tokio::select! {
        answer = client.ask(call, Epoch(1)) => answer.map(|_| ()),
        () = async { loop { node.answer(pong()).await; } } => unreachable!("it answers for ever"),
    }
}

#[tokio::test]
async fn nodes_know_each_other_by_the_ca_and_the_name() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let leaf = ca.leaf(0, NAME);
    let mut node = serving(tls(&ca, Some(&leaf), how())).await;
    assert_eq!(ping(&mut node, tls(&ca, Some(&leaf), how())).await, Ok(()));
    assert_eq!(ping(&mut node, tls(&ca, None, how())).await, Ok(()), "the MAC proves the asker");

    let by_address = TlsHow { peer_name: None, ..how() };
    assert_eq!(ping(&mut node, tls(&ca, None, by_address)).await, Ok(()), "127.0.0.1 is in it");
    for (what, wrong) in [
        ("another CA", tls(&stranger, None, how())),
        ("another name", tls(&ca, None, TlsHow { peer_name: Some("other".into()), ..how() })),
    ] {
        match ping(&mut node, wrong).await {
            Err(PeerError::Unreachable(why)) => println!("{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    let plain = PeerClient::new(auth("a", "ra"));
    let call = PeerCall { tls: true, ..node.call(Ask::Ping) };
    let told = plain.ask(call, Epoch(1)).await.expect_err("there is no CA to go by");
    assert!(told.to_string().contains("no tls.ca"), "{told}");
}

#[tokio::test]
async fn plain_http_is_told_off_unless_it_is_taken_too() {
    let ca = Ca::new();
    let leaf = ca.leaf(0, NAME);
    let node = serving(tls(&ca, Some(&leaf), how())).await;
    let answer = ask_raw(node.addr, "GET", "/primary", "").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.json()["code"], "http.https-only");
    assert_eq!(get(&node, "https", Some(tls(&ca, None, how()))).await, Ok(200));

    let both = serving(tls(&ca, Some(&leaf), TlsHow { plain: true, ..how() })).await;
    assert_eq!(ask_raw(both.addr, "GET", "/primary", "").await.status, 200);
    assert_eq!(get(&both, "https", Some(tls(&ca, None, how()))).await, Ok(200));
}

#[tokio::test]
async fn only_clients_of_the_ca_are_served_where_that_is_asked() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let (leaf, foreign) = (ca.leaf(0, NAME), stranger.leaf(0, NAME));
    let node = serving(tls(&ca, Some(&leaf), TlsHow { verify_clients: true, ..how() })).await;
    assert_eq!(get(&node, "https", Some(tls(&ca, Some(&leaf), how()))).await, Ok(200));
    assert!(get(&node, "https", Some(tls(&ca, None, how()))).await.is_err(), "no certificate");
    let mixed = Pem { ca: read(&ca.cert()), ..pem(&stranger, Some(&foreign)) };
    let mixed = Tls::new(&mixed, how()).expect("good certificates");
    assert!(get(&node, "https", Some(mixed)).await.is_err(), "another CA's certificate");
}

#[tokio::test]
async fn certificates_are_replaced_under_way_and_bad_ones_change_nothing() {
    let (old, new) = (Ca::new(), Ca::new());
    let (old_leaf, new_leaf) = (old.leaf(0, NAME), new.leaf(0, NAME));
    let served = tls(&old, Some(&old_leaf), how());
    let node = serving(served.clone()).await;
    assert_eq!(get(&node, "https", Some(tls(&old, None, how()))).await, Ok(200));

    let mismatched = Pem {
        identity: Some((read(&new_leaf.cert), read(&old_leaf.key))),
        ..pem(&new, Some(&new_leaf))
    };
    let told = served.replace(&mismatched).expect_err("the key is another's").to_string();
    assert!(told.contains("tls.cert and tls.key"), "{told}");
    let told = served.replace(&Pem { ca: b"no".to_vec(), ..pem(&new, None) }).expect_err("no PEM");
    assert!(told.to_string().contains("tls.ca: no certificate"), "{told}");
    assert_eq!(get(&node, "https", Some(tls(&old, None, how()))).await, Ok(200), "as it was");

    served.replace(&pem(&new, Some(&new_leaf))).expect("good certificates");
    assert_eq!(get(&node, "https", Some(tls(&new, None, how()))).await, Ok(200));
    assert!(get(&node, "https", Some(tls(&old, None, how()))).await.is_err(), "no longer");
}
