//! Removal of segments and the second life of their files.

use super::*;

/// With its header four blocks, so that no zeros are written behind it, to the end of a block.
const RECORD_BYTES: usize = 16_384 - 48;

/// Appends records of one size, three to a segment, until the journal is in the segment `number`; returns the last one's position.
fn fill_up_to(journal: &Journal, number: u64) -> Position {
    loop {
        let position = append(journal, payload(0, RECORD_BYTES));
        if position.segment >= number {
            return position;
        }
    }
}

#[test]
fn segments_before_a_position_go_and_the_rest_stays() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open_with(dir.path(), Options { spare_segments: 0, ..options() }).unwrap();
    let position = fill_up_to(&journal, 4);
    let in_third = Position { segment: 3, offset: 30_000 };
    assert_eq!(journal.remove_segments_before(in_third).unwrap(), 2);
    assert_eq!(journal.remove_segments_before(in_third).unwrap(), 0);
    assert_eq!(journal.segment_numbers(), 3..=4);
    let removed = Position { segment: 2, offset: 4096 };
    assert!(matches!(journal.read(removed), Err(ReadError::UnknownSegment { .. })));
    assert_eq!(journal.read(Position { segment: 3, offset: 4096 }).unwrap(), payload(0, RECORD_BYTES));
    let far_ahead = Position { segment: 99, offset: 0 };
    assert_eq!(journal.remove_segments_before(far_ahead).unwrap(), 1, "never the one that is written");
    append(&journal, "still here");
    drop(journal);
    assert!(files(dir.path(), "spare").is_empty());
    let (_, seen) = open(dir.path()).unwrap();
    assert_eq!(seen.iter().map(|(position, _, _)| position.segment).collect::<Vec<_>>(), [position.segment; 2]);
}

#[test]
fn stale_records_of_a_reused_file_are_never_taken_for_records() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let mut position = fill_up_to(&journal, 2);
    for _ in 0..5 {
        assert_eq!(journal.remove_segments_before(position).unwrap(), 1);
        assert_eq!(files(dir.path(), "spare").len(), 1);
        position = fill_up_to(&journal, position.segment + 1);
        assert_eq!(files(dir.path(), "spare").len(), 0, "the spare became the new segment");
    }
    // The old records lie exactly where the next ones would: three to a segment, one of the present life so far.
    let copy = crashed_copy(dir.path());
    let bytes = fs::read(directory::segment_path(copy.path(), position.segment)).unwrap();
    assert_eq!(&bytes[position.offset as usize + RECORD_BYTES + 48..][..4], b"WBJR", "there is a stale record behind");
    let (_, seen) = open(copy.path()).unwrap();
    assert_eq!(seen.last().unwrap().0, position);
    let stale = Position { offset: position.offset + RECORD_BYTES as u32 + 48, ..position };
    assert!(matches!(journal.read(stale), Err(ReadError::Corrupt { .. })));
    drop(journal);
    assert_eq!(open(dir.path()).unwrap().1.last().unwrap().0, position);
}

#[test]
fn a_torn_group_in_a_reused_file_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let position = fill_up_to(&journal, 2);
    journal.remove_segments_before(position).unwrap();
    let first = fill_up_to(&journal, 3);
    let before = crashed_copy(dir.path());
    let [second, third] = append_group(&journal, [1, 2].map(|index| payload(index, 200)))[..] else {
        panic!("two records")
    };
    let torn = crashed_copy(dir.path());
    let path = directory::segment_path(torn.path(), 3);
    let mut bytes = fs::read(&path).unwrap();
    let stale = fs::read(directory::segment_path(before.path(), 3)).unwrap();
    let hole = second.offset as usize..third.offset as usize;
    bytes[hole.clone()].copy_from_slice(&stale[hole]);
    fs::write(&path, bytes).unwrap();
    let (journal, seen) = open(torn.path()).unwrap();
    assert_eq!(seen.last().unwrap().0, first);
    assert_eq!(append(&journal, payload(3, 200)), second);
    drop(journal);
    assert_eq!(open(torn.path()).unwrap().1.last().unwrap(), &(second, STREAM, payload(3, 200)));
}

#[test]
fn spares_are_kept_to_their_number_and_over_a_restart() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let position = fill_up_to(&journal, 6);
    assert_eq!(journal.remove_segments_before(position).unwrap(), 5);
    assert_eq!(files(dir.path(), "spare").len(), 2);
    drop(journal);
    let (journal, _) = open_with(dir.path(), Options { spare_segments: 1, ..options() }).unwrap();
    assert_eq!(files(dir.path(), "spare").len(), 1);
    fill_up_to(&journal, 7);
    assert_eq!(files(dir.path(), "spare").len(), 0);
}

#[test]
fn a_file_that_is_being_read_is_not_reused() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let position = fill_up_to(&journal, 2);
    let Ok(read) = journal.segments.open(1) else { panic!("segment 1 is there") };
    // However many others are opened meanwhile, so that it is no longer kept open for its own sake.
    let position = fill_up_to(&journal, position.segment + 80);
    for number in 2..80 {
        assert!(journal.segments.open(number).is_ok());
    }
    journal.remove_segments_before(Position { segment: 2, ..position }).unwrap();
    assert_eq!(files(dir.path(), "spare").len(), 0);
    drop(read);
    journal.remove_segments_before(Position { segment: 3, ..position }).unwrap();
    assert_eq!(files(dir.path(), "spare").len(), 1);
}
