//! What a crash or a broken disk leaves: torn tails are cut off, corrupt middles are refused.

use super::*;

/// Three groups of three records of 40 bytes: their payloads, positions, and the bytes of the segment before and after the last
/// group was written.
struct Groups {
    payloads: Vec<Bytes>,
    positions: Vec<Position>,
    before_last: Vec<u8>,
    after_last: Vec<u8>,
}

fn three_groups() -> Groups {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let payloads: Vec<_> = (0..9).map(|index| payload(index, 40)).collect();
    let mut positions = append_group(&journal, payloads[..3].to_vec());
    positions.extend(append_group(&journal, payloads[3..6].to_vec()));
    let before_last = first_segment(dir.path());
    positions.extend(append_group(&journal, payloads[6..].to_vec()));
    let after_last = first_segment(dir.path());
    Groups { payloads, positions, before_last, after_last }
}

impl Groups {
    fn end(&self) -> usize {
        self.positions[8].offset as usize + 88
    }
}

/// Opens, checks that exactly `expected` is there, appends, and checks that this is found behind it on the next opening.
#[track_caller]
fn assert_recovers(dir: &Path, expected: &[Bytes]) {
    let (journal, seen) = open(dir).unwrap();
    let found: Vec<_> = seen.into_iter().map(|(_, _, payload)| payload).collect();
    assert!(found == expected, "{} records of {}", found.len(), expected.len());
    append(&journal, "after the crash");
    let copy = crashed_copy(dir);
    drop(journal);
    let mut expected = expected.to_vec();
    expected.push("after the crash".into());
    assert_eq!(contents(dir).unwrap(), expected, "after an orderly close");
    assert_eq!(contents(copy.path()).unwrap(), expected, "after another crash");
}

/// How many of the records lie whole before `end`.
fn whole_records(groups: &Groups, end: usize) -> usize {
    groups.positions.iter().filter(|at| at.offset as usize + 88 <= end).count()
}

#[test]
fn torn_tail_the_last_group_ends_at_any_byte() {
    let groups = three_groups();
    let start = groups.positions[6].offset as usize;
    for end in start..=groups.end() {
        let whole = &groups.payloads[..whole_records(&groups, end)];
        let mut zeros_behind = groups.after_last.clone();
        zeros_behind[end..].fill(0);
        assert_recovers(journal_of(&zeros_behind).path(), whole);
        assert_recovers(journal_of(&groups.after_last[..end]).path(), whole);
    }
}

#[test]
fn torn_tail_any_piece_of_the_last_group_is_missing() {
    let groups = three_groups();
    let start = groups.positions[6].offset as usize;
    for at in (start..groups.end()).step_by(8) {
        for length in [8, 48, 88, 176] {
            let mut torn = groups.after_last.clone();
            let hole = at..(at + length).min(groups.end());
            torn[hole.clone()].copy_from_slice(&groups.before_last[hole]);
            assert_recovers(journal_of(&torn).path(), &groups.payloads[..whole_records(&groups, at)]);
        }
    }
}

#[test]
fn torn_tail_a_leftover_behind_the_tear_never_comes_back() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    // Whole blocks, so that no zeros are written behind a record, to the end of its block.
    let record = |index| payload(index, 4096 - 48);
    append(&journal, record(0));
    let [first, second] = append_group(&journal, [record(1), record(2)])[..] else { panic!("two records") };
    let written = first_segment(dir.path());
    // The first of the group is missing in part or whole, the second is whole, and the new record fits the gap between them exactly.
    for from in [first.offset, first.offset + 48, first.offset + 2000] {
        let mut torn = written.clone();
        torn[from as usize..second.offset as usize].fill(0);
        let dir = journal_of(&torn);
        let (journal, seen) = open(dir.path()).unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(append(&journal, record(3)), first);
        assert_eq!(contents(crashed_copy(dir.path()).path()).unwrap(), [record(0), record(3)]);
        assert!(journal.read(second).is_err());
    }
}

#[test]
fn corrupt_middle_any_bit_of_a_record_with_a_synced_one_behind_it() {
    let groups = three_groups();
    for record in 0..6 {
        let start = groups.positions[record].offset as usize;
        for bit in 0..88 * 8 {
            let mut flipped = groups.after_last.clone();
            flipped[start + bit / 8] ^= 1 << (bit % 8);
            let dir = journal_of(&flipped);
            assert_corrupt(open(dir.path()), &directory::segment_path(dir.path(), 1), start as u64);
            assert_eq!(first_segment(dir.path()), flipped, "what is refused is left alone");
        }
    }
}

