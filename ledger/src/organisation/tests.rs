//! Every command and its refusals, and the snapshot's one encoding.

use super::*;

const TOPIC: TopicId = TopicId([9; 16]);

fn organisation() -> Organisation {
    Organisation::with_limits(3, Limits { groups_max: 2, offsets_max: 3, ..Limits::default() }).unwrap()
}

fn ask(organisation: &Organisation, command: Command) -> Answer {
    Answer::from_bytes(&organisation.apply(&command.to_bytes())).unwrap()
}

fn offset(partition: u32, offset: i64, metadata: &str) -> OffsetCommit {
    let committed = CommittedOffset { offset, leader_epoch: 1, metadata: metadata.into(), time_ms: 1_700_000_000_000 };
    OffsetCommit { topic: TOPIC, partition, committed }
}

fn commit(group: &str, entries: Vec<OffsetCommit>) -> Command {
    Command::CommitOffsets(CommitOffsets { group: group.into(), entries })
}

fn save(group: &str, metadata: &'static [u8]) -> Command {
    Command::SaveGroup(SaveGroup { group: group.into(), metadata: Bytes::from_static(metadata) })
}

#[test]
fn offsets_are_committed_read_and_deleted() {
    let organisation = organisation();
    let answer = ask(&organisation, commit("audit", vec![offset(0, 5, "here"), offset(1, 7, "")]));
    assert_eq!(answer, Answer::OffsetsCommitted(vec![OffsetOutcome::Committed; 2]));
    assert_eq!(organisation.committed("audit", TOPIC, 0), Some(offset(0, 5, "here").committed));
    assert_eq!(organisation.committed("audit", TOPIC, 2), None);
    assert_eq!(organisation.committed("other", TOPIC, 0), None);
    assert_eq!(organisation.committed_all("audit").len(), 2);
    assert_eq!(organisation.groups(), ["audit"]);
    assert_eq!(organisation.group("audit"), None, "offsets alone save no group");

    let delete = DeleteOffsets { group: "audit".into(), partitions: vec![(TOPIC, 0), (TOPIC, 4)] };
    assert_eq!(ask(&organisation, Command::DeleteOffsets(delete)), Answer::OffsetsDeleted(1));
    assert_eq!(organisation.committed("audit", TOPIC, 0), None);
    assert_eq!(ask(&organisation, Command::ForgetTopic(TOPIC)), Answer::OffsetsDeleted(1));
    assert!(organisation.groups().is_empty(), "a group of nothing is no group");
}

#[test]
fn an_offset_that_breaks_a_limit_is_left_out_alone() {
    let organisation = organisation();
    let entries = vec![offset(0, 1, &"x".repeat(4097)), offset(1, 1, &"x".repeat(4096)), offset(2, 1, "")];
    let answer = ask(&organisation, commit("a", entries));
    use OffsetOutcome::{Committed, MetadataTooLarge, TooManyOffsets};
    assert_eq!(answer, Answer::OffsetsCommitted(vec![MetadataTooLarge, Committed, Committed]));
    let answer = ask(&organisation, commit("b", vec![offset(0, 1, ""), offset(5, 1, ""), offset(0, 2, "")]));
    assert_eq!(answer, Answer::OffsetsCommitted(vec![Committed, TooManyOffsets, Committed]));
    assert_eq!(organisation.committed("b", TOPIC, 0).unwrap().offset, 2);
    assert_eq!(ask(&organisation, Command::DeleteGroup("a".into())), Answer::GroupDeleted(true));
    let answer = ask(&organisation, commit("b", vec![offset(5, 1, "")]));
    assert_eq!(answer, Answer::OffsetsCommitted(vec![Committed]), "a deleted group makes room");
}

#[test]
fn groups_are_saved_and_deleted_within_limits() {
    let organisation = organisation();
    assert_eq!(ask(&organisation, save("a", b"one")), Answer::GroupSaved(false));
    assert_eq!(ask(&organisation, save("a", b"two")), Answer::GroupSaved(true));
    assert_eq!(organisation.group("a"), Some(Bytes::from_static(b"two")));
    assert_eq!(ask(&organisation, save("b", b"")), Answer::GroupSaved(false));
    assert_eq!(ask(&organisation, save("c", b"")), Answer::Refused(Refusal::TooManyGroups));
    assert_eq!(ask(&organisation, commit("c", vec![])), Answer::Refused(Refusal::TooManyGroups));
    assert_eq!(ask(&organisation, save("", b"")), Answer::Refused(Refusal::InvalidGroup));
    assert_eq!(ask(&organisation, commit(&"x".repeat(1025), vec![])), Answer::Refused(Refusal::InvalidGroup));
    let large = SaveGroup { group: "a".into(), metadata: Bytes::from(vec![0; GROUP_METADATA_BYTES_MAX + 1]) };
    assert_eq!(ask(&organisation, Command::SaveGroup(large)), Answer::Refused(Refusal::GroupTooLarge));
    assert_eq!(ask(&organisation, Command::DeleteGroup("a".into())), Answer::GroupDeleted(true));
    assert_eq!(ask(&organisation, Command::DeleteGroup("a".into())), Answer::GroupDeleted(false));
    assert_eq!(organisation.saved_groups(), [("b".to_string(), Bytes::new())]);
}

