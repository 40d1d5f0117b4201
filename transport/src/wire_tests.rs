//! Golden bytes of every message, and the rules that keep versions talking.

use proptest::prelude::*;

use hansa_model::Timestamp;
use hansa_model::audit::Checkpoint;
use hansa_model::host::HostChange;
use hansa_model::secret::hex;

use super::*;
use crate::frame::FrameDecoder;

fn received(encoded: &EncodedFrame) -> Frame {
    let mut decoder = FrameDecoder::default();
    decoder.push(&encoded.to_vec());
    decoder.next_frame(1 << 20).unwrap().unwrap()
}

fn position() -> Position {
    Position { epoch: 0x0102, sequence: 3, chain: [0xcc; 32] }
}

fn site() -> SiteId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn batch() -> Batch {
    Batch {
        header: BatchHeader {
            epoch: 0x0102,
            sequence: 4,
            previous_chain: [0xcc; 32],
            reset: false,
            queue_depth: 200,
        },
        items: Bytes::from_static(b"\x00\x00\x00\x00"),
    }
}

/// One of each message that a site sends, with its bytes as released in version 0.1.
fn golden_up() -> Vec<(Up, &'static str)> {
    vec![
        (
            Up::Enroll(Enroll {
                token: Secret::new("tok".to_owned()),
                tls_cert_pem: "pem".to_owned(),
                identity_proof: "prf".to_owned(),
            }),
            "0f000000010100 03746f6b 0370656d 03707266",
        ),
        (
            Up::Hello(Hello {
                site: Some(site()),
                software_version: "0.1.0".to_owned(),
                wire_version: 1,
                epoch: 0x0102,
            }),
            "1e000000010200 01 10 01890a5dac96774bbcceb302099a8057 05302e312e30 01 8202",
        ),
        (
            Up::Batch(batch()),
            "2f000000010300 2600 8202 04 cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc 00 c801 00000000",
        ),
        (
            Up::Digest(Digest { position: position(), root: 5, branches: vec![6, 300] }),
            "2b000000010400 8202 03 cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc 05 02 06 ac02",
        ),
        (Up::PushAck(PushAck { id: 9 }), "04000000010500 09"),
        (Up::Leave, "03000000010600"),
        (
            Up::Health(Health { sent_at: Timestamp::from_micros(1), dead_letters: 300 }),
            "06000000010700 02 ac02",
        ),
        (
            Up::Held(Held {
                policies: vec![HeldPolicy {
                    policy_id: site().to_string().parse().unwrap(),
                    version: 300,
                    wanted: true,
                }],
                baselines: vec!["b".to_owned()],
                findings: true,
            }),
            "1c000000010800 01 10 01890a5dac96774bbcceb302099a8057 ac02 01 01 0162 01",
        ),
        (Up::PushRefused(PushRefused { id: 9, reason: "no".to_owned() }), "07000000010900 09 026e6f"),
        (Up::NotUnderstood { kind: 0x0107 }, "05000000010000 8702"),
    ]
}

/// One of each message that a coordinator sends, with its bytes as released in version 0.1.
fn golden_down() -> Vec<(Down, &'static str)> {
    let chain = "8202 03 cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";
    let texts: Vec<(Down, String)> = vec![
        (
            Down::Enrolled(Box::new(Enrolled {
                site_id: site(),
                site_name: "alpha".to_owned(),
                sync_bearer: Secret::new("bearer".to_owned()),
                coordinator_inbound_bearer_token_hash: [0xdd; 32],
                coordinator_tls_cert_pem: "pem".to_owned(),
                identity_proof: "prf".to_owned(),
                sync_interval_seconds: 300,
            })),
            format!(
                "4b000000010101 10 01890a5dac96774bbcceb302099a8057 05616c706861 06626561726572 {} 0370656d 03707266 ac02",
                "dd".repeat(32)
            ),
        ),
        (
            Down::EnrollRefused(EnrollRefused { code: "c".to_owned(), detail: "d".to_owned() }),
            "07000000010201 0163 0164".to_owned(),
        ),
        (
            Down::Welcome(Welcome {
                site_id: site(),
                position: position(),
                sync_interval_seconds: 300,
                software_version: "0.1.0".to_owned(),
                wire_version: 1,
            }),
            format!("40000000010301 10 01890a5dac96774bbcceb302099a8057 {chain} ac02 05302e312e30 01"),
        ),
        (Down::Acknowledged(Acknowledged { position: position() }), format!("26000000010401 {chain}")),
        (
            Down::Refused(Refused { refusal: BatchRefusal::Diverged, position: position() }),
            format!("27000000010501 01 {chain}"),
        ),
        (
            Down::DigestDiff(DigestDiff {
                comparable: true,
                branches: vec![BranchLeaves { branch: 7, leaves: vec![8, 9] }],
            }),
            "09000000010601 01 01 07 02 08 09".to_owned(),
        ),
        (
            Down::Push(Push { id: 9, kind: 2, payload: Bytes::from_static(b"xy") }),
            "08000000010701 09 02 027879".to_owned(),
        ),
        (Down::Resync, "03000000010801".to_owned()),
        (
            Down::Checkpoint(Checkpoint {
                number: 300,
                hash: [0xab; 32],
                at: hansa_model::Timestamp::from_micros(-1),
                signature: vec![0xcd; 2],
            }),
            format!("29000000010901 ac02 {} 01 02cdcd", "ab".repeat(32)),
        ),
        (Down::NotUnderstood { kind: 3 }, "04000000010000 03".to_owned()),
    ];
    texts.into_iter().map(|(message, text)| (message, &*text.leak())).collect()
}

