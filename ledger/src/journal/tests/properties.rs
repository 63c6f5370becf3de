//! Random appends, random crashes: what was synced is there, what was not is there up to some point, nothing else ever is.

use proptest::prelude::*;

use super::*;

/// The unit in which a disk writes or does not.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
struct Run {
    groups: Vec<Vec<usize>>,
    /// For each sector of what was not synced, whether it reached the disk.
    sectors: Vec<bool>,
    /// Whether the end of the file is missing too, and how much.
    cut_bytes: Option<usize>,
}

fn run() -> impl Strategy<Value = Run> {
    let lengths = prop::collection::vec(prop_oneof![4 => 0..200_usize, 1 => 200..6000_usize], 1..8);
    let sectors = prop_oneof![Just(vec![false]), prop::collection::vec(any::<bool>(), 1..32)];
    (prop::collection::vec(lengths, 1..5), sectors, prop::option::of(0..6000_usize))
        .prop_map(|(groups, sectors, cut_bytes)| Run { groups, sectors, cut_bytes })
}

/// Appends the groups; returns all payloads, how many of them the last group has, and the segment's bytes before and after it.
fn append_all(run: &Run) -> (Vec<Bytes>, usize, Vec<u8>, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    // Large enough that all groups fit.
    let (journal, _) = open_with(dir.path(), Options { segment_bytes: 512 << 10, ..options() }).unwrap();
    let mut before = first_segment(dir.path());
    let mut payloads: Vec<Bytes> = Vec::new();
    for group in &run.groups {
        before = first_segment(dir.path());
        let of_group: Vec<_> = group.iter().map(|length| payload(*length, *length)).collect();
        append_group(&journal, of_group.clone());
        payloads.extend(of_group);
    }
    let after = first_segment(dir.path());
    (payloads, run.groups.last().map_or(0, Vec::len), before, after)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_a_prefix_is_there_with_all_that_was_synced(run in run()) {
        let (payloads, last_group, before, mut after) = append_all(&run);
        let first_changed = (0..after.len()).find(|at| before[*at] != after[*at]).unwrap_or(after.len());
        let first_sector = first_changed / SECTOR_BYTES;
        for (index, sector) in (first_sector..after.len() / SECTOR_BYTES).enumerate() {
            if !run.sectors[index % run.sectors.len()] {
                let lost = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                after[lost.clone()].copy_from_slice(&before[lost]);
            }
        }
        if let Some(cut_bytes) = run.cut_bytes {
            after.truncate((first_changed + cut_bytes).min(after.len()));
        }
        let dir = journal_of(&after);
        let found = contents(dir.path()).unwrap();
        prop_assert!(found.len() >= payloads.len() - last_group, "all that was synced");
        prop_assert!(found == payloads[..found.len()], "and nothing else");
        prop_assert_eq!(contents(dir.path()).unwrap(), found, "opening again changes nothing");
    }

    #[test]
    fn a_flipped_bit_before_the_last_group_is_refused_or_harmless(run in run(), place in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (payloads, _, before, mut after) = append_all(&run);
        let last_group_at = (0..after.len()).find(|at| before[*at] != after[*at]).unwrap_or(after.len());
        let at = place.index(last_group_at);
        after[at] ^= 1 << bit;
        let dir = journal_of(&after);
        match contents(dir.path()) {
            // The rest of the segment's first block and the zeros behind a payload mean nothing.
            Ok(found) => prop_assert_eq!(found, payloads),
            Err(OpenError::Corrupt { offset, .. }) => prop_assert!(offset <= at as u64),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_flipped_bit_costs_a_scan_of_headers_one_payload_or_is_refused(run in run(), place in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (payloads, _, before, mut after) = append_all(&run);
        let last_group_at = (0..after.len()).find(|at| before[*at] != after[*at]).unwrap_or(after.len());
        let at = place.index(last_group_at);
        after[at] ^= 1 << bit;
        let dir = journal_of(&after);
        let mut shown = Vec::new();
        let opened = Journal::open(dir.path(), Options { scan: Scan::Headers, ..options() }, &mut |visited| {
            shown.push(visited.position);
            Ok(())
        });
        match opened {
            Ok(journal) => {
                prop_assert_eq!(shown.len(), payloads.len());
                let read: Vec<_> = shown.into_iter().map(|position| journal.read(position)).collect();
                prop_assert!(read.iter().filter(|read| read.is_err()).count() <= 1);
                prop_assert!(read.iter().zip(&payloads).all(|(read, payload)| read.as_ref().map_or(true, |read| read == payload)));
            }
            Err(OpenError::Corrupt { offset, .. }) => prop_assert!(offset <= at as u64),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn bytes_that_are_no_journal_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let refused = open(journal_of(&bytes).path());
        prop_assert!(matches!(refused, Err(OpenError::Corrupt { offset: 0, .. })), "not a segment");
    }
}
