//! Appending and reading while nothing goes wrong; and what happens when the disk does.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn what_is_appended_is_read_and_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let (journal, seen) = open(dir.path()).unwrap();
    assert!(seen.is_empty());
    let mut expected = Seen::new();
    for (index, length) in [0, 1, 7, 8, 9, 4000, 4048, 4049, 5000, 20_000].into_iter().enumerate() {
        let stream = StreamId([index as u8; 16]);
        let payload = payload(index, length);
        let (send, receive) = mpsc::channel();
        let (left, right) = (payload.slice(..length / 3), payload.slice(length / 3..));
        journal.append(stream, vec![left, right], move |position| send.send(position).unwrap()).unwrap();
        let position = receive.recv().unwrap();
        assert_eq!(journal.read(position).unwrap(), payload);
        assert_eq!(journal.payload_bytes(position).unwrap(), length as u32);
        assert_eq!(journal.stream(position).unwrap(), stream);
        expected.push((position, stream, payload));
    }
    assert!(expected.is_sorted_by_key(|(position, _, _)| *position));
    drop(journal);
    let (journal, seen) = open(dir.path()).unwrap();
    assert_eq!(seen, expected);
    let last = append(&journal, "one more");
    assert!(last > expected.last().unwrap().0);
    journal.close();
    assert_eq!(journal.read(last).unwrap(), "one more");
    drop(journal);
    assert_eq!(open(dir.path()).unwrap().1.len(), expected.len() + 1);
}

#[test]
fn a_part_of_a_payload_is_read_by_range() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    append(&journal, payload(1, 100));
    let position = append(&journal, payload(2, 10_000));
    append(&journal, payload(3, 100));
    let whole = payload(2, 10_000);
    assert_eq!(journal.read_range(position, 0, 10_000).unwrap(), whole);
    assert_eq!(journal.read_range(position, 9_000, 500).unwrap(), whole.slice(9_000..9_500));
    assert_eq!(journal.read_range(position, 9_990, 500).unwrap(), whole.slice(9_990..));
    assert!(journal.read_range(position, 10_000, 1).unwrap().is_empty());
    assert!(journal.read_range(position, u64::MAX, usize::MAX).unwrap().is_empty());
}

#[test]
fn positions_that_are_no_records_are_errors() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let position = append(&journal, payload(1, 100));
    let beside = [0, 8, position.offset - 8, position.offset + 1, position.offset + 8, 64 << 10, u32::MAX];
    for offset in beside {
        let beside = Position { offset, ..position };
        assert!(matches!(journal.read(beside), Err(ReadError::Corrupt { .. })), "{offset}");
        assert!(matches!(journal.read_range(beside, 0, 1), Err(ReadError::Corrupt { .. })), "{offset}");
    }
    let elsewhere = Position { segment: 9, ..position };
    assert!(matches!(journal.read(elsewhere), Err(ReadError::UnknownSegment { .. })));
}

#[test]
fn damage_is_found_when_a_record_is_read() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let position = append(&journal, payload(1, 9_000));
    let path = directory::segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[position.offset as usize + 8_000] ^= 4;
    fs::write(&path, bytes).unwrap();
    let error = journal.read(position).unwrap_err();
    assert!(error.to_string().contains("0000000000000001.segment at offset 4096"), "{error}");
}

#[test]
fn a_record_larger_than_a_segment_has_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let lengths = [10, 300_000, 20, 64 << 10, 30_000, 40_000];
    let payloads: Vec<_> = lengths.into_iter().enumerate().map(|(index, length)| payload(index, length)).collect();
    let positions = append_group(&journal, payloads.clone());
    assert_eq!(
        positions.iter().map(|position| position.segment).collect::<Vec<_>>(),
        [1, 2, 2, 3, 4, 5],
        "or nearly: its file is whole blocks"
    );
    for (position, payload) in positions.iter().zip(&payloads) {
        assert_eq!(journal.read(*position).unwrap(), payload);
    }
    let sealed = fs::metadata(directory::segment_path(dir.path(), 1)).unwrap().len();
    assert_eq!(sealed, 8192, "what a sealed segment does not use is given back");
    assert_eq!(contents(crashed_copy(dir.path()).path()).unwrap(), payloads);
    drop(journal);
    assert_eq!(contents(dir.path()).unwrap(), payloads);
}

