//! Operator's actions: who answers a request, with what, and what is done about it.

use super::*;
use crate::decide::records::RequestValue;

fn asked(world: &World, verb: &str, args: &[(&str, &str)]) -> RequestValue {
    let args = args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let (epoch, expires) = (world.epoch(), world.at + 30_000);
    RequestValue { v: 1, verb: verb.into(), args, by: "op".into(), epoch, expires }
}

fn put_request(world: &mut World, id: &str, request: &RequestValue) {
    world.put(world.node.keys().request(id), &encode(request));
    world.look();
}

fn result_of(world: &World, id: &str) -> ResultValue {
    let key = world.node.keys().request_result(id);
    let entry = world.store.get(&key).expect("a result");
    decode(&entry.value).expect("it is ours")
}

#[test]
fn the_start_of_a_switchover_is_durable_before_the_demotion() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "b")]);
    put_request(&mut world, "r1", &request);
    assert!(world.place("result") < world.place("run demote"), "{:?}", world.log);
    assert_eq!(result_of(&world, "r1").status, RequestStatus::Started);
    assert!(world.is_released(), "b has the final position");
    assert_eq!(world.leader().to, Some("b".into()));
}

/// It was tried again as fast as Consul refused it.
#[test]
fn a_result_that_cannot_be_written_is_not_tried_in_a_circle() {
    let mut world = pair();
    let request = asked(&world, "switchover", &[("to", "nobody")]);
    world.held = vec!["result"];
    put_request(&mut world, "r1", &request);
    world.pass(1_000);
    let tries = world.log.iter().filter(|act| *act == "result").count();
    assert!((2..=10).contains(&tries), "{tries} in a second");
}

#[test]
fn what_nobody_can_do_is_refused_with_its_mend() {
    let mut world = pair();
    let good = asked(&world, "switchover", &[("to", "b")]);
    let late = RequestValue { expires: world.at - 1, ..good.clone() };
    let ahead = RequestValue { epoch: Epoch(99), ..good };
    let cases = [
        (encode(&asked(&world, "dance", &[])), "does not know `dance`; it knows switchover"),
        (encode(&asked(&world, "switchover", &[("too", "b")])), "takes no `too`"),
        (encode(&asked(&world, "switchover", &[("to", "B!")])), "is not a node's name"),
        (encode(&asked(&world, "switchover", &[("to", "zz")])), "zz is not a member"),
        (encode(&late), "expired before a leader saw it"),
        (encode(&ahead), "made for a later term"),
        (b"{}".to_vec(), "this is no request: write JSON with v, verb"),
    ];
    for (place, (value, says)) in cases.into_iter().enumerate() {
        let id = format!("r{place}");
        world.put(world.node.keys().request(&id), &value);
        world.look();
        let result = result_of(&world, &id);
        assert_eq!(result.status, RequestStatus::Refused, "{says}");
        assert!(result.reason.contains(says), "{} lacks {says}", result.reason);
    }
    assert_eq!(world.state(), "primary");
}

#[test]
fn requests_and_results_go_when_nobody_asks_any_more() {
    let mut world = pair();
    world.put(world.node.keys().request("garbage"), b"{}");
    let request = asked(&world, "switchover", &[("to", "zz")]);
    put_request(&mut world, "plain", &request);
    world.look();
    assert!(world.store.get(&world.node.keys().request_result("garbage")).is_some());
    world.ahead += 10 * 60 * 1_000 + 1;
    let left = |world: &World| {
        let all = world.node.keys().requests();
        world.store.entries.keys().filter(|key| key.as_str().starts_with(all.as_str())).count()
    };
    world.look();
    assert_eq!(left(&world), 2, "the plain one is good for 30 s more");
    world.ahead += 30_000;
    world.look();
    world.look();
    assert_eq!(left(&world), 0);
}
