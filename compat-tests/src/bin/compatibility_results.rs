//! Writes `docs/compatibility-results.md` from what the last runs of the client matrix and of the clients' own suites left in
//! `target/compat/results/`. Part of `just full`; alone: `cargo run -p waybill-compat-tests --bin compatibility-results`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use waybill_compat_tests::client::compat_directory;

/// What the name of a result begins with if it is a client of the matrix, and not a suite.
const MATRIX: &str = "matrix-";

fn main() -> ExitCode {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility-results.md");
    match results().and_then(|results| fs::write(&file, document(&results)).map_err(|error| error.to_string())) {
        Ok(()) => {
            println!("written: docs/compatibility-results.md");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("docs/compatibility-results.md is not written: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The stories that clients have in common, and the headings of their columns.
const STORIES: [(&str, &str); 5] = [
    ("every_codec_crosses_byte_for_byte", "five codecs, byte for byte"),
    ("records_of_10_mb_cross", "10 MB records"),
    ("two_members_share_and_one_takes_over", "group that rebalances"),
    ("admin_calls_do_what_they_say", "admin calls"),
    ("log_in_and_tls_let_users_in_and_nobody_else", "SASL and TLS"),
];

/// One file of results.
struct Outcome {
    name: String,
    version: String,
    form: String,
    passed: Vec<String>,
    not_passed: Vec<(String, String)>,
}

impl Outcome {
    /// The client's name.
    fn client(&self) -> &str {
        self.name.trim_start_matches(MATRIX)
    }

    /// Whether this story was run.
    fn tells(&self, story: &str) -> bool {
        self.passed.iter().any(|passed| passed == story) || self.not_passed.iter().any(|(failed, _)| failed == story)
    }
}

fn results() -> Result<Vec<Outcome>, String> {
    let folder = compat_directory().join("results");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}; run the tests first", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|file| outcome(file).map_err(|reason| format!("{}: {reason}", file.display()))).collect()
}

fn outcome(file: &Path) -> Result<Outcome, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let read: Map<String, Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let word = |field: &str| read.get(field).and_then(Value::as_str).map(str::to_owned).ok_or(format!("no {field}"));
    let passed = read.get("passed").and_then(Value::as_array).ok_or("no passed")?;
    let not_passed = read.get("not_passed").and_then(Value::as_object).ok_or("no not_passed")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Outcome {
        name: word("suite")?,
        version: word("version")?,
        form: word("form")?,
        passed: passed.iter().map(text).collect(),
        not_passed: not_passed.iter().map(|(name, reason)| (name.clone(), text(reason))).collect(),
    })
}

fn document(results: &[Outcome]) -> String {
    let (clients, suites): (Vec<&Outcome>, Vec<&Outcome>) =
        results.iter().partition(|result| result.name.starts_with(MATRIX));
    let mut text = format!(
        "# Kafka clients against Waybill\n\n\
         Written on {date} at commit {commit} from what the last run of each left; `just full` runs them all. Not to be edited.\n\n\
         With {versions}.\n\n\
         ## Clients\n\
         Each produces at one organisation and consumes at the other, as its own language's program; what is asserted is in\n\
         `compat-tests/tests/matrix/`. A dash stands for what the client itself does not offer.\n\n",
        date = today(),
        commit = said(&["git", "rev-parse", "--short=12", "HEAD"]),
        versions = toolchains(),
    );
    text.push_str(&table(&clients));
    for other in clients.iter().filter(|client| !client.tells(STORIES[0].0)) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n**{}** {}:", other.client(), other.version);
        for story in &other.passed {
            let _ = writeln!(text, "- {}", story.replace('_', " "));
        }
        for (story, reason) in &other.not_passed {
            let _ = writeln!(text, "- **does not pass**: {} ({})", story.replace('_', " "), one_line(reason));
        }
    }
    text.push_str("\n## The clients' own test suites\n");
    for suite in suites {
        let (passed, all) = (suite.passed.len(), suite.passed.len() + suite.not_passed.len());
        let _ = write!(
            text,
            "\n### {} {} ({} form): {passed} of {all} pass\nThey pass: {}.\n",
            suite.name,
            suite.version,
            suite.form,
            suite.passed.join(", ")
        );
        if !suite.not_passed.is_empty() {
            text.push_str("\n| not passed | why |\n|---|---|\n");
        }
        for (name, reason) in &suite.not_passed {
            let _ = writeln!(text, "| {name} | {} |", one_line(reason).replace('|', "\\|"));
        }
    }
    text
}

/// A line per client that tells the common stories.
fn table(clients: &[&Outcome]) -> String {
    let mut text = String::from("| client | version |");
    text.extend(STORIES.iter().map(|(_, heading)| format!(" {heading} |")));
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(STORIES.len()));
    text.push('\n');
    for client in clients.iter().filter(|client| client.tells(STORIES[0].0)) {
        let _ = write!(text, "| {} | {} |", client.client(), client.version);
        for (story, _) in STORIES {
            let mark = match (client.passed.iter().any(|passed| passed == story), client.tells(story)) {
                (true, _) => "passes",
                (false, true) => "**fails**",
                (false, false) => "-",
            };
            let _ = write!(text, " {mark} |");
        }
        text.push('\n');
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn toolchains() -> String {
    let asked = [
        &["rustc", "--version"][..],
        &["python3", "--version"],
        &["node", "--version"],
        &["go", "version"],
        &["javac", "-version"],
    ];
    let named = asked.iter().map(|words| format!("{}: {}", words[0], said(words)));
    named.collect::<Vec<_>>().join("; ")
}

/// A command's first line.
fn said(words: &[&str]) -> String {
    let Ok(output) = Command::new(words[0]).args(&words[1..]).output() else { return "not there".into() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// The date in UTC, by Hinnant's algorithm for the proleptic Gregorian calendar.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let days = i64::try_from(seconds / 86_400).unwrap_or_default() + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