#[test]
fn a_record_that_would_leave_no_room_for_the_end_mark_goes_to_the_next_segment() {
    let room = (64 << 10) - 4096;
    for (length, segment) in [(room - 2 * 48, 1), (room - 2 * 48 + 1, 2), (room - 48, 2)] {
        let dir = TempDir::new().unwrap();
        let (journal, _) = open(dir.path()).unwrap();
        assert_eq!(append(&journal, payload(1, length)).segment, segment);
        append(&journal, payload(2, 10));
        let files = segment_files(dir.path());
        let lengths: Vec<_> = files.into_iter().map(|path| fs::metadata(path).unwrap().len()).collect();
        assert!(
            lengths[1..].iter().all(|length| *length >= 64 << 10),
            "no write went beyond a segment's end: {lengths:?}"
        );
        drop(journal);
        assert_eq!(contents(dir.path()).unwrap(), [payload(1, length), payload(2, 10)]);
    }
}

#[test]
fn segments_follow_each_other_and_more_of_them_than_may_be_open_can_be_read() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let payloads: Vec<_> = (0..150).map(|index| payload(index, 40_000)).collect();
    let positions = append_group(&journal, payloads.clone());
    assert_eq!(positions.last().unwrap().segment, 150);
    for _ in 0..2 {
        for (position, payload) in positions.iter().zip(&payloads) {
            assert_eq!(journal.read(*position).unwrap(), payload);
        }
    }
    drop(journal);
    assert_eq!(contents(dir.path()).unwrap(), payloads);
}

#[test]
fn batches_of_concurrent_appenders_are_contiguous_and_each_keeps_its_order() {
    const THREADS: usize = 8;
    const BATCHES: usize = 40;
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let start = Barrier::new(THREADS);
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, start, send) = (&journal, &start, send.clone());
            scope.spawn(move || {
                start.wait();
                for batch in 0..BATCHES {
                    let stream = StreamId([thread as u8; 16]);
                    let record = |index| (stream, vec![Bytes::from(vec![batch as u8, index, 0, 0, 0, 0, 0, 0])]);
                    let send = send.clone();
                    let done = move |positions: &[Position]| send.send((thread, positions.to_vec())).unwrap();
                    journal.append_batch(vec![record(0), record(1), record(2)], done).unwrap();
                }
            });
        }
    });
    drop(send);
    journal.close();
    let mut told = receive.iter().collect::<Vec<_>>();
    assert_eq!(told.len(), THREADS * BATCHES);
    for (_, positions) in &told {
        assert!(
            positions.windows(2).all(|pair| pair[1].segment > pair[0].segment || pair[1].offset == pair[0].offset + 56)
        );
    }
    assert!(told.is_sorted_by_key(|(_, positions)| positions[0]), "callbacks run in the order of the records");
    told.retain(|(thread, _)| *thread == 3);
    drop(journal);
    let (_, seen) = open(dir.path()).unwrap();
    let of_one: Vec<_> = seen
        .iter()
        .filter(|(_, stream, _)| stream.0[0] == 3)
        .map(|(at, _, payload)| (*at, payload[..2].to_vec()))
        .collect();
    let expected = told.iter().flat_map(|(_, positions)| positions).copied();
    let expected: Vec<_> =
        expected.enumerate().map(|(index, at)| (at, vec![(index / 3) as u8, (index % 3) as u8])).collect();
    assert_eq!(of_one, expected);
}

/// Keeps the writer in a callback until the returned sender is used or dropped, so that a test decides what is queued meanwhile.
fn hold_writer(journal: &Journal) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel();
    let (entered, started) = mpsc::channel();
    let hold = move || {
        entered.send(()).unwrap();
        let _ = wait.recv();
    };
    journal.sync(hold).unwrap();
    started.recv().unwrap();
    release
}

#[test]
fn what_queues_up_during_a_sync_is_one_group() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    append(&journal, "before");
    let release = hold_writer(&journal);
    let (send, receive) = mpsc::channel();
    for index in 0..100 {
        let send = send.clone();
        journal.append(STREAM, vec![payload(index, 20)], move |at| send.send(at).unwrap()).unwrap();
    }
    drop(release);
    let positions: Vec<_> = receive.iter().take(100).collect();
    let bytes = first_segment(dir.path());
    let synced = |at: &Position| u32::from_le_bytes(bytes[at.offset as usize + 44..][..4].try_into().unwrap());
    assert!(positions.iter().all(|at| synced(at) == positions[0].offset), "no sync stood between them");
}

#[test]
fn the_queue_refuses_more_than_its_limit() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open_with(dir.path(), Options { queue_bytes_limit: 10_000, ..options() }).unwrap();
    let release = hold_writer(&journal);
    let (send, receive) = mpsc::channel();
    let done = || {
        let send = send.clone();
        move |_: Position| send.send(()).unwrap()
    };
    // Above the limit, but alone: it could never be written otherwise.
    journal.append(STREAM, vec![payload(0, 20_000)], done()).unwrap();
    assert_eq!(journal.queued_bytes(), 20_048, "the barrier is done but for its callback");
    let refused = journal.append(STREAM, vec![payload(1, 1)], done());
    assert!(matches!(refused, Err(AppendError::QueueFull { queued_bytes: 20_048, limit: 10_000 })));
    release.send(()).unwrap();
    receive.recv().unwrap();
    journal.append(STREAM, vec![payload(2, 1)], done()).unwrap();
    receive.recv().unwrap();
    assert_eq!(journal.queued_bytes(), 0);
    let part = Bytes::from(vec![0; 1 << 20]);
    let too_large = journal.append(STREAM, vec![part; 1025], done());
    assert!(matches!(too_large, Err(AppendError::RecordTooLarge { bytes }) if bytes == 1025 << 20));
    drop(journal);
    assert_eq!(contents(dir.path()).unwrap(), [payload(0, 20_000), payload(2, 1)]);
}

