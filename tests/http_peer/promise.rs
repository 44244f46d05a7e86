//! `/peer/promise`: whoever is not proven, or is not the leader that the core knows, gets 401 and
//! has no effect; an answer counts for its own round alone.

use super::node::*;
use lictor::decide::peer::{Ask, PeerCall, PeerError, Told};
use lictor::decide::time::Span;
use lictor::decide::types::{Epoch, NodeName, RunId};
use lictor::http::{PeerAuth, PeerClient, Refusal, Secret};

fn promise(round: u64) -> Ask {
    Ask::Promise { epoch: Epoch(4), run: RunId::new("ra"), round, lease: Span(3_000) }
}

#[tokio::test]
async fn a_promise_is_asked_and_given_or_declined() {
    let mut node = Node::start("b", "rb").await;
    let client = PeerClient::new(auth("a", "ra"));
    let declined = Told::Refused { reason: "a take-over of this node is open".into() };
    for told in [Told::Promised { round: 7 }, declined] {
        let call = client.ask(node.call(promise(7)), Epoch(4));
        let (answer, event) = tokio::join!(call, node.answer(told.clone()));
        assert_eq!(answer, Ok(told));
        assert_eq!((event.from.as_str(), event.run.as_str(), event.epoch), ("a", "ra", Epoch(4)));
        assert_eq!(event.ask, promise(7));
    }
}

#[tokio::test]
async fn who_is_not_proven_is_promised_nothing() {
    let mut node = Node::start("b", "rb").await;
    let wrong = PeerAuth::new(NodeName::new("a"), RunId::new("ra"));
    wrong.set_key(cluster(), &Secret::new(&[8; 32])).expect("a key");
    let ask = node.call(promise(7));
    let former = PeerCall { run: RunId::new("former"), ..ask.clone() };
    for (auth, call, why) in
        [(wrong, ask, Refusal::WrongMac), (auth("a", "ra"), former, Refusal::FormerRun)]
    {
        let answer = PeerClient::new(auth).ask(call, Epoch(4)).await;
        assert_eq!(answer, Err(PeerError::Unauthenticated(why.to_string())));
        assert_eq!(node.auth.refused(why), 1);
    }
    let bare = ask_raw(node.addr, "POST", "/peer/promise", "{}").await;
    assert_eq!((bare.status, node.auth.refused(Refusal::Malformed)), (401, 1));
    assert!(node.incoming.try_recv().is_err(), "none of it reached the driver");
}

/// Of another run, or under an old epoch: only the core knows.
#[tokio::test]
async fn whom_the_core_denies_gets_401_and_is_counted() {
    let mut node = Node::start("b", "rb").await;
    let client = PeerClient::new(auth("a", "former"));
    let denied = Told::Denied { reason: "this is not the node, run and epoch".into() };
    let (answer, _) =
        tokio::join!(client.ask(node.call(promise(7)), Epoch(3)), node.answer(denied));
    assert_eq!(answer, Err(PeerError::Unauthenticated(Refusal::OtherTerm.to_string())));
    assert_eq!(node.auth.refused(Refusal::OtherTerm), 1);
}

#[tokio::test]
async fn a_replayed_request_and_a_replayed_answer_promise_nothing() {
    let mut node = Node::start("b", "rb").await;
    let tape = Tape::record(node.addr).await;
    let client = PeerClient::new(auth("a", "ra"));
    let call = tape.call(node.call(promise(7)));
    let given = Told::Promised { round: 7 };
    let (answer, _) = tokio::join!(client.ask(call, Epoch(4)), node.answer(given.clone()));
    assert_eq!(answer, Ok(given));
    let again = send_raw(node.addr, &tape.request()).await;
    assert_eq!((again.status, again.json()["code"].as_str()), (401, Some("peer.replayed")));
    assert_eq!(node.auth.refused(Refusal::Replayed), 1);
    assert!(node.incoming.try_recv().is_err());
    // The recorded answer, to the same round asked once more: as it was, and with the nonce put in.
    for (forge, why) in [(false, "repeat the nonce"), (true, "MAC is wrong")] {
        let liar = tape.liar(forge).await;
        let call = PeerCall { addr: liar.to_string(), ..node.call(promise(7)) };
        match client.ask(call, Epoch(4)).await {
            Err(PeerError::Unauthenticated(text)) => assert!(text.contains(why), "{text}"),
            other => panic!("forge {forge}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_to_another_round_or_question_is_none() {
    let mut node = Node::start("b", "rb").await;
    let client = PeerClient::new(auth("a", "ra"));
    let other = Told::Promised { round: 6 };
    let (answer, _) = tokio::join!(client.ask(node.call(promise(7)), Epoch(4)), node.answer(other));
    assert!(matches!(&answer, Err(PeerError::Unauthenticated(why)) if why.contains("round")));
    for (ask, told) in [(promise(7), pong()), (Ask::Ping, Told::Promised { round: 7 })] {
        let (answer, _) = tokio::join!(client.ask(node.call(ask), Epoch(4)), node.answer(told));
        assert!(matches!(answer, Err(PeerError::Bad(_))), "{answer:?}");
    }
}
