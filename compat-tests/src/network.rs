//! `waybill dev` as a process under test: a network of four organisations on ports that the system chooses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::{LIMIT, eventually};
use crate::{binary, command, process};

/// The four organisations of `waybill dev`, those that trade first.
pub const ORGANISATIONS: [&str; 4] = ["acme", "globex", "notary", "observer"];

/// How long a stop by signal may take.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A data directory that outlives the processes that use it, and their logs.
#[derive(Debug)]
pub struct Data {
    directory: TempDir,
    starts: AtomicUsize,
}

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}

impl Data {
    /// An empty directory, deleted in the end.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("waybill-test-").tempdir().expect("a temporary directory");
        Self { directory, starts: AtomicUsize::new(0) }
    }

    /// What is given to `--data-dir`.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A place beside the data, for files of the test itself.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The genesis file of the network.
    pub fn genesis(&self) -> PathBuf {
        self.path().join("genesis.json")
    }

    /// Every file below `organisation/part`, the largest first.
    pub fn files(&self, organisation: &str, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().join(organisation).join(part)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
                let entry = entry.expect("a directory entry");
                let kind = entry.file_type().expect("a file type");
                if kind.is_dir() { &mut folders } else { &mut found }.push(entry.path());
            }
        }
        found.sort_by_key(|file| std::cmp::Reverse(fs::metadata(file).map_or(0, |metadata| metadata.len())));
        found
    }

    /// Deletes `organisation/part`, which must be there.
    pub fn delete(&self, organisation: &str, part: &str) {
        let folder = self.path().join(organisation).join(part);
        fs::remove_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }

    /// Starts all four organisations and waits until they are ready.
    pub fn start(&self) -> Network<'_> {
        self.start_without(&[])
    }

    /// Starts the network without the nodes of some organisations.
    pub fn start_without(&self, stopped: &[&str]) -> Network<'_> {
        let options: Vec<&str> = stopped.iter().flat_map(|organisation| ["--without", organisation]).collect();
        self.start_with(&options)
    }

    /// Starts the network with further options of `waybill dev`.
    pub fn start_with(&self, options: &[&str]) -> Network<'_> {
        let mut network = self.spawn(options);
        network.wait_until_ready();
        network
    }

    /// Starts all four organisations with listeners for TLS and log-in besides the plain ones, and these users:
    /// organisation, name, password.
    pub fn start_secured(&self, users: &[(&str, &str, &str)]) -> Network<'_> {
        let users: Vec<String> = users.iter().map(|(org, name, password)| format!("{org}:{name}:{password}")).collect();
        let mut options = vec!["--secure"];
        options.extend(users.iter().flat_map(|user| ["--user", user]));
        self.start_with(&options)
    }

    /// Starts all four organisations, each node as a process of its own, in the order of [`ORGANISATIONS`].
    pub fn start_apart(&self) -> Vec<Network<'_>> {
        let mut nodes = Vec::new();
        for organisation in ORGANISATIONS {
            nodes.push(self.spawn(&["--only", organisation]));
            // The first chooses the ports of all.
            let ports = self.path().join("ports.json");
            eventually("the ports of the network", LIMIT, || ports.exists().then_some(()));
        }
        for node in &mut nodes {
            node.wait_until_ready();
        }
        // Now dev.json names them all.
        for node in &mut nodes {
            node.wait_until_ready();
        }
        nodes
    }

    /// Starts one organisation's node, the others being run by other processes, and waits until it is ready.
    pub fn start_only(&self, organisation: &str) -> Network<'_> {
        let mut node = self.spawn(&["--only", organisation]);
        node.wait_until_ready();
        node
    }

    /// Starts a network that is expected to refuse, and returns its status and what it wrote.
    pub fn start_refused(&self) -> (ExitStatus, String) {
        let mut network = self.spawn(&[]);
        let status = network.wait_for_end(LIMIT).expect("an end: this start must be refused");
        (status, network.log())
    }

    /// Starts the network and kills it so much later, however far it has come.
    pub fn start_and_kill_after(&self, time: Duration) {
        let network = self.spawn(&[]);
        thread::sleep(time);
        network.kill();
    }

    fn spawn(&self, options: &[&str]) -> Network<'_> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let log_file = self.beside(&format!("log-{number}.txt"));
        let log = File::create(&log_file).expect("a log file");
        let mut command = binary::command(&["dev", "--port", "0", "--data-dir"]);
        command.arg(self.path()).args(options);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary `waybill` starts");
        Network { data: self, child, log_file, organisations: Vec::new() }
    }
}

/// One node as `dev.json` describes it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The organisation's name.
    pub organisation: String,
    /// Its Kafka listener, `host:port`.
    pub kafka: String,
    /// Its operators' port, `host:port`.
    pub http: String,
    /// Its listeners with TLS and log-in, if the network was started with them.
    pub secured: Option<Secured>,
}