#[test]
fn corrupt_middle_zeroed_blocks() {
    let groups = three_groups();
    let end = groups.positions[6].offset as usize;
    for start in (4096..end).step_by(8) {
        let mut zeroed = groups.after_last.clone();
        zeroed[start..end].fill(0);
        let dir = journal_of(&zeroed);
        let first_bad = groups.positions[whole_records(&groups, start)].offset;
        assert_corrupt(open(dir.path()), &directory::segment_path(dir.path(), 1), u64::from(first_bad));
    }
}

/// The journal's options as a store of payloads has them.
fn headers() -> Options {
    Options { scan: Scan::Headers, ..options() }
}

/// What a scan of headers shows, and the journal.
fn open_headers(dir: &Path) -> Result<(Journal, Vec<Position>), OpenError> {
    let mut shown = Vec::new();
    let journal = Journal::open(dir, headers(), &mut |visited| {
        shown.push(visited.position);
        Ok(())
    })?;
    Ok((journal, shown))
}

#[test]
fn corrupt_middle_the_only_proof_lies_across_two_reads() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    // A scan of headers reads 16 KiB at once: of the second record's header 40 bytes are in the first read.
    let first = append(&journal, payload(1, (16 << 10) - 40 - 48));
    let second = append(&journal, payload(2, 10));
    let damaged_at = |offset: u32| {
        let copy = crashed_copy(dir.path());
        let path = directory::segment_path(copy.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset as usize] ^= 1;
        fs::write(&path, bytes).unwrap();
        (copy, path)
    };
    let (copy, path) = damaged_at(first.offset + 10);
    let refused = open_headers(copy.path()).map(|(journal, _)| (journal, Seen::new()));
    assert_corrupt(refused, &path, u64::from(first.offset));
    // The same proof lets a damaged payload pass, unless all are wanted.
    let (copy, path) = damaged_at(first.offset + 100);
    assert_corrupt(open(copy.path()), &path, u64::from(first.offset));
    assert_eq!(open_headers(copy.path()).unwrap().1, [first, second]);
}

#[test]
fn a_scan_of_headers_passes_damaged_payloads_and_refuses_damaged_headers() {
    let groups = three_groups();
    for record in 0..6 {
        let position = groups.positions[record];
        for bit in 0..88 * 8 {
            let mut flipped = groups.after_last.clone();
            flipped[position.offset as usize + bit / 8] ^= 1 << (bit % 8);
            let dir = journal_of(&flipped);
            let opened = open_headers(dir.path());
            if bit < 48 * 8 {
                let refused = opened.map(|(journal, _)| (journal, Seen::new()));
                assert_corrupt(refused, &directory::segment_path(dir.path(), 1), u64::from(position.offset));
                assert_eq!(first_segment(dir.path()), flipped, "what is refused is left alone");
                continue;
            }
            let (journal, shown) = opened.unwrap();
            assert_eq!(shown, groups.positions);
            for (index, position) in shown.into_iter().enumerate() {
                match journal.read(position) {
                    Err(ReadError::Corrupt { .. }) => assert_eq!(index, record),
                    read => assert!(index != record && read.unwrap() == groups.payloads[index]),
                }
            }
        }
    }
}

#[test]
fn a_scan_of_headers_passes_many_damaged_payloads_and_keeps_what_is_behind() {
    let groups = three_groups();
    let mut damaged = groups.after_last.clone();
    for position in &groups.positions[..6] {
        damaged[position.offset as usize + 60] ^= 1;
    }
    // Nothing proves that the last group was ever synced.
    damaged[groups.positions[7].offset as usize + 60] ^= 1;
    let dir = journal_of(&damaged);
    let (journal, shown) = open_headers(dir.path()).unwrap();
    assert_eq!(shown, groups.positions[..7]);
    assert_eq!(append(&journal, "more"), groups.positions[7]);
    drop(journal);
    let (journal, shown) = open_headers(dir.path()).unwrap();
    assert_eq!(shown, groups.positions[..8]);
    assert_eq!(journal.read(shown[7]).unwrap(), "more");
    assert_eq!(journal.read(shown[6]).unwrap(), groups.payloads[6]);
}

