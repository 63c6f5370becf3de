//! What the journal tells the metrics, which dashboards and alarms rely on; and through them, when it syncs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::*;

/// Keeps counters and the number of a histogram's values.
#[derive(Clone, Default)]
struct Measures(Arc<Mutex<BTreeMap<String, Arc<Value>>>>);

#[derive(Default)]
struct Value(Arc<AtomicU64>);

impl HistogramFn for Value {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Measures {
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().entry(name).or_default())
    }

    fn of(&self, name: &str) -> u64 {
        self.0.lock().get(name).map(|value| value.0.load(Ordering::Relaxed)).unwrap()
    }

    fn bytes(&self) -> u64 {
        self.of("waybill_journal_bytes_total{journal=test}")
    }

    fn syncs(&self) -> u64 {
        self.of("waybill_journal_sync_seconds{journal=test}")
    }
}

impl Recorder for Measures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(&self.value(key).0))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}

fn measured(dir: &Path, options: Options) -> (Journal, Measures) {
    let measures = Measures::default();
    let journal = metrics::with_local_recorder(&measures, || open_with(dir, options).unwrap().0);
    (journal, measures)
}

#[test]
fn each_group_is_one_sync_and_its_bytes_are_counted() {
    let dir = TempDir::new().unwrap();
    let (journal, measures) = measured(dir.path(), options());
    append_group(&journal, (0..10).map(|index| payload(index, 100)));
    assert_eq!((measures.syncs(), measures.bytes()), (1, 10 * 152));
    append(&journal, payload(0, 1));
    assert_eq!((measures.syncs(), measures.bytes()), (2, 10 * 152 + 56));
    sync(&journal);
    assert_eq!(measures.syncs(), 2, "there was nothing to sync");
}

#[test]
fn without_syncing_a_full_segment_a_barrier_and_the_close_sync_nevertheless() {
    let dir = TempDir::new().unwrap();
    let (journal, measures) = measured(dir.path(), Options { sync: SyncMode::Os, ..options() });
    append(&journal, payload(0, 40_000));
    assert_eq!(measures.syncs(), 0);
    assert_eq!(append(&journal, payload(0, 40_000)).segment, 2);
    assert_eq!(measures.syncs(), 1);
    sync(&journal);
    assert_eq!(measures.syncs(), 2);
    append(&journal, payload(0, 1));
    journal.close();
    assert_eq!(measures.syncs(), 4, "what was appended, and then the mark that vouches for it");
}