#[test]
fn producer_ids_are_unique_positive_and_carry_the_prefix() {
    let first = organisation();
    let other = Organisation::new(PRODUCER_PREFIX_MAX).unwrap();
    let allocate = Command::AllocateProducerIds(1000);
    let start = 3i64 << 48;
    let ids = |first| Answer::ProducerIds(ProducerIds { first, count: 1000 });
    assert_eq!(ask(&first, allocate.clone()), ids(start));
    assert_eq!(ask(&first, allocate.clone()), ids(start + 1000));
    assert_eq!(ask(&other, allocate), ids(0x7fff << 48));
    assert_eq!(producer_prefix(start + 1999), Some(3));
    assert_eq!(producer_prefix((0x7fff << 48) + 5), Some(PRODUCER_PREFIX_MAX));
    assert_eq!(producer_prefix(-1), None);
    for count in [0, PRODUCER_IDS_PER_COMMAND_MAX + 1] {
        assert_eq!(ask(&first, Command::AllocateProducerIds(count)), Answer::Refused(Refusal::NoProducerIds));
    }
    assert!(Organisation::new(0x8000).is_err());
}

#[test]
fn bytes_that_are_no_command_change_nothing() {
    let organisation = organisation();
    let before = organisation.snapshot();
    for garbage in [&b""[..], b"\x00", b"\x06\x00\x00\x00\x01\x00", b"\x03\xff\xff\xff\xff"] {
        let answer = Answer::from_bytes(&organisation.apply(&Bytes::copy_from_slice(garbage)));
        assert_eq!(answer, Ok(Answer::Refused(Refusal::Malformed)));
    }
    assert_eq!(organisation.snapshot(), before);
}

#[test]
fn golden_snapshot_and_round_trip() {
    let organisation = organisation();
    ask(&organisation, commit("g", vec![offset(1, 258, "m")]));
    ask(&organisation, save("g", b"\xaa\xbb"));
    ask(&organisation, Command::AllocateProducerIds(7));
    let snapshot = organisation.snapshot();
    let mut golden = b"WB-ORG\x00\x02\x00\x03\0\0\0\0\0\0\0\x07\0\0\0\x01\0\0\0\x01g\x01\0\0\0\x02\xaa\xbb".to_vec();
    golden.extend_from_slice(b"\0\0\0\x01\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\0\0\0\x01");
    golden.extend_from_slice(b"\0\0\0\0\0\0\x01\x02\0\0\0\x01\0\0\0\x01m\0\0\x01\x8b\xcf\xe5\x68\x00\0\0\0\0");
    assert_eq!(snapshot, golden);

    let restored =
        super::Organisation::with_limits(3, Limits { groups_max: 2, offsets_max: 1, ..Limits::default() }).unwrap();
    restored.install(&snapshot).unwrap();
    assert_eq!(restored.snapshot(), snapshot);
    let full = ask(&restored, commit("g", vec![offset(0, 1, "")]));
    assert_eq!(full, Answer::OffsetsCommitted(vec![OffsetOutcome::TooManyOffsets]), "counts are restored, limits kept");
    ask(&restored, Command::AllocateProducerIds(1));

    let before = restored.snapshot();
    assert!(Organisation::new(4).unwrap().install(&snapshot).is_err(), "of another organisation");
    for end in 0..snapshot.len() {
        assert!(restored.install(&snapshot.slice(..end)).is_err(), "cut at {end}");
    }
    assert_eq!(restored.snapshot(), before);
}

#[test]
fn golden_commands() {
    assert_eq!(Command::AllocateProducerIds(1).to_bytes().as_ref(), b"\x06\0\0\0\x01");
    assert_eq!(save("g", b"m").to_bytes().as_ref(), b"\x03\0\0\0\x01g\0\0\0\x01m");
    assert_eq!(Command::DeleteGroup("g".into()).to_bytes().as_ref(), b"\x04\0\0\0\x01g");
    let encoded = commit("g", vec![offset(2, 3, "")]).to_bytes();
    assert_eq!(encoded.len(), 1 + 5 + 4 + 16 + 4 + 8 + 4 + 4 + 8);
    assert_eq!(Command::from_bytes(&encoded), Ok(commit("g", vec![offset(2, 3, "")])));
}
