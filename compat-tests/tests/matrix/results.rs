//! What became of the stories that ran, for the document of results.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use libtest_mimic::Failed;
use waybill_compat_tests::suite::{Expectation, Expectations, Form, Results};

/// A client's stories, with what was seen where one failed.
type Stories = BTreeMap<String, Option<String>>;

/// By client and its version.
static TOLD: Mutex<BTreeMap<(String, String), Stories>> = Mutex::new(BTreeMap::new());

/// Runs a story and remembers its end. Its panic is its failure; the message has been printed with the place where it arose.
pub fn told(client: &str, version: String, story: &str, run: impl FnOnce()) -> Result<(), Failed> {
    let failure = catch_unwind(AssertUnwindSafe(run)).err().map(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        message.unwrap_or("a panic without words").to_owned()
    });
    let mut told = TOLD.lock().expect("no panic under this lock");
    told.entry((client.to_owned(), version)).or_default().insert(story.to_owned(), failure.clone());
    failure.map_or(Ok(()), |message| Err(message.into()))
}

/// Writes a file for each client of which a story ran.
pub fn write() {
    for ((client, version), stories) in TOLD.lock().expect("no panic under this lock").iter() {
        let expected: Expectations = stories.keys().map(|story| (story.clone(), Expectation::Pass)).collect();
        let passed = stories.iter().filter(|(_, failure)| failure.is_none()).map(|(story, _)| story.clone()).collect();
        let failed = stories.iter().filter_map(|(story, failure)| Some((story.clone(), failure.clone()?)));
        let results = Results {
            suite: format!("matrix-{client}"),
            version: version.clone(),
            form: Form::asked_for(),
            passed,
            not_passed: failed.collect(),
        };
        results.write(&expected);
    }
}
