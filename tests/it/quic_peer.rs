//! A peer that speaks our wire by hand: order, replay, gaps, claims and unknown kinds, on a real link.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use hansa_model::enrollment::Role;
use hansa_model::host::{HostChange, HostEntry};
use hansa_model::limits::sync::FRAME_BYTES_MAX;
use hansa_model::sync::{BatchHeader, BatchRefusal, Items, Position};
use hansa_model::{SiteId, Timestamp};
use hansa_tests::{HttpSite, TestNode, eventually, host, rows_of};
use hansa_transport::wire::{Batch, Down, Hello, Up, WIRE_VERSION, Welcome};
use hansa_transport::{
    EncodedFrame, Endpoint, EndpointConfig, Lane, LaneReceiver, LaneSender, Link, PublicKey,
};
use tokio::time::timeout;

/// A link that was greeted, with its ingest lane.
struct Conversation {
    link: Link,
    welcome: Welcome,
    up: LaneSender,
    down: LaneReceiver,
    /// The control lane stays open for as long as the link is in use.
    _control: (LaneSender, LaneReceiver),
}

impl Conversation {
    async fn begin(node: &TestNode, site: &HttpSite) -> Self {
        let (link, control) = dial(node, site).await;
        let (mut sender, mut receiver) = control;
        sender.send(&hello(Some(site.id.parse().unwrap())).encode()).await.unwrap();
        let Down::Welcome(welcome) = receive(&mut receiver).await else { panic!("no welcome") };
        let (up, down) = link.open(Lane::Ingest).await.unwrap();
        Self { link, welcome, up, down, _control: (sender, receiver) }
    }

    async fn send(&mut self, batch: &Batch) -> Down {
        self.up.send(&Up::Batch(batch.clone()).encode()).await.unwrap();
        receive(&mut self.down).await
    }

    async fn acknowledged(&mut self, batch: &Batch) -> Position {
        let answer = self.send(batch).await;
        let Down::Acknowledged(acknowledged) = answer else { panic!("{answer:?}") };
        acknowledged.position
    }

    async fn refused(&mut self, batch: &Batch) -> (BatchRefusal, Position) {
        let answer = self.send(batch).await;
        let Down::Refused(refused) = answer else { panic!("{answer:?}") };
        (refused.refusal, refused.position)
    }
}

async fn dial(node: &TestNode, site: &HttpSite) -> (Link, (LaneSender, LaneReceiver)) {
    let key = node.api().get("/api/v1/federation/identity-key").await.ok();
    let coordinator = PublicKey::from_pem(key["public_key_pem"].as_str().unwrap()).unwrap();
    let config = EndpointConfig::new(site.key().clone(), Arc::new(|_| true));
    let endpoint = Endpoint::bind(UdpSocket::bind("127.0.0.1:0").unwrap(), config).unwrap();
    let link =
        eventually("a link", async || endpoint.dial(node.quic_address(), coordinator).await.ok()).await;
    let control = link.open(Lane::Control).await.unwrap();
    (link, control)
}

fn hello(site: Option<SiteId>) -> Up {
    Up::Hello(Hello { site, software_version: "by hand".to_owned(), wire_version: WIRE_VERSION, epoch: 0 })
}

async fn receive(lane: &mut LaneReceiver) -> Down {
    let frame =
        timeout(Duration::from_secs(10), lane.recv(FRAME_BYTES_MAX)).await.expect("an answer in time");
    Down::decode(&frame.expect("a frame")).expect("a message")
}

/// A batch with one host, the next one after a position.
fn batch(after: Position, epoch: u64, sequence: u64, number: u32) -> Batch {
    let entry: HostEntry = serde_json::from_value(host(1, number)).unwrap();
    let row = entry.merge(None, Timestamp::from_secs(1_800_000_000)).unwrap();
    let items = Items { changes: vec![HostChange::Upsert(row)], ..Items::default() };
    let header = BatchHeader { epoch, sequence, previous_chain: after.chain, reset: false, queue_depth: 1 };
    Batch { header, items: Batch::encode_items(&items) }
}

