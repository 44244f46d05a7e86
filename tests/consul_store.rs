//! The store on a real Consul: watches, time limits, several addresses, errors, ACLs, TLS, registration.

mod common;

use common::block_on;
use common::consul::{Consul, Options, binary};
use common::proxy::{Mode, Proxy};
use lictor::consul::{ConsulStore, Secret, Settings, Tls};
use lictor::decide::call::{Answer, Call, Registration, StoreError, Verb};
use lictor::decide::keys::Key;
use lictor::decide::time::Span;
use lictor::decide::types::{Index, SessionId};
use lictor::store::{Store, Watched};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Generous, for what must succeed.
const LIMIT: Span = Span(10_000);
/// For what must not be answered.
const SHORT: Span = Span(400);
/// A watch that is woken returns far sooner; one that is not would take all of it.
const LONG_WAIT: Span = Span(60_000);
/// "At once", on a machine that others use too.
const SOON: Duration = Duration::from_secs(5);

fn store_at<S: AsRef<str>>(addresses: &[S]) -> ConsulStore {
    store_with(addresses, None, Tls::default())
}

fn store_with<S: AsRef<str>>(addresses: &[S], token: Option<&str>, tls: Tls) -> ConsulStore {
    let addresses = addresses.iter().map(|a| a.as_ref().parse().expect("host:port")).collect();
    let token = token.map(Secret::new);
    ConsulStore::new(Settings { addresses, token, tls }).expect("good settings")
}

fn key(text: &str) -> Key {
    Key::new(&format!("lictor/orders/{text}"))
}

fn set(name: &str, value: &[u8]) -> Call {
    Call::Txn(vec![Verb::Set(key(name), value.to_vec())])
}

fn read(name: &str) -> Call {
    Call::Read { key: key(name), recurse: false }
}

async fn watch(store: &ConsulStore, name: &str, after: Option<Index>, wait: Span) -> Watched {
    store.watch(&key(name), false, after, wait).await.expect("Consul is up")
}

fn is_unknown<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unknown(_)))
}

fn is_not_sent<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotSent(_)))
}

fn is_denied<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Denied(_)))
}

fn is_refused<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Refused(_)))
}

mod watches {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_can_be_waited_for() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let first = watch(&store, "leader", None, LONG_WAIT).await;
            assert_eq!((first.entries.len(), first.early), (0, false));
            assert!(first.index >= Index(1));

            let start = Instant::now();
            let waiting = watch_until_there(&store, first.index);
            let (woken, written) = tokio::join!(waiting, async {
                // A neighbour's write may wake the one who waits for a missing key: no change, not early.
                store.call(set("leaders", b"x"), LIMIT).await.expect("written");
                tokio::time::sleep(Duration::from_millis(200)).await;
                store.call(set("leader", b"here"), LIMIT).await
            });
            written.expect("written");
            assert_eq!(woken.entries[0].value, b"here");
            assert_eq!(woken.index, woken.entries[0].modify);
            assert!(start.elapsed() < SOON);

