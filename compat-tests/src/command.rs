//! Running a command to its end, within a limit.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, if the command succeeded; panics with its words otherwise.
    #[track_caller]
    pub fn expect_success(self, what: &str) -> Self {
        assert!(self.status.success(), "{what}: {}\n{}\n{}", self.status, self.text(), self.stderr);
        self
    }
}

/// Runs a command, feeds it `stdin`, and waits for its end. At the limit it is killed, and the test fails.
pub fn run(command: &mut Command, stdin: &[u8], limit: Duration) -> Finished {
    let words = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{words}: {error}"));
    let (mut input, mut output, mut errors) =
        (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (ended, stdout, stderr) = thread::scope(|scope| {
        // A command that ends without reading all of its input has its reasons: its exit code tells them.
        scope.spawn(move || {
            let _ = input.write_all(stdin);
        });
        let stdout = scope.spawn(move || read_all(&mut output));
        let stderr = scope.spawn(move || read_all(&mut errors));
        let started = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break Ok(status);
            }
            if started.elapsed() > limit {
                child.kill().expect("a child of ours");
                child.wait().expect("a child of ours");
                break Err(());
            }
            thread::sleep(Duration::from_millis(5));
        };
        (ended, stdout.join().expect("a reader"), stderr.join().expect("a reader"))
    });
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    match ended {
        Ok(status) => Finished { status, stdout, stderr },
        Err(()) => panic!(
            "{words}: not finished after {} s\n{}\n{stderr}",
            limit.as_secs(),
            String::from_utf8_lossy(&stdout[stdout.len().saturating_sub(4_000)..])
        ),
    }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe of ours");
    bytes
}
