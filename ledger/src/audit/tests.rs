//! Audits of the standard story, asked of a global ledger that holds blocks only.

use super::*;
use crate::global::{Anchor, Answer, Command};
use crate::receipt::fixture::{Chain, ORDERS_0, START_MS, four, receive, retrieve, send, story};
use waybill_types::Codec;

fn global(chains: &[&Chain]) -> GlobalLedger {
    let db = sled::Config::new().temporary(true).open().unwrap();
    let global = GlobalLedger::open((*db).clone(), Arc::new(chains[0].genesis.clone())).unwrap();
    for chain in chains {
        let certificate = chain.certificates.last().unwrap().clone();
        let anchor = Anchor { ledger: chain.ledger, blocks: chain.blocks.clone(), certificate };
        let answer = global.apply(b"", &Command::Anchor(anchor).to_bytes()).unwrap();
        assert!(matches!(Answer::from_bytes(&answer), Ok(Answer::Anchored(_))));
    }
    global
}

fn told(global: &GlobalLedger, asked: &Query) -> Vec<Row> {
    query(global, asked).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn golden_table() {
    let (system, orders) = story(&four());
    let global = global(&[&system, &orders]);
    let mut table = Vec::new();
    let count = write_table(query(&global, &Query::topic("orders")).unwrap(), &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert_eq!((count, table.as_str()), (3, include_str!("golden_table.txt")), "\n{table}");
}

#[test]
fn golden_json() {
    let (system, orders) = story(&four());
    let global = global(&[&system, &orders]);
    let mut json = Vec::new();
    let asked = Query { offsets: 5..=5, ..Query::topic("orders") };
    assert_eq!(write_json(query(&global, &asked).unwrap(), &mut json).unwrap(), 1);
    let row: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let event = |time_ms: u64, time: &str| serde_json::json!({"time_ms": time_ms, "time": time, "records": 1, "complete": true});
    let mut refused = event(START_MS + 4_000, "2023-11-14T22:13:24.000Z");
    refused["reason"] = "the organisation may not read this topic".into();
    let expected = serde_json::json!({
        "topic": "orders",
        "partition": 0,
        "first_offset": 5,
        "last_offset": 5,
        "sender": "acme",
        "sent_ms": START_MS + 2_000,
        "sent": "2023-11-14T22:13:22.000Z",
        "size_bytes": 100,
        "record_count": 1,
        "commitment": "8c6768ec164ae7f8bac3fef6d14a0885873d168a5ce59b5525860552dad568b4",
        "organisations": {
            "globex": {
                "retrieved": event(START_MS + 3_000, "2023-11-14T22:13:23.000Z"),
                "received": event(START_MS + 3_000, "2023-11-14T22:13:23.000Z"),
                "committed": event(START_MS + 4_000, "2023-11-14T22:13:24.000Z"),
            },
            "initech": { "refused": refused },
        },
    });
    assert_eq!(row, expected);
    assert!(json.ends_with(b"}\n"));
}

#[test]
fn partitions_and_offsets_narrow_an_audit() {
    let (system, orders) = story(&four());
    let mut second = Chain::partition(&four(), &system, LedgerId { partition: 1, ..ORDERS_0 });
    second.execute(START_MS + 2_000, vec![(1, vec![send(1, 2), send(1, 2)])]);
    second.certify(&[0, 1, 2]);
    let global = global(&[&system, &orders, &second]);
    let offsets = |asked: &Query| -> Vec<(u32, Offset)> {
        told(&global, asked).iter().map(|row| (row.partition, row.first_offset)).collect()
    };
    let all = Query::topic("orders");
    assert_eq!(offsets(&all), [(0, 0), (0, 5), (0, 6), (1, 0), (1, 2)]);
    assert_eq!(offsets(&Query { partition: Some(1), ..all.clone() }), [(1, 0), (1, 2)]);
    assert_eq!(offsets(&Query { offsets: 3..=5, ..all.clone() }), [(0, 0), (0, 5), (1, 2)]);
    assert_eq!(offsets(&Query { offsets: 10..=10, ..all.clone() }), [(0, 6)], "a batch is told whole");
    assert_eq!(offsets(&Query { offsets: 16..=Offset::MAX, ..all.clone() }), []);
    let error = query(&global, &Query { partition: Some(2), ..all }).unwrap_err();
    assert!(matches!(error, AuditError::UnknownPartition { partitions: 2, asked: 2, .. }));
    assert!(matches!(query(&global, &Query::topic("x")), Err(AuditError::UnknownTopic(_))));
}

#[test]
fn a_batch_that_came_in_pieces_is_told_as_partly_delivered() {
    let (system, mut orders) = story(&four());
    orders.execute(START_MS + 5_000, vec![(2, vec![receive(8, 9)]), (1, vec![retrieve("globex", 6, 15)])]);
    orders.execute(START_MS + 6_000, vec![(2, vec![receive(12, 12)])]);
    orders.certify(&[0, 1, 2]);
    let global = global(&[&system, &orders]);
    let asked = Query { offsets: 6..=6, ..Query::topic("orders") };
    let row = told(&global, &asked).remove(0);
    let delivery = &row.organisations["globex"];
    let received = delivery.received.as_ref().unwrap();
    assert_eq!((received.records, received.complete, received.time_ms), (3, false, START_MS + 6_000));
    assert!(delivery.retrieved.as_ref().unwrap().complete);
    assert_eq!(delivery.committed, None);
    let mut table = Vec::new();
    write_table(query(&global, &asked).unwrap(), &mut table).unwrap();
    assert!(String::from_utf8(table).unwrap().contains("received by globex, partly: 3 of 10 records"));
}

#[test]
fn a_topic_without_batches_says_so() {
    let (system, _) = story(&four());
    let global = global(&[&system]);
    let mut table = Vec::new();
    assert_eq!(write_table(query(&global, &Query::topic("orders")).unwrap(), &mut table).unwrap(), 0);
    assert_eq!(table, b"nothing was sent\n");
}