/// The listeners of a node with TLS and log-in, `host:port` each.
#[derive(Clone, Debug)]
pub struct Secured {
    /// `SSL`.
    pub ssl: String,
    /// `SASL_PLAINTEXT`.
    pub sasl_plaintext: String,
    /// `SASL_SSL`.
    pub sasl_ssl: String,
    /// The certificate of the authority that clients are to trust, a PEM file.
    pub ca: PathBuf,
}

impl Secured {
    /// The listener with this security protocol of Kafka's.
    pub fn listener(&self, protocol: &str) -> &str {
        match protocol {
            "SSL" => &self.ssl,
            "SASL_PLAINTEXT" => &self.sasl_plaintext,
            "SASL_SSL" => &self.sasl_ssl,
            other => panic!("no listener for {other}"),
        }
    }
}

/// A running `waybill dev`. Killed when dropped; its log is shown if the test fails.
#[derive(Debug)]
pub struct Network<'data> {
    data: &'data Data,
    child: Child,
    log_file: PathBuf,
    organisations: Vec<Node>,
}

impl Network<'_> {
    /// The Kafka listener of an organisation.
    pub fn kafka(&self, organisation: &str) -> &str {
        &self.node(organisation).kafka
    }

    /// The listeners with TLS and log-in of an organisation; the network must have been started with them.
    pub fn secured(&self, organisation: &str) -> &Secured {
        let node = self.node(organisation);
        node.secured.as_ref().unwrap_or_else(|| panic!("{organisation} was started without secured listeners"))
    }

    /// The operators' port of an organisation's node.
    pub fn http(&self, organisation: &str) -> &str {
        &self.node(organisation).http
    }

    /// The nodes that run.
    pub fn nodes(&self) -> &[Node] {
        &self.organisations
    }

    /// The process id of the network, or of the node that runs apart.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything the process has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log_file).unwrap_or_default()
    }

    /// Runs a subcommand of `waybill` that asks this network, and waits for its end.
    pub fn ask(&self, arguments: &[&str]) -> command::Finished {
        let mut asking: Command = binary::command(arguments);
        asking.arg("--data-dir").arg(self.data.path());
        command::run(&mut asking, b"", LIMIT)
    }

    /// SIGKILL: what a power cut leaves is what has reached the disk's cache.
    pub fn kill(mut self) {
        self.child.kill().expect("a running network");
        self.child.wait().expect("a child of ours");
    }

    /// SIGTERM; must end with exit code 0 within [`STOP_LIMIT`].
    pub fn terminate(self) {
        process::terminate(&self.child);
        self.expect_clean_end();
    }

    /// SIGINT; must end with exit code 0 within [`STOP_LIMIT`].
    pub fn interrupt(self) {
        process::interrupt(&self.child);
        self.expect_clean_end();
    }

    fn expect_clean_end(mut self) {
        let started = Instant::now();
        let status = self.wait_for_end(STOP_LIMIT);
        let status =
            status.unwrap_or_else(|| panic!("still running {} s after the signal", started.elapsed().as_secs()));
        assert!(status.success(), "a clean stop exits with 0: {status}");
    }

    fn wait_for_end(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn wait_until_ready(&mut self) {
        // An old dev.json is removed first thing; one that names the ports of an earlier start would be believed here.
        let started = Instant::now();
        while !self.log().lines().any(|line| line.starts_with("ready")) {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                panic!("waybill dev ended before it was ready: {status}");
            }
            assert!(started.elapsed() < LIMIT, "waybill dev was not ready after {} s", LIMIT.as_secs());
            thread::sleep(Duration::from_millis(20));
        }
        self.organisations = described(&self.data.path().join("dev.json"));
    }

    fn node(&self, organisation: &str) -> &Node {
        let found = self.organisations.iter().find(|node| node.organisation == organisation);
        found.unwrap_or_else(|| panic!("{organisation} has no running node"))
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last lines of {} (ended before: {ended:?}) ---", self.log_file.display());
            eprintln!("{}\n---", lines[lines.len().saturating_sub(120)..].join("\n"));
        }
    }
}

fn described(file: &Path) -> Vec<Node> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let described: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let text_of = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {described}")).to_owned();
    let nodes = described["organisations"].as_array().unwrap_or_else(|| panic!("no organisations: {described}"));
    nodes
        .iter()
        .map(|node| Node {
            organisation: text_of(&node["name"]),
            kafka: text_of(&node["kafka"]),
            http: text_of(&node["http"]),
            secured: node.get("secured").map(|secured| Secured {
                ssl: text_of(&secured["ssl"]),
                sasl_plaintext: text_of(&secured["sasl_plaintext"]),
                sasl_ssl: text_of(&secured["sasl_ssl"]),
                ca: text_of(&secured["ca"]).into(),
            }),
        })
        .collect()
}
