//! The HTTP side on real sockets: what load balancers see, what peers can prove, and what nobody
//! can exhaust.

#![allow(clippy::disallowed_methods, reason = "a test waits and spawns by itself")]

use lictor::decide::action::Action;
use lictor::decide::peer::{Ask, PeerCall, PeerError};
use lictor::decide::reason::Reason;
use lictor::decide::time::{At, Span};
use lictor::decide::types::{Epoch, NodeName, RunId};
use lictor::http::limits::{BODY_BYTES, CONNECTIONS, CONNECTIONS_PER_ADDRESS, IN_FLIGHT};
use lictor::http::{
    ActionReply, App, BindError, Incoming, PeerAuth, PeerClient, Published, Refusal, Role, Secret,
    Server,
};
use node::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[path = "http_peer/node.rs"]
mod node;
#[path = "http_peer/promise.rs"]
mod promise;

/// What load balancers ask by default, and every page by every method that reads.
#[tokio::test]
async fn pages_answer_get_head_and_options() {
    let node = Node::start("b", "rb").await;
    for path in ["/primary", "/read-only", "/sync", "/health", "/readiness", "/liveness", "/status"]
    {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let answer = ask_raw(node.addr, method, path, "").await;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
            assert_eq!(answer.body.is_empty(), method == "HEAD", "{method} {path}");
            assert!(answer.body.lines().count() <= 1, "{answer:?}");
        }
    }
    let shown = ask_raw(node.addr, "GET", "/primary", "").await.json();
    assert_eq!(
        (&shown["role"], &shown["epoch"], &shown["node"], &shown["reason"]["code"]),
        (&"primary".into(), &3.into(), &"b".into(), &"test.reason".into()),
    );
    assert_eq!(ask_raw(node.addr, "GET", "/status", "").await.json()["all"], "of it");
    assert_eq!(ask_raw(node.addr, "GET", "/replica", "").await.status, 503);
}

#[tokio::test]
async fn the_root_answers_as_primary_but_for_get() {
    let node = Node::start("b", "rb").await;
    for (role, status) in [(Role::Primary, 200), (Role::Replica, 503)] {
        node.board.publish(Published { role, ..published("b") });
        for method in ["HEAD", "OPTIONS"] {
            assert_eq!(ask_raw(node.addr, method, "/", "").await.status, status, "{method}");
        }
    }
    let page = ask_raw(node.addr, "GET", "/", "").await;
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    // For whom runs no script.
    assert!(page.body.contains("Last reason of b: a test says so"), "{page:?}");
}

/// No step happens between the two answers: the clock alone turns the second.
#[tokio::test]
async fn primary_ends_at_the_deadline_without_a_step() {
    static NOW: AtomicU64 = AtomicU64::new(DEADLINE.0 - 1);
    let node = Node::with(
        "b",
        "rb",
        Options { clock: || At(NOW.load(Ordering::SeqCst)), ..Options::default() },
    )
    .await;
    assert_eq!(ask_raw(node.addr, "GET", "/primary", "").await.status, 200);
    NOW.store(DEADLINE.0, Ordering::SeqCst);
    for path in ["/primary", "/read-only", "/sync"] {
        let answer = ask_raw(node.addr, "GET", path, "").await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.body.contains("the deadline passed 0 ms ago"), "{answer:?}");
    }
    assert_eq!(ask_raw(node.addr, "OPTIONS", "/", "").await.status, 503);
}

#[tokio::test]
async fn a_replica_is_judged_by_its_lag() {
    let node = Node::start("b", "rb").await;
    let replica = Published { role: Role::Replica, deadline: None, ..published("b") };
    for (lag, path, status) in [
        (None, "/replica", 200),
        (None, "/replica?lag=5", 503),
        (None, "/read-only?lag=5", 503),
        (Some(4.5), "/replica?lag=5", 200),
        (Some(4.5), "/replica?lag=4", 503),
        (Some(4.5), "/replica?lag=soon", 400),
        (Some(4.5), "/replica?lag=-1", 400),
        (Some(4.5), "/primary", 503),
    ] {
        node.board.publish(Published { lag_seconds: lag, ..replica.clone() });
        assert_eq!(ask_raw(node.addr, "GET", path, "").await.status, status, "{lag:?} {path}");
    }
    node.board.publish(Published { app: App::Down, sync: false, ready: false, ..replica });
    for path in ["/replica", "/read-only", "/sync", "/health", "/readiness"] {
        assert_eq!(ask_raw(node.addr, "GET", path, "").await.status, 503, "{path}");
    }
}