async fn total(node: &TestNode) -> usize {
    rows_of(&node.api(), "/api/v1/federation/hosts").await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_17_batch_takes_effect_once_through_repeats_reconnects_and_restarts() {
    let mut node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "by hand", 1).await;
    let mut talk = Conversation::begin(&node, &site).await;
    assert_eq!(talk.welcome.position, Position::default());
    let first = batch(Position::default(), 7, 1, 1);

    let position = talk.acknowledged(&first).await;
    let searchable = total(&node).await;
    let repeated = talk.acknowledged(&first).await;
    talk.link.close(hansa_transport::CloseCode::ShuttingDown);
    let mut talk = Conversation::begin(&node, &site).await;
    let after_reconnect = (talk.welcome.position, talk.acknowledged(&first).await);
    node.restart().await;
    let mut talk = Conversation::begin(&node, &site).await;
    let after_restart = (talk.welcome.position, talk.acknowledged(&first).await);
    let second = talk.acknowledged(&batch(position, 7, 2, 2)).await;
    // The first one again, now older than the last.
    let old = talk.acknowledged(&first).await;

    assert_eq!(position, Position::default().advanced(7, 1, &first.items));
    assert_eq!((searchable, repeated), (1, position));
    assert_eq!((after_reconnect, after_restart), ((position, position), (position, position)));
    assert_eq!((old, total(&node).await), (second, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_divergence_are_refused_with_where_the_stream_stands() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "by hand", 1).await;
    let mut talk = Conversation::begin(&node, &site).await;
    let position = talk.acknowledged(&batch(Position::default(), 7, 1, 1)).await;

    let gap = talk.refused(&batch(position, 7, 3, 2)).await;
    let reused = talk.refused(&batch(Position::default(), 7, 1, 3)).await;
    let forked = talk.refused(&batch(Position { chain: [1; 32], ..position }, 7, 2, 4)).await;
    let unknown_epoch = talk.refused(&batch(Position::default(), 8, 1, 5)).await;

    assert_eq!(gap, (BatchRefusal::Gap, position));
    for refusal in [reused, forked, unknown_epoch] {
        assert_eq!(refusal, (BatchRefusal::Diverged, position));
    }
    assert_eq!(total(&node).await, 1);
    talk.acknowledged(&batch(position, 7, 2, 6)).await;
    assert_eq!(total(&node).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_kinds_are_answered_and_the_conversation_goes_on() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "from the future", 1).await;
    let mut talk = Conversation::begin(&node, &site).await;

    talk.up.send(&EncodedFrame::new(60_000, b"something new", Vec::new().into())).await.unwrap();
    let answer = receive(&mut talk.down).await;
    talk.acknowledged(&batch(Position::default(), 7, 1, 1)).await;

    assert_eq!(answer, Down::NotUnderstood { kind: 60_000 });
    assert_eq!(total(&node).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_03_site_that_claims_another_id_over_quic_gets_no_welcome() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "liar", 1).await;
    let other = HttpSite::enrolled(&node, "victim", 80).await;

    let (link, (mut sender, mut receiver)) = dial(&node, &site).await;
    sender.send(&hello(Some(other.id.parse().unwrap())).encode()).await.unwrap();
    let answer =
        timeout(Duration::from_secs(10), receiver.recv(FRAME_BYTES_MAX)).await.expect("an answer in time");

    let welcomed = answer.ok().map(|frame| Down::decode(&frame).unwrap());
    // Either refused, or taken for who it is; never for whom it says.
    if let Some(Down::Welcome(welcome)) = welcomed {
        assert_eq!(welcome.site_id.to_string(), site.id);
    }
    drop(link);
    let victim = node.api().get(&format!("/api/v1/federation/sites/{}", other.id)).await.licensed();
    assert_eq!(victim["site"]["last_sync_at"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_lane_ends_that_link_and_nothing_else() {
    let node = TestNode::start(Role::Coordinator).await;
    let site = HttpSite::enrolled(&node, "noisy", 1).await;
    let neighbour = HttpSite::enrolled(&node, "quiet", 80).await;
    let mut good = Conversation::begin(&node, &neighbour).await;
    let kinds: Vec<u16> = (0..32).collect();

    for kind in kinds {
        let mut talk = Conversation::begin(&node, &site).await;
        let sent = talk.up.send(&EncodedFrame::new(kind, &[0xff; 40], vec![0xff; 400].into())).await;
        let _ =
            timeout(Duration::from_secs(10), talk.down.recv(FRAME_BYTES_MAX)).await.expect("an end in time");
        drop(sent);
    }

    good.acknowledged(&batch(Position::default(), 7, 1, 1)).await;
    let mut talk = Conversation::begin(&node, &site).await;
    let entry = batch(Position::default(), 9, 1, 2);
    talk.acknowledged(&entry).await;
    assert_eq!(total(&node).await, 2);
}