            let (gone, ()) =
                tokio::join!(watch(&store, "leader", Some(woken.index), LONG_WAIT), async {
                    consul.delete(key("leader").as_str())
                });
            assert_eq!((gone.entries.len(), gone.early), (0, false));
            assert!(gone.index > woken.index);
        });
    }

    async fn watch_until_there(store: &ConsulStore, mut after: Index) -> Watched {
        loop {
            let woken = watch(store, "leader", Some(after), LONG_WAIT).await;
            assert!(woken.index > after && !woken.early, "{woken:?} after {after:?}");
            if !woken.entries.is_empty() {
                return woken;
            }
            after = woken.index;
        }
    }

    #[test]
    fn a_prefix_wakes_for_each_key_under_it() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let prefix = key("state/");
            let first = store.watch(&prefix, true, None, LONG_WAIT).await.expect("up");
            assert_eq!(first.entries.len(), 0);
            let mut index = first.index;
            for name in ["state/term", "state/sync"] {
                let waiting = store.watch(&prefix, true, Some(index), LONG_WAIT);
                let (woken, _) = tokio::join!(waiting, store.call(set(name, b"x"), LIMIT));
                let woken = woken.expect("up");
                assert!(woken.entries.iter().any(|entry| entry.key == key(name)), "{woken:?}");
                assert!(woken.index > index && !woken.early);
                index = woken.index;
            }
        });
    }

    #[test]
    fn the_end_of_the_wait_is_not_early() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            store.call(set("leader", b"x"), LIMIT).await.expect("written");
            for name in ["leader", "absent"] {
                let first = watch(&store, name, None, LONG_WAIT).await;
                let start = Instant::now();
                let second = watch(&store, name, Some(first.index), Span(1_500)).await;
                assert!(start.elapsed() >= Duration::from_millis(1_500), "{name}");
                assert_eq!((second.index, second.early), (first.index, false), "{name}");
                assert_eq!(second.entries, first.entries, "{name}");
            }
        });
    }

    #[test]
    fn a_restore_is_told_as_early() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            store.call(set("leader", b"old"), LIMIT).await.expect("written");
            let snapshot = consul.servers[0].snapshot(None);
            let old = watch(&store, "leader", None, LONG_WAIT).await;

            let unmoved = watch_through_restore(&consul, &store, old.index, &snapshot).await;
            assert_eq!((unmoved.index, unmoved.early), (old.index, true), "the same state again");

            store.call(set("leader", b"new"), LIMIT).await.expect("written");
            let new = watch(&store, "leader", None, LONG_WAIT).await;
            let lower = watch_through_restore(&consul, &store, new.index, &snapshot).await;
            assert!(lower.index < new.index && lower.early, "{lower:?}");
            assert_eq!(lower.entries[0].value, b"old");
        });
    }

    async fn watch_through_restore(
        consul: &Consul,
        store: &ConsulStore,
        after: Index,
        snapshot: &[u8],
    ) -> Watched {
        let start = Instant::now();
        let waiting = watch(store, "leader", Some(after), LONG_WAIT);
        let (woken, ()) = tokio::join!(waiting, async {
            // Lets the query reach Consul first; else it is answered without waiting, which is early too.
            tokio::time::sleep(Duration::from_millis(300)).await;
            consul.servers[0].restore(None, snapshot);
        });
        assert!(start.elapsed() < Duration::from_secs(30), "it was woken");
        woken
    }

    #[test]
    fn a_watch_at_a_hung_address_ends_and_the_next_one_goes_elsewhere() {
        block_on(async {
            let consul = Consul::one();
            let proxy = Proxy::start(consul.servers[0].http);
            let store = store_at(&[proxy.address(), consul.servers[0].address()]);
            proxy.set(Mode::BlackHole);
            let start = Instant::now();
            let hung = store.watch(&key("leader"), false, Some(Index(1)), Span(300)).await;
            assert!(is_unknown(&hung), "{hung:?}");
            assert!(start.elapsed() < Duration::from_secs(10));
            watch(&store, "leader", None, LONG_WAIT).await;
            assert_eq!(proxy.seen().len(), 1);
        });
    }
}

mod addresses {
    use super::*;

    #[test]
    fn a_refused_one_is_passed_by_within_the_call() {
        block_on(async {
            let consul = Consul::one();
            let dead = format!("127.0.0.1:{}", common::free_port());
            let store = store_at(&[dead.clone(), consul.servers[0].address()]);
            store.call(set("a", b"1"), LIMIT).await.expect("the second one takes it");
            store.call(read("a"), LIMIT).await.expect("and a read");

            let alone = store_at(&[dead]);
            assert!(is_not_sent(&alone.call(set("a", b"2"), LIMIT).await));
            let result = alone.call(read("a"), LIMIT).await;
            assert!(result.is_err(), "{result:?}");
        });
    }

    #[test]
    fn a_stopped_agent_costs_one_call() {
        block_on(async {
            let consul = Consul::one();
            let agent = consul.start_client("own");
            let store = store_at(&[agent.address(), consul.servers[0].address()]);
            store.call(set("a", b"1"), LIMIT).await.expect("by the own agent");
            agent.stop();
            let start = Instant::now();
            let hung = store.call(set("a", b"2"), SHORT).await;
            assert!(is_unknown(&hung), "it may have gone out: {hung:?}");
            assert!(start.elapsed() < SOON, "the call's limit holds");
            store.call(set("a", b"3"), LIMIT).await.expect("the next one goes to the next address");
            store.call(set("a", b"4"), LIMIT).await.expect("and stays there");
            agent.cont();
            let found = store.call(read("a"), LIMIT).await;
            let Ok(Answer::Entries(list)) = found else { panic!("{found:?}") };
            assert_eq!(list.len(), 1);
        });
    }

