//! The store on a real Consul: tokens, registration and its check, https.
#![allow(clippy::disallowed_methods, reason = "a test has clocks and processes of its own")]

#[macro_use]
mod common;

use common::block_on;
use common::consul::{Consul, Options, binary};
use common::store::*;
use lictor::consul::{ConsulStore, Secret, Settings, Tls};
use lictor::decide::call::{Answer, Call, Registration, Verb};
use lictor::decide::keys::Key;
use lictor::decide::time::Span;
use lictor::store::Store;
use serde_json::json;
use std::time::{Duration, Instant};

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
            let wanted = service("orders-n1", true);
            store.call(Call::Register(wanted.clone()), LIMIT).await.expect("service");
            let known = store.call(Call::Registered(wanted), LIMIT).await;
            assert_eq!(known, Ok(Answer::Known(true)));
            for _ in 0..2 {
                let gone = Call::Deregister { id: "orders-n1".to_string() };
                store.call(gone, LIMIT).await.expect("gone, or gone already");
            }
            let foreign = store.call(Call::Txn(vec![Verb::Set(Key::new("x"), vec![])]), LIMIT);
            assert!(is_denied(&foreign.await));
        });
    }
}

mod registration {
    use super::*;

    on_both! {
        a_service_is_told_fed_forgotten_and_removed,
        an_unfed_check_turns_critical_after_its_ttl,
        a_new_registration_can_start_critical,
    }

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

    fn a_service_is_told_fed_forgotten_and_removed(consul: &Consul) {
        block_on(async {
            let store = store_at(&consul.addresses());
            let service = service("orders-n1", true);
            let known = || Call::Registered(service.clone());
            let passing = || Call::Passing { service: "orders".to_string() };
            let names = |names: &[&str]| {
                Ok(Answer::Passing(names.iter().map(|name| (*name).to_string()).collect()))
            };
            assert_eq!(store.call(known(), LIMIT).await, Ok(Answer::Known(false)));
            assert_eq!(store.call(passing(), LIMIT).await, names(&[]));
            store.call(Call::Register(service.clone()), LIMIT).await.expect("registered");
            assert_eq!(store.call(known(), LIMIT).await, Ok(Answer::Known(true)));

            let found = health(&store).await;
            assert!(found.is_passing(), "at once: {found:?}");
            assert_eq!(store.call(passing(), LIMIT).await, names(&["orders-n1"]));
            assert_eq!((found.tags, found.meta), (service.tags.clone(), service.meta.clone()));
            assert_eq!((found.address.as_str(), found.port), ("127.0.0.1", 3306));
            assert!(found.checks.iter().any(|check| check.id == "service:orders-n1"));
            let local = consul.json("GET", "/v1/agent/checks", "");
            assert_eq!(local["service:orders-n1"]["Output"], "it serves", "the agent knows it");
            let nodes = store.service_nodes("orders", LIMIT).await.expect("by rs-consul");
            assert_eq!((nodes[0].id.as_str(), nodes[0].port), ("orders-n1", 3306));

            store.call(update(false, "it does not"), LIMIT).await.expect("fed");
            health_until(&store, false).await;
            assert_eq!(store.call(passing(), LIMIT).await, names(&[]));
            let failing = health(&store).await.checks;
            let failing = failing.iter().find(|check| check.id == "service:orders-n1");
            assert_eq!(failing.map(|check| check.output.as_str()), Some("it does not"));
            let other = Registration { tags: vec!["replica".to_string()], ..service.clone() };
            store.call(Call::Register(other), LIMIT).await.expect("registered again");
            assert_eq!(store.call(known(), LIMIT).await, Ok(Answer::Known(false)), "as another");
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

    fn an_unfed_check_turns_critical_after_its_ttl(consul: &Consul) {
        block_on(async {
            let store = store_at(&consul.addresses());
            let service = Registration { ttl: Span(1_500), ..service("orders-n1", true) };
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

    fn a_new_registration_can_start_critical(consul: &Consul) {
        block_on(async {
            let store = store_at(&consul.addresses());
            let service = service("orders-n1", false);
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
