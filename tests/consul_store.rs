//! The store on a real Consul: watches, time limits, several addresses, errors.
#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

#[macro_use]
mod common;

use common::block_on;
use common::consul::Consul;
use common::fake::{ClosingServer, FullListener};
use common::proxy::{Mode, Proxy};
use common::store::*;
use lictor::consul::{ConsulStore, Tls};
use lictor::decide::call::{Answer, Call, StoreError, Verb};
use lictor::decide::time::Span;
use lictor::decide::types::{Index, SessionId};
use lictor::store::{Store, Watched};
use std::net::TcpListener;
use std::time::{Duration, Instant};

mod watches {
    use super::*;

    on_both! {
        a_key_that_is_not_there_can_be_waited_for,
        a_prefix_wakes_for_each_key_under_it,
        the_end_of_the_wait_is_not_early,
    }

    fn a_key_that_is_not_there_can_be_waited_for(consul: &Consul) {
        block_on(async {
            let store = store_at(&consul.addresses());
            let first = watch(&store, "leader", None, LONG_WAIT).await;
            assert_eq!((first.entries.len(), first.early), (0, false));
            assert!(first.index >= Index(1));

            let start = Instant::now();
            let waiting = watch_until_there(&store, first.index);
            let (woken, written) = tokio::join!(waiting, async {
                // A neighbour's write may wake the one who waits for a missing key: no change, not
                // early.
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

    fn a_prefix_wakes_for_each_key_under_it(consul: &Consul) {
        block_on(async {
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

    fn the_end_of_the_wait_is_not_early(consul: &Consul) {
        block_on(async {
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
            // Lets the query reach Consul first; else it is answered without waiting, which is
            // early too.
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
    fn a_hung_one_behind_a_refused_one_is_left_behind_too() {
        block_on(async {
            let consul = Consul::one();
            let dead = format!("127.0.0.1:{}", common::free_port());
            let port = common::free_port();
            let _silent = TcpListener::bind(("127.0.0.1", port)).expect("the port is ours");
            let good = consul.servers[0].address();
            let store = store_at(&[dead, format!("127.0.0.1:{port}"), good]);
            assert!(is_unknown(&store.call(set("a", b"1"), SHORT).await));
            let second = store.call(set("a", b"2"), Span(5_000)).await;
            second.expect("by the third one: the silent one would have taken all the time");
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
                Call::Register(service("orders-n1", true)),
                Call::Registered(service("orders-n1", true)),
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
                // Until serf has noticed, the agent still tries the dead server: unknown, for all
                // we see.
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
            let mut not_sent = Vec::new();
            for n in 0..200 {
                let result = store.call(set("a", format!("value-{n}").as_bytes()), LIMIT).await;
                match (&result, server.count(n)) {
                    (Ok(_), 1) => {}
                    (Err(StoreError::NotSent(_)), 0) => not_sent.push(n),
                    (Err(StoreError::Unknown(_)), 0 | 1) => lost += 1,
                    (_, count) => panic!("{n}: {result:?}, and the server saw it {count} times"),
                }
            }
            assert!(not_sent.iter().all(|n| server.count(*n) == 0), "nor did they come later");
            assert!(lost < 100, "most writes find a live connection");
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
}

mod limits_and_errors {
    use super::*;

    on_both! {
        refusals_are_definite,
        a_session_has_no_checks_and_a_millisecond_of_delay,
        a_recursive_read_takes_garbage_and_strange_keys,
    }

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
                Call::Register(service("orders-n1", true)),
                Call::Registered(service("orders-n1", true)),
                Call::CheckUpdate { id: id.clone(), passing: true, output: String::new() },
                Call::Deregister { id },
                Call::Passing { service: "orders".to_string() },
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

    fn refusals_are_definite(consul: &Consul) {
        block_on(async {
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

    fn a_session_has_no_checks_and_a_millisecond_of_delay(consul: &Consul) {
        block_on(async {
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

    fn a_recursive_read_takes_garbage_and_strange_keys(consul: &Consul) {
        block_on(async {
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