    #[test]
    fn a_connection_that_is_not_taken_in_its_share_leaves_time_for_the_next() {
        block_on(async {
            let consul = Consul::one();
            let full = FullListener::start().await;
            let store = store_at(&[full.address(), consul.servers[0].address()]);
            let start = Instant::now();
            store.call(set("a", b"1"), Span(3_000)).await.expect("by the second address");
            assert!(start.elapsed() >= Duration::from_millis(900), "the first one was tried");
        });
    }

    #[test]
    fn not_taken_is_not_sent() {
        block_on(async {
            let full = FullListener::start().await;
            let store = store_at(&[full.address()]);
            let result = store.call(set("a", b"never"), SHORT).await;
            assert!(is_not_sent(&result), "no byte of it left: {result:?}");
            assert_eq!(full.received().await, "", "nor does it leave later");
        });
    }

    #[test]
    fn the_own_agent_alone_is_asked_about_registrations() {
        block_on(async {
            let consul = Consul::one();
            let dead = format!("127.0.0.1:{}", common::free_port());
            let store = store_at(&[dead, consul.servers[0].address()]);
            let id = "orders-n1".to_string();
            let calls = [
                Call::Register(registration("orders-n1", true)),
                Call::Registered { id: id.clone() },
                Call::CheckUpdate { id: id.clone(), passing: true, output: String::new() },
                Call::Deregister { id },
            ];
            for call in calls {
                let result = store.call(call.clone(), LIMIT).await;
                assert!(is_not_sent(&result), "{call:?}: {result:?}");
            }
            let (_, services) = consul.request("GET", "/v1/agent/services", "");
            assert!(!services.contains("orders-n1"), "{services}");
        });
    }