#[tokio::test]
async fn liveness_looks_at_the_steps_alone() {
    static NOW: AtomicU64 = AtomicU64::new(1_000);
    let clock = || At(NOW.load(Ordering::SeqCst));
    let node = Node::with("b", "rb", Options { clock, ..Options::default() }).await;
    node.board.publish(Published { app: App::Down, role: Role::None, ..published("b") });
    node.board.stepped(At(2_000));
    for (now, status) in [(12_000, 200), (12_001, 503)] {
        NOW.store(now, Ordering::SeqCst);
        assert_eq!(ask_raw(node.addr, "GET", "/liveness", "").await.status, status, "{now}");
    }
    node.board.stepped(At(12_001));
    assert_eq!(ask_raw(node.addr, "GET", "/liveness", "").await.status, 200);
}

#[tokio::test]
async fn wrong_methods_and_absent_paths_say_so() {
    let node = Node::start("b", "rb").await;
    for (method, path, allow) in [
        ("POST", "/primary", "GET"),
        ("DELETE", "/status", "OPTIONS"),
        ("GET", "/switchover", "POST"),
        ("PUT", "/peer/ping", "POST"),
        ("POST", "/", "HEAD"),
    ] {
        let answer = ask_raw(node.addr, method, path, "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some_and(|all| all.contains(allow)), "{answer:?}");
        assert_eq!(answer.json()["code"], "http.wrong-method");
    }
    for (path, says) in [("/ring", "not in this version"), ("/nothing", "there is no /nothing")] {
        let answer = ask_raw(node.addr, "GET", path, "").await;
        assert_eq!(answer.status, 404);
        assert!(answer.json()["error"].as_str().is_some_and(|text| text.contains(says)));
    }
    let later = ask_raw(node.addr, "POST", "/peer/grant", "").await;
    assert_eq!(later.status, 404);
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_mend() {
    let holder = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = holder.local_addr().expect("bound");
    let parts = Options::default().parts("b", "rb");
    let refused = Server::bind(addr, parts.clone()).await.expect_err("taken");
    assert!(matches!(refused, BindError::Taken(taken) if taken == addr));
    let text = refused.to_string();
    assert!(text.contains(&addr.to_string()) && text.contains("the port is taken"), "{text}");
    let elsewhere = "192.0.2.1:0".parse().expect("an address");
    assert!(matches!(Server::bind(elsewhere, parts).await, Err(BindError::NotHere(_))));
}

#[tokio::test]
async fn peers_ask_and_are_answered() {
    let mut node = Node::start("b", "rb").await;
    let client = PeerClient::new(auth("a", "ra"));
    let freeze = Ask::Position { freeze: true, epoch: Epoch(4), run: RunId::new("ra") };
    for (ask, told) in [(Ask::Ping, pong()), (freeze, position()), (Ask::Ping, refused())] {
        let call = client.ask(node.call(ask.clone()), Epoch(7));
        let (answer, event) = tokio::join!(call, node.answer(told.clone()));
        assert_eq!(answer, Ok(told));
        assert_eq!((event.from.as_str(), event.run.as_str(), event.epoch), ("a", "ra", Epoch(7)));
        assert_eq!(event.ask, ask);
    }
    let (answer, _) =
        tokio::join!(client.ask(node.call(Ask::Ping), Epoch(7)), node.answer(position()));
    assert!(matches!(answer, Err(PeerError::Bad(_))), "another kind: {answer:?}");
}

#[tokio::test]
async fn who_is_not_proven_has_no_effect_and_is_counted() {
    let mut node = Node::start("b", "rb").await;
    let wrong = PeerAuth::new(NodeName::new("a"), RunId::new("ra"));
    wrong.set_key(cluster(), &Secret::new(&[8; 32])).expect("a key");
    let right = auth("a", "ra");
    let ping = node.call(Ask::Ping);
    let former = PeerCall { run: RunId::new("former"), ..ping.clone() };
    let other = PeerCall { to: NodeName::new("c"), ..ping.clone() };
    for (auth, call, why) in [
        (&wrong, &ping, Refusal::WrongMac),
        (&right, &former, Refusal::FormerRun),
        (&right, &other, Refusal::OtherReceiver),
    ] {
        let answer = PeerClient::new(auth.clone()).ask(call.clone(), Epoch(1)).await;
        assert_eq!(answer, Err(PeerError::Unauthenticated(why.to_string())));
        assert_eq!(node.auth.refused(why), 1);
    }
    let bare = ask_raw(node.addr, "POST", "/peer/ping", r#"{"ask":"ping"}"#).await;
    assert_eq!((bare.status, node.auth.refused(Refusal::Malformed)), (401, 1));
    assert!(node.incoming.try_recv().is_err(), "none of it reached the driver");
}

#[tokio::test]
async fn without_a_key_nobody_is_admitted_and_nothing_asked() {
    let mut node = Node::with("b", "rb", Options { keyless: true, ..Options::default() }).await;
    let client = PeerClient::new(auth("a", "ra"));
    let answer = client.ask(node.call(Ask::Ping), Epoch(1)).await;
    assert_eq!(answer, Err(PeerError::Unauthenticated(Refusal::NoKey.to_string())));
    assert_eq!(node.auth.refused(Refusal::NoKey), 1);
    let keyless = PeerClient::new(node.auth.clone());
    let answer = keyless.ask(node.call(Ask::Ping), Epoch(1)).await;
    assert!(matches!(answer, Err(PeerError::Unauthenticated(_))));
    assert!(node.incoming.try_recv().is_err());
    node.auth.set_key(cluster(), &Secret::new(&KEY)).expect("a key");
    let (answer, _) = tokio::join!(client.ask(node.call(Ask::Ping), Epoch(1)), node.answer(pong()));
    assert_eq!(answer, Ok(pong()), "the key came at run time");
}

/// The recorded bytes of a freeze, sent again on a connection of their own.
#[tokio::test]
async fn a_replayed_request_freezes_nobody() {
    let mut node = Node::start("b", "rb").await;
    let tape = Tape::record(node.addr).await;
    let client = PeerClient::new(auth("a", "ra"));
    let freeze = Ask::Position { freeze: true, epoch: Epoch(4), run: RunId::new("ra") };
    let call = tape.call(node.call(freeze));
    let (answer, _) = tokio::join!(client.ask(call, Epoch(4)), node.answer(position()));
    assert_eq!(answer, Ok(position()));
    let again = send_raw(node.addr, &tape.request()).await;
    assert_eq!((again.status, again.json()["code"].as_str()), (401, Some("peer.replayed")));
    assert_eq!(node.auth.refused(Refusal::Replayed), 1);
    assert!(node.incoming.try_recv().is_err());
}

/// A true head that never arrived, then sent with a body of somebody else.
#[tokio::test]
async fn another_body_under_a_true_head_freezes_nobody() {
    let mut node = Node::start("b", "rb").await;
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let tape = Tape::record(mute.local_addr().expect("bound")).await;
    let unfrozen = Ask::Position { freeze: false, epoch: Epoch(4), run: RunId::new("ra") };
    let call = PeerCall { timeout: Span::secs(2), ..tape.call(node.call(unfrozen)) };
    let lost = PeerClient::new(auth("a", "ra")).ask(call, Epoch(4)).await;
    assert!(matches!(lost, Err(PeerError::Timeout(_))), "{lost:?}");
    let text = String::from_utf8(tape.request()).expect("text");
    let changed = text.replace("\"freeze\":false", "\"freeze\":true ");
    assert_ne!(changed, text);
    let answer = send_raw(node.addr, changed.as_bytes()).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("peer.wrong-body")));
    assert!(node.incoming.try_recv().is_err());
}

/// The true answer to one question, given to another: as it was, and with the other's nonce put in.
#[tokio::test]
async fn an_answer_passes_for_its_own_question_only() {
    let mut node = Node::start("b", "rb").await;
    let tape = Tape::record(node.addr).await;
    let client = PeerClient::new(auth("a", "ra"));
    let call = tape.call(node.call(Ask::Ping));
    let (answer, _) = tokio::join!(client.ask(call.clone(), Epoch(4)), node.answer(pong()));
    assert_eq!(answer, Ok(pong()));
    for (forge, why) in [(false, "repeat the nonce"), (true, "MAC is wrong")] {
        let liar = tape.liar(forge).await;
        let call = PeerCall { addr: liar.to_string(), ..call.clone() };
        match client.ask(call, Epoch(4)).await {
            Err(PeerError::Unauthenticated(text)) => assert!(text.contains(why), "{text}"),
            other => panic!("forge {forge}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_large_body_is_refused_announced_or_not() {
    let mut node = Node::with("b", "rb", Options { token: Some("t"), ..Options::default() }).await;
    let head = "POST /switchover HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer t";
    let large = BODY_BYTES + 1;
    let announced = format!("{head}\r\nContent-Length: {large}\r\n\r\n");
    assert_eq!(send_raw(node.addr, announced.as_bytes()).await.status, 413);
    let chunked = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{large:x}\r\n");
    let mut chunked = chunked.into_bytes();
    chunked.resize(chunked.len() + large, b' ');
    assert_eq!(send_raw(node.addr, &chunked).await.status, 413);
    assert!(node.incoming.try_recv().is_err());
}

#[tokio::test]
async fn a_slow_body_and_a_slow_head_are_given_up() {
    let node = Node::with("b", "rb", Options { token: Some("t"), ..Options::default() }).await;
    let body = b"POST /switchover HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer t\r\n\
        Content-Length: 14\r\n\r\n{\"t";
    let head = b"GET /primary HTTP/1.1\r\nHost";
    let (slow_body, slow_head) = tokio::join!(send_raw(node.addr, body), send_raw(node.addr, head));
    assert_eq!((slow_body.status, slow_body.json()["code"].as_str()), (408, Some("http.slow")));
    assert_ne!(slow_head.status, 200, "closed, with or without a word");
}

/// Refused by the head alone: strangers who are slow to send a body keep no peer out.
#[tokio::test]
async fn a_stranger_takes_no_place() {
    let mut node = Node::start("b", "rb").await;
    let endless = b"POST /peer/ping HTTP/1.1\r\nHost: b\r\nContent-Length: 14\r\n\r\n{";
    let mut strangers = Vec::new();
    for _ in 0..=IN_FLIGHT {
        let mut stranger = TcpStream::connect(node.addr).await.expect("connected");
        stranger.write_all(endless).await.expect("sent");
        strangers.push(stranger);
    }
    let client = PeerClient::new(auth("a", "ra"));
    let (answer, _) = tokio::join!(client.ask(node.call(Ask::Ping), Epoch(1)), node.answer(pong()));
    assert_eq!(answer, Ok(pong()));
    for stranger in &mut strangers {
        let mut said = [0; 12];
        within(stranger.read_exact(&mut said)).await.expect("an answer");
        assert_eq!(&said, b"HTTP/1.1 401");
    }
}

/// Actions wait longer than peers' questions, so the places are filled with them.
#[tokio::test]
async fn only_so_many_are_in_flight() {
    let mut node = Node::with("b", "rb", Options { token: Some("t"), ..Options::default() }).await;
    let waiting: Vec<_> = (0..IN_FLIGHT)
        .map(|_| tokio::spawn(ask_with_token(node.addr, "t", "/switchover", "")))
        .collect();
    let mut held = Vec::new();
    for _ in 0..IN_FLIGHT {
        held.push(within(node.incoming.recv()).await.expect("an action"));
    }
    let client = PeerClient::new(auth("a", "ra"));
    match client.ask(node.call(Ask::Ping), Epoch(1)).await {
        Err(PeerError::Bad(text)) => assert!(text.contains("503") && text.contains("in flight")),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask_raw(node.addr, "GET", "/primary", "").await.status, 200, "reads need no place");
    for event in held {
        let Incoming::Action { reply, .. } = event else { panic!("an action") };
        let _ = reply.send(ActionReply::Written { request: "r".into() });
    }
    for answer in waiting {
        assert_eq!(answer.await.expect("no panic").status, 202);
    }
    let (answer, _) = tokio::join!(client.ask(node.call(Ask::Ping), Epoch(1)), node.answer(pong()));
    assert_eq!(answer, Ok(pong()), "the places are free again");
}

#[tokio::test]
async fn a_core_that_is_silent_or_gone_is_told_apart() {
    let mut node = Node::with("b", "rb", Options { token: Some("t"), ..Options::default() }).await;
    let client = PeerClient::new(auth("a", "ra"));
    let silent = client.ask(node.call(Ask::Ping), Epoch(1)).await;
    assert!(matches!(&silent, Err(PeerError::Bad(text)) if text.contains("504")), "{silent:?}");
    let Some(Incoming::Peer { reply, .. }) = node.incoming.recv().await else { panic!("a ping") };
    assert!(reply.is_closed(), "the driver can see that nobody waits any more");
    let action = ask_with_token(node.addr, "t", "/switchover", "").await;
    assert_eq!((action.status, action.json()["code"].as_str()), (504, Some("action.unknown")));
    node.incoming.close();
    let action = ask_with_token(node.addr, "t", "/switchover", "").await;
    assert_eq!((action.status, action.json()["code"].as_str()), (503, Some("action.not-written")));
}

#[tokio::test]
async fn a_peer_that_is_away_or_mute_is_told_apart() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = mute.local_addr().expect("bound");
    let client = PeerClient::new(auth("a", "ra"));
    let call =
        |addr: String| PeerCall { timeout: Span(200), ..call_to(&addr, "b", "rb", Ask::Ping) };
    let begun = tokio::time::Instant::now();
    let answer = client.ask(call(addr.to_string()), Epoch(1)).await;
    assert_eq!(answer, Err(PeerError::Timeout(Span(200))));
    assert!(begun.elapsed().as_secs() < 10, "its own timeout ended it");
    drop(mute);
    for away in [addr.to_string(), "b.example:8008".into()] {
        let answer = client.ask(call(away), Epoch(1)).await;
        assert!(matches!(answer, Err(PeerError::Unreachable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn switchover_needs_a_token_that_is_set() {
    for off in [None, Some("")] {
        let mut node = Node::with("b", "rb", Options { token: off, ..Options::default() }).await;
        let answer = ask_with_token(node.addr, "", "/switchover", "").await;
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("no token_file is set"), "{answer:?}");
        assert!(node.incoming.try_recv().is_err());
    }
    let mut node = Node::with("b", "rb", Options { token: Some("t"), ..Options::default() }).await;
    for wrong in ["", "T", "tt"] {
        let answer = ask_with_token(node.addr, wrong, "/switchover", "").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer"));
    }
    assert_eq!(ask_raw(node.addr, "POST", "/switchover", "").await.status, 401);
    for bad in ["{", r#"{"too":"c"}"#, r#"{"to":"../x"}"#, r#"{"to":""}"#] {
        let answer = ask_with_token(node.addr, "t", "/switchover", bad).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    assert!(node.incoming.try_recv().is_err(), "none of it reached the driver");
}

#[tokio::test]
async fn an_action_is_answered_by_what_became_of_its_write() {
    let mut node = Node::with("b", "rb", Options { token: Some("t"), ..Options::default() }).await;
    let outcomes = [
        (ActionReply::Written { request: "7".into() }, 202, "\"request\":\"7\""),
        (
            ActionReply::Refused(Reason::new("switch.none", "nobody is ready")),
            409,
            "nobody is ready",
        ),
        (ActionReply::NotWritten("no Consul".into()), 503, "action.not-written"),
        (ActionReply::Unknown("no answer".into()), 504, "action.unknown"),
    ];
    for (became, status, says) in outcomes {
        let request = ask_with_token(node.addr, "t", "/switchover", r#"{"to":"c"}"#);
        let driver = async {
            let event = within(node.incoming.recv()).await;
            let Some(Incoming::Action { action, by, reply, .. }) = event else {
                panic!("an action")
            };
            assert_eq!(action, Action::Switchover { to: Some(NodeName::new("c")) });
            assert_eq!(by, "http 127.0.0.1");
            let args = [("to".to_owned(), "c".to_owned())].into();
            assert_eq!((action.verb(), action.args()), ("switchover", args));
            let _ = reply.send(became);
        };
        let (answer, ()) = tokio::join!(request, driver);
        assert_eq!(answer.status, status);
        assert!(answer.body.contains(says), "{answer:?}");
    }
}

async fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("loopback is a whole network");
    socket.connect(to).await.expect("connected")
}

/// Whoever holds all it gets open, and says nothing, keeps nobody else out.
#[tokio::test]
async fn one_address_has_its_share_and_no_more() {
    let node = Node::start("b", "rb").await;
    let greedy = Ipv4Addr::new(127, 0, 0, 9);
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_PER_ADDRESS {
        idle.push(connect_from(greedy, node.addr).await);
    }
    let mut extra = connect_from(greedy, node.addr).await;
    let mut answer = Vec::new();
    // Closed, or reset: either way without a word.
    let _ = within(extra.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(ask_raw(node.addr, "GET", "/primary", "").await.status, 200);
    drop(idle);
    within(async {
        loop {
            let mut again = connect_from(greedy, node.addr).await;
            let _ = again.write_all(b"GET /primary HTTP/1.0\r\n\r\n").await;
            let mut answer = Vec::new();
            let _ = again.read_to_end(&mut answer).await;
            if answer.starts_with(b"HTTP/1.0 200") {
                return;
            }
        }
    })
    .await;
}

/// One connection more than the limit is closed at once; a place that gets free is used.
#[tokio::test]
async fn connections_are_bounded() {
    let node = Node::start("b", "rb").await;
    let mut idle = Vec::new();
    for place in 0..CONNECTIONS {
        let share = (place / CONNECTIONS_PER_ADDRESS) as u8;
        idle.push(connect_from(Ipv4Addr::new(127, 0, 0, 1 + share), node.addr).await);
    }
    let mut extra = connect_from(Ipv4Addr::new(127, 0, 0, 99), node.addr).await;
    let _ = extra.write_all(b"GET /primary HTTP/1.1\r\nHost: b\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = within(extra.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    idle.truncate(CONNECTIONS / 2);
    within(async {
        while ask_raw(node.addr, "GET", "/primary", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