#[test]
fn a_lazy_append_is_told_when_written_and_synced_by_the_next() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let (send, receive) = mpsc::channel();
    let lazily = |index| {
        let send = send.clone();
        journal.append_lazily(STREAM, vec![payload(index, 20)], move |at| send.send(at).unwrap()).unwrap();
        receive.recv().unwrap()
    };
    let (first, second) = (lazily(1), lazily(2));
    assert_eq!(journal.read(second).unwrap(), payload(2, 20));
    let third = append(&journal, payload(3, 20));
    let fourth = append(&journal, payload(4, 20));
    let bytes = first_segment(dir.path());
    let synced = |at: Position| u32::from_le_bytes(bytes[at.offset as usize + 44..][..4].try_into().unwrap());
    assert_eq!([first, second, third, fourth].map(synced), [4096, 4096, 4096, fourth.offset]);
}

#[test]
fn without_syncing_only_a_barrier_syncs() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open_with(dir.path(), Options { sync: SyncMode::Os, ..options() }).unwrap();
    let positions = [append(&journal, "1"), append(&journal, "2")];
    sync(&journal);
    let third = append(&journal, "3");
    let bytes = first_segment(dir.path());
    let synced = |at: Position| u32::from_le_bytes(bytes[at.offset as usize + 44..][..4].try_into().unwrap());
    assert_eq!(positions.map(synced), [4096; 2]);
    assert_eq!(synced(third), third.offset);
    drop(journal);
    assert_eq!(contents(dir.path()).unwrap(), ["1", "2", "3"]);
}

#[test]
fn closing_finishes_what_is_queued_and_takes_no_more() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let (send, receive) = mpsc::channel();
    for index in 0..1000 {
        let send = send.clone();
        journal.append(STREAM, vec![payload(index, 10)], move |_| send.send(index).unwrap()).unwrap();
    }
    journal.close();
    assert!(receive.try_iter().eq(0..1000));
    assert!(matches!(journal.append(STREAM, vec![], |_| ()), Err(AppendError::Closed)));
    assert!(matches!(journal.sync(|| ()), Err(AppendError::Closed)));
    journal.close();
}

#[test]
fn a_callback_may_panic_or_drop_the_journal() {
    let dir = TempDir::new().unwrap();
    let journal = Arc::new(open(dir.path()).unwrap().0);
    journal.append(STREAM, vec!["1".into()], |_| panic!("this panic belongs to the test")).unwrap();
    let release = hold_writer(&journal);
    let last_owner = Arc::clone(&journal);
    let (send, receive) = mpsc::channel();
    journal.append(STREAM, vec!["2".into()], move |_| drop(last_owner)).unwrap();
    journal.append(STREAM, vec!["3".into()], move |_| send.send(()).unwrap()).unwrap();
    drop(journal);
    drop(release);
    receive.recv().unwrap();
    let reopened = (0..500).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        contents(dir.path()).ok()
    });
    assert_eq!(reopened.unwrap(), ["1", "2", "3"]);
}

#[test]
fn a_journal_is_opened_once_at_a_time() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { holder, .. } if *holder == std::process::id().to_string()), "{error}");
    drop(journal);
    open(dir.path()).unwrap();
}

#[test]
fn senseless_options_are_refused() {
    for segment_bytes in [0, SEGMENT_BYTES_MIN - 1, SEGMENT_BYTES_MAX + 1] {
        let dir = TempDir::new().unwrap();
        let refused = open_with(dir.path(), Options { segment_bytes, ..options() });
        assert!(matches!(refused, Err(OpenError::Option { option: "segment_bytes", .. })));
    }
}

/// Runs in a process of its own, started by the test below.
#[test]
#[ignore = "ends its process"]
fn append_to_a_directory_that_is_gone() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path()).unwrap();
    fs::remove_dir_all(dir.path()).unwrap();
    append(&journal, payload(1, 100_000));
}

#[test]
fn a_segment_that_cannot_be_created_ends_the_process() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "journal::tests::append::append_to_a_directory_that_is_gone";
    let output = command.args(["--ignored", "--exact", test, "--nocapture"]).output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
}