#[test]
fn a_proof_that_is_torn_off_is_replaced_by_a_mark() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let synced = append_group(&journal, (0..3).map(|index| payload(index, 40)));
    // The last group's second record says that the first group was synced; its first is torn.
    let torn = append_group(&journal, (3..5).map(|index| payload(index, 40)))[0].offset as usize;
    let mut bytes = first_segment(dir.path());
    bytes[synced[0].offset as usize + 60] ^= 1;
    bytes[torn..torn + 88].fill(0);
    let dir = journal_of(&bytes);
    let (journal, shown) = open_headers(dir.path()).unwrap();
    assert_eq!(shown, synced);
    // A crash before anything is appended: the damaged record must not become the tear that takes the others with it.
    let crashed = crashed_copy(dir.path());
    assert_eq!(open_headers(crashed.path()).unwrap().1, synced);
    // A crash of the recovery itself, when the mark was written, or half of it, and nothing yet cut off.
    let marked = first_segment(dir.path());
    for length in [16, 48] {
        let mut unfinished = bytes.clone();
        unfinished[torn..torn + length].copy_from_slice(&marked[torn..torn + length]);
        assert_eq!(open_headers(journal_of(&unfinished).path()).unwrap().1, synced);
    }
    let more = append(&journal, "more");
    drop(journal);
    let (journal, shown) = open_headers(dir.path()).unwrap();
    assert_eq!(shown, [&synced[..], &[more]].concat());
    assert_eq!(journal.read(synced[1]).unwrap(), payload(1, 40));
    assert!(matches!(journal.read(synced[0]), Err(ReadError::Corrupt { .. })));
}

#[test]
fn an_orderly_close_vouches_for_what_was_appended_without_a_sync() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let (send, receive) = mpsc::channel();
    journal.append_lazily(STREAM, vec![payload(1, 40)], move |position| send.send(position).unwrap()).unwrap();
    let position = receive.recv().unwrap();
    drop(journal);
    let mut bytes = first_segment(dir.path());
    bytes[position.offset as usize + 50] ^= 1;
    let damaged = journal_of(&bytes);
    assert_corrupt(open(damaged.path()), &directory::segment_path(damaged.path(), 1), u64::from(position.offset));
}

/// The limit that the module's documentation states: nothing that was written later vouches for the last group.
#[test]
fn damage_in_the_last_synced_group_is_cut_off_after_a_crash_and_refused_after_an_orderly_close() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    append(&journal, payload(1, 40));
    let last = append(&journal, payload(2, 40));
    let damage = |mut bytes: Vec<u8>| {
        bytes[last.offset as usize + 60] ^= 1;
        journal_of(&bytes)
    };
    let crashed = damage(first_segment(dir.path()));
    assert_recovers(crashed.path(), &[payload(1, 40)]);
    drop(journal);
    let closed = damage(first_segment(dir.path()));
    assert_corrupt(open(closed.path()), &directory::segment_path(closed.path(), 1), u64::from(last.offset));
}

#[test]
fn damage_to_the_mark_of_an_orderly_close_costs_nothing() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let last = append(&journal, payload(1, 40));
    drop(journal);
    let bytes = first_segment(dir.path());
    for bit in 0..48 * 8 {
        let mut flipped = bytes.clone();
        flipped[last.offset as usize + 88 + bit / 8] ^= 1 << (bit % 8);
        assert_recovers(journal_of(&flipped).path(), &[payload(1, 40)]);
    }
}

#[test]
fn a_segment_that_has_a_successor_is_whole_or_corrupt() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let first = append(&journal, payload(1, 40));
    let second = append(&journal, payload(2, 60_000));
    let third = append(&journal, payload(3, 40_000));
    assert_eq!([first, second, third].map(|at| at.segment), [1, 1, 2]);
    let end_mark = second.offset + 60_048;
    let no_record = journal.read(Position { offset: end_mark, ..second });
    assert!(matches!(no_record, Err(ReadError::Corrupt { .. })), "a mark is not a record");
    for (at, found_at) in [(first.offset, first.offset), (second.offset + 100, second.offset), (end_mark, end_mark)] {
        let copy = crashed_copy(dir.path());
        let path = directory::segment_path(copy.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at as usize] ^= 0x80;
        fs::write(&path, &bytes).unwrap();
        assert_corrupt(open(copy.path()), &path, u64::from(found_at));
        bytes.truncate(at as usize);
        fs::write(&path, &bytes).unwrap();
        assert_corrupt(open(copy.path()), &path, u64::from(found_at));
    }
    let copy = crashed_copy(dir.path());
    let path = directory::segment_path(copy.path(), 2);
    fs::write(&path, b"").unwrap();
    assert_corrupt(open(copy.path()), &path, 0);
    fs::rename(&path, directory::segment_path(copy.path(), 3)).unwrap();
    assert!(matches!(open(copy.path()), Err(OpenError::MissingSegment { segment: 2, .. })));
}

#[test]
fn a_crash_between_the_end_mark_and_the_next_segment() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    append(&journal, payload(1, 40));
    append(&journal, payload(2, 62_000));
    let copy = crashed_copy(dir.path());
    fs::remove_file(directory::segment_path(copy.path(), 2)).unwrap();
    assert_recovers(copy.path(), &[payload(1, 40)]);
    assert_eq!(segment_files(copy.path()).len(), 2);
}