    #[test]
    fn an_agent_without_servers_did_not_do_it() {
        block_on(async {
            let mut consul = Consul::one();
            let agent = consul.start_client("own");
            let store = store_at(&[agent.address()]);
            store.call(set("a", b"1"), LIMIT).await.expect("up");
            consul.servers[0].kill();
            let limit = Duration::from_secs(60);
            let start = Instant::now();
            loop {
                // Until serf has noticed, the agent still tries the dead server: unknown, for all we see.
                let result = store.call(set("a", b"2"), LIMIT).await;
                if is_not_sent(&result) {
                    break;
                }
                assert!(is_unknown(&result), "{result:?}");
                assert!(start.elapsed() < limit, "never a definite answer: {result:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    #[test]
    fn a_pooled_connection_that_died_never_doubles_nor_hides_a_write() {
        block_on(async {
            let server = ClosingServer::start();
            let store = store_at(&[server.address()]);
            let mut lost = 0;
            for n in 0..200 {
                let result = store.call(set("a", format!("value-{n}").as_bytes()), LIMIT).await;
                match (&result, server.count(n)) {
                    (Ok(_), 1) | (Err(StoreError::NotSent(_)), 0) => {}
                    (Err(StoreError::Unknown(_)), 0 | 1) => lost += 1,
                    (_, count) => panic!("{n}: {result:?}, and the server saw it {count} times"),
                }
            }
            eprintln!("{lost} of 200 writes unknown on connections closed behind our back");
        });
    }

    #[test]
    fn requests_share_a_few_connections() {
        block_on(async {
            let server = ClosingServer::start_keeping();
            let store = store_at(&[server.address()]);
            for n in 0..50 {
                store.call(set("a", format!("value-{n}").as_bytes()), LIMIT).await.expect("kept");
            }
            assert!(server.connections() <= 2, "{} connections", server.connections());
        });
    }

    /// A listener whose queue is full: a connection to it is neither refused nor made.
    struct FullListener {
        listener: tokio::net::TcpListener,
        held: Vec<tokio::net::TcpStream>,
        port: u16,
    }

    impl FullListener {
        async fn start() -> FullListener {
            let port = common::free_port();
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

        fn address(&self) -> String {
            format!("127.0.0.1:{}", self.port)
        }

        /// Empties the queue and returns all that anybody sent, the held connections aside.
        async fn received(mut self) -> String {
            use tokio::io::AsyncReadExt;
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
    struct ClosingServer {
        port: u16,
        seen: std::sync::Arc<std::sync::Mutex<(usize, Vec<String>)>>,
    }

    impl ClosingServer {
        fn start() -> ClosingServer {
            ClosingServer::with(1)
        }

        fn start_keeping() -> ClosingServer {
            ClosingServer::with(usize::MAX)
        }

        fn with(requests: usize) -> ClosingServer {
            let port = common::free_port();
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is ours");
            let seen = std::sync::Arc::new(std::sync::Mutex::new((0, Vec::new())));
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

        fn address(&self) -> String {
            format!("127.0.0.1:{}", self.port)
        }

        fn connections(&self) -> usize {
            self.seen.lock().expect("no panic inside").0
        }

        /// How often the write of `value-<n>` arrived.
        fn count(&self, n: usize) -> usize {
            use base64::Engine;
            let value = base64::engine::general_purpose::STANDARD.encode(format!("value-{n}"));
            let value = format!("\"{value}\"");
            let seen = self.seen.lock().expect("no panic inside");
            seen.1.iter().filter(|request| request.contains(&value)).count()
        }
    }

    fn answer(
        mut stream: std::net::TcpStream,
        requests: usize,
        seen: &std::sync::Mutex<(usize, Vec<String>)>,
    ) {
        use std::io::{Read, Write};
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
}

mod limits_and_errors {
    use super::*;

    #[test]
    fn every_kind_of_call_ends_in_its_time() {
        block_on(async {
            let port = common::free_port();
            let _silent = TcpListener::bind(("127.0.0.1", port)).expect("the port is ours");
            let address = format!("127.0.0.1:{port}");
            let session = SessionId::new("adf4238a-882b-9ddc-4a9d-5b6758e4159e");
            let id = "orders-n1".to_string();
            let calls = [
                set("a", b"x"),
                Call::Txn(vec![Verb::GetTree(key("a"))]),
                read("a"),
                Call::SessionCreate { name: "x".to_string(), ttl: Span::secs(15) },
                Call::SessionRenew(session.clone()),
                Call::SessionDestroy(session),
                Call::Register(registration("orders-n1", true)),
                Call::Registered { id: id.clone() },
                Call::CheckUpdate { id: id.clone(), passing: true, output: String::new() },
                Call::Deregister { id },
            ];
            for call in calls {
                let store = store_at(&[address.as_str()]);
                let start = Instant::now();
                let result = store.call(call.clone(), SHORT).await;
                let took = start.elapsed();
                assert!(is_unknown(&result), "{call:?}: {result:?}");
                assert!(took >= SHORT.to_std() && took < SOON, "{call:?} took {took:?}");
            }
        });
    }

    #[test]
    fn refusals_are_definite() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let short_ttl = Call::SessionCreate { name: "x".to_string(), ttl: Span::secs(1) };
            let result = store.call(short_ttl, LIMIT).await;
            assert!(is_refused(&result), "{result:?}");

            let verbs = |count: usize| {
                let set = |n| Verb::Set(key(&format!("many/{n}")), b"x".to_vec());
                Call::Txn((0..count).map(set).collect())
            };
            store.call(verbs(64), LIMIT).await.expect("64 are allowed");
            assert!(is_refused(&store.call(verbs(65), LIMIT).await));
            let large = store.call(set("large", &vec![b'x'; 400 * 1024]), LIMIT).await;
            assert!(is_refused(&large), "{large:?}");

            let id = "nobody".to_string();
            let update = Call::CheckUpdate { id, passing: true, output: String::new() };
            let result = store.call(update, LIMIT).await;
            assert!(is_refused(&result), "the agent does not know the check: {result:?}");
            let malformed = Call::SessionRenew(SessionId::new("no-uuid"));
            let result = store.call(malformed, LIMIT).await;
            assert!(is_refused(&result), "{result:?}");
        });
    }

    #[test]
    fn without_a_quorum_a_write_is_unknown_and_a_read_fails() {
        block_on(async {
            let mut consul = Consul::three();
            let store = store_at(&consul.addresses());
            store.call(set("a", b"1"), LIMIT).await.expect("up");
            let leader = consul.leader().expect("three servers have one");
            let left = (leader + 1) % 3;
            for at in (0..3).filter(|at| *at != left) {
                consul.servers[at].kill();
            }
            let alone = store_at(&[consul.servers[left].address()]);
            let write = alone.call(set("a", b"2"), Span(2_000)).await;
            assert!(is_unknown(&write), "{write:?}");
            let reading = alone.call(read("a"), Span(2_000)).await;
            assert!(is_unknown(&reading), "{reading:?}");
            let all = store.call(read("a"), Span(2_000)).await;
            assert!(is_unknown(&all), "two refuse, one can't say: {all:?}");
        });
    }

    #[test]
    fn a_leader_change_is_survived_by_the_same_store() {
        block_on(async {
            let mut consul = Consul::three();
            let store = store_at(&consul.addresses());
            store.call(set("a", b"1"), LIMIT).await.expect("up");
            let leader = consul.leader().expect("three servers have one");
            consul.servers[leader].kill();
            let start = Instant::now();
            while let Err(error) = store.call(set("a", b"2"), Span(500)).await {
                assert!(start.elapsed() < Duration::from_secs(60), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let found = store.call(read("a"), LIMIT).await.expect("there is a leader again");
            let Answer::Entries(list) = found else { panic!("{found:?}") };
            assert_eq!(list[0].value, b"2");
        });
    }

    #[test]
    fn requests_have_a_length_and_the_token_in_its_header_alone() {
        block_on(async {
            let consul = Consul::one();
            let proxy = Proxy::start(consul.servers[0].http);
            let store = store_with(&[proxy.address()], Some("b1gs3cret"), Tls::default());
            store.call(set("a", b"x"), LIMIT).await.expect("ACLs are off");
            store.call(read("a"), LIMIT).await.expect("a read");
            let nobody = SessionId::new("adf4238a-882b-9ddc-4a9d-5b6758e4159e");
            store.call(Call::SessionDestroy(nobody), LIMIT).await.expect("done already");
            watch(&store, "a", None, LONG_WAIT).await;
            let seen = proxy.seen();
            assert_eq!(seen.len(), 4);
            for request in seen {
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let (head, body) = text.split_once("\r\n\r\n").expect("a head");
                assert_eq!(head.matches("x-consul-token: b1gs3cret").count(), 1, "{head}");
                assert_eq!(text.matches("b1gs3cret").count(), 1, "{text}");
                if head.starts_with("put") {
                    let length = format!("\r\ncontent-length: {}", body.len());
                    assert_eq!(head.matches(&length).count(), 1, "{head}");
                }
            }
        });
    }

    #[test]
    fn a_session_has_no_checks_and_a_millisecond_of_delay() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let call = Call::SessionCreate { name: "orders-n1".to_string(), ttl: Span::secs(15) };
            let made = store.call(call, LIMIT).await.expect("made");
            let Answer::Session(id) = made else { panic!("{made:?}") };
            let info = consul.json("GET", &format!("/v1/session/info/{id}"), "");
            let info = &info[0];
            for checks in ["Checks", "NodeChecks", "ServiceChecks"] {
                assert_eq!(info[checks].as_array().map_or(0, Vec::len), 0, "{info}");
            }
            assert_eq!(info["Behavior"], "release");
            assert_eq!(info["LockDelay"], 1_000_000, "nanoseconds");
            assert_eq!(info["TTL"], "15000ms");
            assert_eq!(info["Node"], "server-1");
        });
    }

    #[test]
    fn a_recursive_read_takes_garbage_and_strange_keys() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            store.call(set("state/a", b"text"), LIMIT).await.expect("written");
            store.call(set("state/b", &[0xff, 0x00]), LIMIT).await.expect("written");
            store.call(set("state/a b?c&d", b""), LIMIT).await.expect("written");
            let all = Call::Read { key: key("state/"), recurse: true };
            let found = store.call(all, LIMIT).await.expect("read");
            let Answer::Entries(list) = found else { panic!("{found:?}") };
            let values: Vec<&[u8]> = list.iter().map(|entry| entry.value.as_slice()).collect();
            assert_eq!(values, [&b"text"[..], b"", &[0xff, 0x00]]);
            let strange = store.call(read("state/a b?c&d"), LIMIT).await.expect("read");
            assert!(matches!(strange, Answer::Entries(list) if list.len() == 1));
            let none = store.call(read("nothing"), LIMIT).await;
            assert_eq!(none, Ok(Answer::Entries(vec![])));
        });
    }
}

mod acl {
    use super::*;

    /// As the architecture page says, for a cluster and a service `orders`.
    const RULES: &str = r#"
        key_prefix "lictor/orders/" { policy = "write" }
        service "orders" { policy = "write" }
        node_prefix "" { policy = "read" }
        agent_prefix "" { policy = "read" }
        session_prefix "" { policy = "write" }
    "#;

    #[test]
    fn the_token_is_proven_before_emptiness_counts() {
        block_on(async {
            let consul = Consul::with_acl();
            let good = consul.make_token("orders", RULES);
            let reader = consul.make_token(
                "reader",
                r#"key_prefix "" { policy = "read" } session_prefix "" { policy = "write" }"#,
            );
            let sessionless =
                consul.make_token("keys", r#"key_prefix "lictor/" { policy = "write" }"#);
            let elsewhere =
                consul.make_token("other", &RULES.replace("lictor/orders/", "lictor/other/"));
            let store = store_at(&consul.addresses());
            let probe = key("leader");
            let bogus = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
            let bad = [None, Some(bogus), Some(&*reader), Some(&*sessionless), Some(&*elsewhere)];
            for token in bad {
                store.set_token(token.map(Secret::new));
                let result = store.prove_token(&probe, LIMIT).await;
                assert!(is_denied(&result), "{token:?}: {result:?}");
                let text = format!("{result:?}");
                assert!(token.is_none_or(|token| !text.contains(token)), "{text}");
            }
            assert_eq!(consul.entry(probe.as_str()), None, "nothing was written");

            store.set_token(Some(Secret::new(&good)));
            assert_eq!(store.prove_token(&probe, LIMIT).await, Ok(()));
            store.call(set("leader", b"x"), LIMIT).await.expect("allowed");
            assert_eq!(store.prove_token(&probe, LIMIT).await, Ok(()), "with a key there too");
            let leader = consul.entry(probe.as_str()).expect("written");
            assert_eq!(leader["CreateIndex"], leader["ModifyIndex"], "the proof changed nothing");
            let sessions = consul.json("GET", "/v1/session/list", "");
            assert_eq!(sessions.as_array().map(Vec::len), Some(0), "none is left behind");
        });
    }

    #[test]
    fn to_an_anonymous_reader_a_full_cluster_looks_empty() {
        block_on(async {
            let consul = Consul::with_acl();
            consul.put(key("leader").as_str(), "held");
            let store = store_at(&consul.addresses());
            let found = store.call(read("leader"), LIMIT).await;
            let tree = store.call(Call::Txn(vec![Verb::GetTree(key("leader"))]), LIMIT).await;
            let health = store.health("consul", LIMIT).await;
            eprintln!("anonymous under default-deny: {found:?} {tree:?} {health:?}");
            assert_eq!(found, Ok(Answer::Entries(vec![])));
            assert_eq!(health, Ok(vec![]));
            let bogus = "adf4238a-882b-9ddc-4a9d-5b6758e4159e";
            store.set_token(Some(Secret::new(bogus)));
            assert!(is_denied(&store.call(read("leader"), LIMIT).await));
            let watched = store.watch(&key("leader"), false, None, LONG_WAIT).await;
            assert!(is_denied(&watched), "{watched:?}");
        });
    }

    #[test]
    fn the_documented_rules_are_enough() {
        block_on(async {
            let consul = Consul::with_acl();
            let token = consul.make_token("orders", RULES);
            let store = store_with(&consul.addresses(), Some(&token), Tls::default());
            let session = Call::SessionCreate { name: "x".to_string(), ttl: Span::secs(15) };
            let made = store.call(session, LIMIT).await.expect("session_prefix");
            let Answer::Session(id) = made else { panic!("{made:?}") };
            let lock = Verb::Lock(key("leader"), id.clone(), b"x".to_vec());
            store.call(Call::Txn(vec![lock]), LIMIT).await.expect("key_prefix");
            store.call(Call::SessionRenew(id.clone()), LIMIT).await.expect("session_prefix");
            store.call(Call::SessionDestroy(id), LIMIT).await.expect("session_prefix");
            watch(&store, "state/", None, LONG_WAIT).await;
            let service = Call::Register(registration("orders-n1", true));
            store.call(service, LIMIT).await.expect("service");
            let known = store.call(Call::Registered { id: "orders-n1".to_string() }, LIMIT).await;
            assert_eq!(known, Ok(Answer::Known(true)));
            let foreign = store.call(Call::Txn(vec![Verb::Set(Key::new("x"), vec![])]), LIMIT);
            assert!(is_denied(&foreign.await));
        });
    }
}

mod registration {
    use super::*;

    async fn health(store: &ConsulStore) -> lictor::consul::HealthEntry {
        let start = Instant::now();
        loop {
            let mut list = store.health("orders", LIMIT).await.expect("up");
            if let Some(entry) = list.pop() {
                return entry;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the agent syncs its service");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn health_until(store: &ConsulStore, passing: bool) -> Duration {
        let start = Instant::now();
        while health(store).await.is_passing() != passing {
            assert!(start.elapsed() < Duration::from_secs(20), "passing: {passing}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    fn update(passing: bool, output: &str) -> Call {
        let id = "orders-n1".to_string();
        Call::CheckUpdate { id, passing, output: output.to_string() }
    }

    #[test]
    fn a_service_is_told_fed_forgotten_and_removed() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let known = || Call::Registered { id: "orders-n1".to_string() };
            assert_eq!(store.call(known(), LIMIT).await, Ok(Answer::Known(false)));
            let service = super::registration("orders-n1", true);
            store.call(Call::Register(service.clone()), LIMIT).await.expect("registered");
            assert_eq!(store.call(known(), LIMIT).await, Ok(Answer::Known(true)));

            let found = health(&store).await;
            assert!(found.is_passing(), "at once: {found:?}");
            assert_eq!((found.tags, found.meta), (service.tags.clone(), service.meta.clone()));
            assert_eq!((found.address.as_str(), found.port), ("127.0.0.1", 3306));
            assert!(found.checks.iter().any(|check| check.id == "service:orders-n1"));
            let local = consul.json("GET", "/v1/agent/checks", "");
            assert_eq!(local["service:orders-n1"]["Output"], "it serves", "the agent knows it");
            let nodes = store.service_nodes("orders", LIMIT).await.expect("by rs-consul");
            assert_eq!((nodes[0].id.as_str(), nodes[0].port), ("orders-n1", 3306));

            store.call(update(false, "it does not"), LIMIT).await.expect("fed");
            health_until(&store, false).await;
            let failing = health(&store).await.checks;
            let failing = failing.iter().find(|check| check.id == "service:orders-n1");
            assert_eq!(failing.map(|check| check.output.as_str()), Some("it does not"));
            let other = Registration { tags: vec!["replica".to_string()], ..service };
            store.call(Call::Register(other), LIMIT).await.expect("registered again");
            health_until(&store, true).await;
            assert_eq!(health(&store).await.tags, ["replica"]);

            store.maintenance("orders-n1", true, "a disk & more", LIMIT).await.expect("known");
            health_until(&store, false).await;
            store.maintenance("orders-n1", false, "", LIMIT).await.expect("known");
            health_until(&store, true).await;
            assert!(is_refused(&store.maintenance("nobody", true, "", LIMIT).await));

            let gone = || Call::Deregister { id: "orders-n1".to_string() };
            store.call(gone(), LIMIT).await.expect("removed");
            store.call(gone(), LIMIT).await.expect("removed already");
            assert_eq!(store.call(known(), LIMIT).await, Ok(Answer::Known(false)));
            assert!(is_refused(&store.call(update(true, ""), LIMIT).await), "forgotten");
        });
    }

    #[test]
    fn an_unfed_check_turns_critical_after_its_ttl() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let service =
                Registration { ttl: Span(1_500), ..super::registration("orders-n1", true) };
            store.call(Call::Register(service), LIMIT).await.expect("registered");
            health_until(&store, true).await;
            for _ in 0..6 {
                store.call(update(true, "fed"), LIMIT).await.expect("fed");
                tokio::time::sleep(Duration::from_millis(400)).await;
                assert!(health(&store).await.is_passing(), "fed in time");
            }
            let took = health_until(&store, false).await;
            assert!(took < Duration::from_secs(10), "{took:?}");
        });
    }

    #[test]
    fn a_new_registration_can_start_critical() {
        block_on(async {
            let consul = Consul::one();
            let store = store_at(&consul.addresses());
            let service = super::registration("orders-n1", false);
            store.call(Call::Register(service), LIMIT).await.expect("registered");
            assert!(!health(&store).await.is_passing());
        });
    }
}

mod tls {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn make(dir: &Path, arguments: &[&str]) {
        let output = Command::new(binary()).arg("tls").args(arguments).current_dir(dir).output();
        let output = output.expect("consul runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn https_with_our_own_ca_and_a_client_certificate() {
        block_on(async {
            let dir = common::scratch("tls");
            make(dir.path(), &["ca", "create"]);
            make(dir.path(), &["cert", "create", "-server"]);
            make(dir.path(), &["cert", "create", "-client"]);
            let file = |name: &str| dir.path().join(name);
            let bytes = |name: &str| Some(std::fs::read(file(name)).expect("consul made it"));
            let port = common::free_port();
            let extra = json!({
                "ports": {"https": port},
                "verify_incoming_https": true,
                "ca_file": file("consul-agent-ca.pem"),
                "cert_file": file("dc1-server-consul-0.pem"),
                "key_file": file("dc1-server-consul-0-key.pem"),
            });
            let _consul = Consul::start(Options { extra, ..Options::default() });
            let address = [format!("https://localhost:{port}")];

            let ca = bytes("consul-agent-ca.pem");
            let chain = bytes("dc1-client-consul-0.pem").expect("made");
            let own_key = bytes("dc1-client-consul-0-key.pem").expect("made");
            let identity = Some((chain, own_key));
            let good = store_with(&address, None, Tls { ca: ca.clone(), identity });
            good.call(set("a", b"x"), LIMIT).await.expect("both sides are proven");
            good.call(read("a"), LIMIT).await.expect("rs-consul has the same client");

            let nameless = store_with(&address, None, Tls { ca, identity: None });
            let result = nameless.call(read("a"), LIMIT).await;
            assert!(result.is_err(), "Consul wants a certificate: {result:?}");

            let other = common::scratch("tls");
            make(other.path(), &["ca", "create"]);
            let foreign = std::fs::read(other.path().join("consul-agent-ca.pem")).ok();
            let wrong = store_with(&address, None, Tls { ca: foreign, identity: None });
            let result = wrong.call(set("a", b"y"), LIMIT).await;
            assert!(is_not_sent(&result), "nothing is said to a stranger: {result:?}");
        });
    }

    #[test]
    fn bad_files_are_told_at_once() {
        let settings = |tls| Settings {
            addresses: vec!["https://localhost:1".parse().expect("an address")],
            token: None,
            tls,
        };
        let no_pem = Tls { ca: Some(b"nothing".to_vec()), identity: None };
        let error = ConsulStore::new(settings(no_pem)).err().expect("refused").to_string();
        assert!(error.contains("CA: no certificate"), "{error}");
    }
}

fn registration(id: &str, passing: bool) -> Registration {
    Registration {
        id: id.to_string(),
        service: "orders".to_string(),
        address: "127.0.0.1".to_string(),
        port: 3306,
        tags: vec!["primary".to_string()],
        meta: BTreeMap::from([("epoch".to_string(), "3".to_string())]),
        ttl: Span::secs(10),
        passing,
        output: "it serves".to_string(),
    }
}