#[test]
fn messages_of_a_site_have_their_golden_bytes() {
    for (message, golden) in golden_up() {
        let encoded = message.encode();

        assert_eq!(hex(&encoded.to_vec()), golden.replace(' ', ""), "{message:?}");
        assert_eq!(Up::decode(&received(&encoded)), Ok(message));
    }
}

#[test]
fn messages_of_a_coordinator_have_their_golden_bytes() {
    for (message, golden) in golden_down() {
        let encoded = message.encode();

        assert_eq!(hex(&encoded.to_vec()), golden.replace(' ', ""), "{message:?}");
        assert_eq!(Down::decode(&received(&encoded)), Ok(message));
    }
}

#[test]
fn fields_of_a_newer_version_are_ignored() {
    for (message, _) in golden_up() {
        let Frame { kind, payload } = received(&message.encode());
        let longer = Frame { kind, payload: [payload.as_ref(), b"newer"].concat().into() };
        match Up::decode(&longer).unwrap() {
            // What follows a batch's header belongs to the items, and they ignore what they do not know.
            Up::Batch(batch) => assert_eq!(batch.decode_items().unwrap(), Items::default()),
            Up::Enroll(_)
            | Up::Hello(_)
            | Up::Digest(_)
            | Up::PushAck(_)
            | Up::Leave
            | Up::Health(_)
            | Up::Held(_)
            | Up::PushRefused(_)
            | Up::NotUnderstood { .. }
            | Up::Unknown { .. } => assert_eq!(Up::decode(&longer), Ok(message)),
        }
    }
    for (message, _) in golden_down() {
        let Frame { kind, payload } = received(&message.encode());
        let longer = Frame { kind, payload: [payload.as_ref(), b"newer"].concat().into() };
        assert_eq!(Down::decode(&longer), Ok(message));
    }
}

#[test]
fn newer_fields_of_a_batch_header_leave_the_items_alone() {
    let Frame { kind, payload } = received(&Up::Batch(batch()).encode());
    let (header, items) = payload[2..].split_at(usize::from(payload[0]));
    let longer = [&[payload[0] + 3, 0], header, b"new", items].concat();

    assert_eq!(Up::decode(&Frame { kind, payload: longer.into() }), Ok(Up::Batch(batch())));
}

#[test]
fn unknown_kind_is_told_apart_from_a_broken_one_and_answered() {
    let unknown = Frame { kind: 0x00ff, payload: Bytes::from_static(b"whatever") };

    assert_eq!(Up::decode(&unknown), Ok(Up::Unknown { kind: 0x00ff }));
    assert_eq!(Down::decode(&unknown), Ok(Down::Unknown { kind: 0x00ff }));
    let answer = Down::NotUnderstood { kind: 0x00ff };
    assert_eq!(Down::Unknown { kind: 0x00ff }.encode(), answer.encode());
    assert_eq!(Up::decode(&received(&answer.encode())), Ok(Up::NotUnderstood { kind: 0x00ff }));
    let broken = Frame { kind: 0x0002, payload: Bytes::new() };
    assert_eq!(Up::decode(&broken), Err(FrameError::Malformed { kind: 0x0002 }));
}

#[test]
fn a_site_cannot_send_what_only_a_coordinator_sends() {
    let acknowledged = received(&golden_down()[3].0.encode());

    assert_eq!(Up::decode(&acknowledged), Ok(Up::Unknown { kind: 0x0104 }));
}

#[test]
fn items_of_a_batch_are_neither_copied_nor_changed() {
    let items = Items {
        changes: vec![HostChange::<String>::Remove("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap())],
        ..Items::default()
    };
    let batch = Batch { items: Batch::encode_items(&items), ..batch() };

    let frame = received(&Up::Batch(batch.clone()).encode());
    let Ok(Up::Batch(decoded)) = Up::decode(&frame) else { panic!("a batch") };

    assert_eq!(decoded, batch);
    assert!(frame.payload.as_ptr_range().contains(&decoded.items.as_ptr()));
    assert_eq!(decoded.decode_items().unwrap().changes.len(), 1);
}

#[test]
fn messages_print_without_their_secrets() {
    for (message, _) in golden_up() {
        assert!(!format!("{message:?}").contains("tok\""), "{message:?}");
    }
    for (message, _) in golden_down() {
        assert!(!format!("{message:?}").contains("bearer\""), "{message:?}");
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(kind in prop_oneof![0_u16..0x10, 0x0100_u16..0x0110, any::<u16>()], bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let frame = Frame { kind, payload: bytes.into() };

        if let Ok(Up::Batch(batch)) = Up::decode(&frame) {
            let _ = batch.decode_items();
        }
        let _ = Down::decode(&frame);
    }

    #[test]
    fn cut_messages_are_refused_and_never_panic(index in 0_usize..16, cut in 0_usize..100) {
        let frames: Vec<_> = golden_up().iter().map(|(message, _)| message.encode()).chain(golden_down().iter().map(|(message, _)| message.encode())).collect();
        let Frame { kind, payload } = received(&frames[index]);
        let cut = Frame { kind, payload: payload.slice(..cut.min(payload.len())) };

        let _ = Up::decode(&cut);
        let _ = Down::decode(&cut);
    }
}