#[test]
fn a_segment_header_with_any_bit_flipped_is_refused() {
    let groups = three_groups();
    for bit in 0..28 * 8 {
        let mut flipped = groups.after_last.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let dir = journal_of(&flipped);
        assert_corrupt(open(dir.path()), &directory::segment_path(dir.path(), 1), 0);
    }
}

#[test]
fn a_scan_of_headers_reads_payloads_on_demand() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let payloads: Vec<_> =
        [30_000, 50, 20_000, 0, 40_000, 9, 19_000].into_iter().map(|length| payload(length, length)).collect();
    let positions = append_group(&journal, payloads.clone());
    assert_eq!(positions.last().unwrap().segment, 2);
    let copy = crashed_copy(dir.path());
    let damage = |at: Position| {
        let path = directory::segment_path(copy.path(), at.segment);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at.offset as usize + 48 + 15_000] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    damage(positions[0]);
    let mut index = 0;
    let journal = Journal::open(copy.path(), headers(), &mut |mut visited| {
        let expected = &payloads[index];
        assert_eq!((visited.position, visited.length as usize), (positions[index], expected.len()));
        assert_eq!(visited.prefix(100)?, expected.slice(..expected.len().min(100)));
        assert_eq!(visited.payload().ok().as_ref(), Some(expected).filter(|_| index > 0));
        assert_eq!(visited.prefix(usize::MAX)?.len(), expected.len());
        index += 1;
        Ok(())
    });
    assert!(matches!(journal.unwrap().read(positions[0]), Err(ReadError::Corrupt { .. })));
    assert_eq!(index, payloads.len());
    // An orderly close has vouched for the last segment: there too a payload is its readers' business.
    damage(positions[6]);
    let (journal, shown) = open_headers(copy.path()).unwrap();
    assert_eq!(shown, positions);
    assert!(matches!(journal.read(positions[6]), Err(ReadError::Corrupt { .. })));
    assert_eq!(journal.read(positions[5]).unwrap(), payloads[5]);
    drop(journal);
    assert_corrupt(open(copy.path()), &directory::segment_path(copy.path(), 1), u64::from(positions[0].offset));
}

#[test]
fn a_scan_may_begin_at_a_position() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let positions = append_group(&journal, (0..12).map(|index| payload(index, 20_000)));
    drop(journal);
    for (index, position) in positions.iter().enumerate() {
        let (journal, seen) = open_with(dir.path(), Options { scan_from: Some(*position), ..options() }).unwrap();
        assert!(seen.iter().map(|(position, _, _)| *position).eq(positions[index..].iter().copied()));
        assert_eq!(journal.read(positions[0]).unwrap(), payload(0, 20_000), "it is there nevertheless");
    }
    let unsealed = crashed_copy(dir.path());
    let segments = segment_files(unsealed.path());
    let mut bytes = fs::read(&segments[3]).unwrap();
    bytes.truncate(positions[11].offset as usize);
    fs::write(&segments[3], bytes).unwrap();
    let refused = open_with(unsealed.path(), Options { scan_from: Some(positions[11]), ..options() }).map(|_| ());
    assert!(matches!(refused, Err(OpenError::EndsBefore { end, .. }) if end == positions[11]), "{refused:?}");
    let segments = segment_files(dir.path());
    assert_eq!(segments.len(), 4);
    fs::remove_file(&segments[3]).unwrap();
    let from_last = Options { scan_from: Some(positions[11]), ..options() };
    let refused = open_with(dir.path(), from_last.clone()).map(|_| ());
    assert!(
        matches!(refused, Err(OpenError::EndsBefore { scan_from, .. }) if scan_from == positions[11]),
        "{refused:?}"
    );
    let elsewhere = TempDir::new().unwrap();
    let refused = open_with(elsewhere.path(), from_last).map(|_| ());
    assert!(matches!(refused, Err(OpenError::EndsBefore { .. })), "{refused:?}");
}

#[test]
fn a_visitor_that_refuses_ends_the_opening_and_changes_nothing() {
    let groups = three_groups();
    let dir = journal_of(&groups.after_last);
    let refused = Journal::open(dir.path(), options(), &mut |visited| match visited.position == groups.positions[4] {
        true => Err("not this one".into()),
        false => Ok(()),
    });
    assert!(
        matches!(&refused, Err(OpenError::Visitor { position, .. }) if *position == groups.positions[4]),
        "{refused:?}"
    );
    assert_eq!(first_segment(dir.path()), groups.after_last);
    assert_eq!(contents(dir.path()).unwrap(), groups.payloads);
}
