//! Fixed inputs lead to fixed hashes. A change here is a change of protocol.

use super::fixture::*;
use waybill_types::transaction::{Config, Producer, Refuse};
use waybill_types::*;

/// One of everything, by everyone.
pub fn script(bodies: &mut Bodies) -> Vec<bytes::Bytes> {
    let producer = |base_sequence| Producer { id: 7, epoch: 0, base_sequence };
    let second = Config { version: 2, log_append_time: true, readers: vec![org("reader"), org("witness")], ..config() };
    let refuse = Transaction::Refuse(Refuse { to: org("witness"), offset: 0, reason: 1 });
    vec![
        first_body().to_bytes(),
        bodies.body(false, vec![(OWNER, vec![send(OWNER, 3), send_as(OWNER, 2, producer(0))])]),
        bytes::Bytes::new(),
        bodies.body(
            false,
            vec![
                (WRITER, vec![send(WRITER, 5), send(OWNER, 1)]),
                (OWNER, vec![send_as(OWNER, 2, producer(0)), send_as(OWNER, 1, producer(2)), retrieve("reader", 0, 4)]),
            ],
        ),
        bodies.body(
            true,
            vec![
                (READER, vec![receive(0, 4), receive(5, 9), commit(5), send(READER, 1)]),
                (OWNER, vec![Transaction::Config(second), refuse]),
                (WITNESS, vec![commit(5)]),
            ],
        ),
    ]
}

#[test]
fn golden_chain() {
    let mut replica = Replica::started();
    let (mut checkpoint, mut outcomes) = (None, Vec::new());
    for body in script(&mut Bodies::default()).into_iter().skip(1) {
        let applied = replica.apply(body);
        checkpoint = applied.checkpoint.or(checkpoint);
        outcomes.extend(applied.outcomes);
    }
    let appended = |base_offset| Outcome::Appended { base_offset };
    assert_eq!(
        outcomes,
        [
            appended(0),
            appended(3),
            appended(5),
            Outcome::Rejected(Rejection::NotAuthorised),
            Outcome::Duplicate { base_offset: 3 },
            appended(10),
            Outcome::Recorded,
            Outcome::Recorded,
            Outcome::Recorded,
            Outcome::Recorded,
            Outcome::Rejected(Rejection::NotAuthorised),
            Outcome::Recorded,
            Outcome::Recorded,
            Outcome::Recorded,
        ]
    );
    let checkpoint = checkpoint.unwrap();
    assert_eq!((checkpoint.height, checkpoint.tree_size), (5, 15));
    let hashes = [checkpoint.head, checkpoint.tree_root, checkpoint.state_root, cluster().0];
    assert_eq!(
        hashes.map(|hash| hash.to_string()),
        [
            "156864eb1c3f8c20c47ab78fb73deef0b9cc735446cc20235f3c9aa82c803268",
            "0cc35d0b1905d4f7be00b4d1b87ea472f0aff7264aa69e461351d048a6191376",
            "73713f8028aa01b7c5d4f76402d135d794e37a10b268cb44d1e47982e08b8385",
            "33906b19ff0040897681ade9d1c53cddb4524ce573ee13393811c6e3ec5f7d6c",
        ]
    );
}
