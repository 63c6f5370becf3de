//! The clients of the matrix: what each is, what it cannot express, how its program is given a task.
//!
//! `compat-tests/README.md` has what a program is told and what it answers.

mod install;
mod table;
mod toolchain;
mod version;

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::command::{self, Finished};

pub use install::{Installed, JAVA_OPTIONS, compat_directory};
pub use table::CLIENTS;
pub use toolchain::{Toolchain, all_demanded, full_demanded};
pub use version::pinned_kafka;

/// How long a program may work on one task. It gives up by itself after 60 seconds without progress.
const TASK_LIMIT: Duration = Duration::from_secs(180);

/// A Kafka client and its program.
#[derive(Debug)]
pub struct Client {
    /// Its name, which is that of its stories.
    pub name: &'static str,
    /// Its folder below `compat-tests/`.
    pub folder: &'static str,
    /// What runs it.
    pub toolchain: Toolchain,
    /// Its version, where the manifest leaves it open.
    pub version: Option<&'static str>,
    /// What it cannot do; everything else it must.
    pub cannot: Limits,
    installed: OnceLock<Result<Installed, String>>,
}

/// What a client's own interface does not offer. Each entry is a fact about the client, not about Waybill.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It does not tell the offsets of records that it produced.
    pub offsets: bool,
    /// It has no idempotent producer.
    pub idempotence: bool,
    /// It writes or reads a header's null value as an empty one.
    pub null_headers: bool,
    /// How it keeps headers.
    pub headers: Headers,
    /// It reads an empty key, value or header value as null.
    pub empties: bool,
    /// It has no consumer groups.
    pub groups: bool,
    /// It has no TLS.
    pub tls: bool,
    /// SASL mechanisms that it lacks.
    pub mechanisms: &'static [&'static str],
    /// What it leaves out of the task `admin`.
    pub admin: &'static [&'static str],
}

/// How a client keeps a record's headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Headers {
    /// As Kafka does: a list, in which a name may come again.
    List,
    /// Those of one name together, at the first one's place.
    ByName,
    /// As a map: one of a name, in the order of the names.
    Map,
}

impl Limits {
    /// A client that can do everything.
    pub const NONE: Self = Self {
        offsets: false,
        idempotence: false,
        null_headers: false,
        headers: Headers::List,
        empties: false,
        groups: false,
        tls: false,
        mechanisms: &[],
        admin: &[],
    };
}

impl Client {
    const fn new(name: &'static str, toolchain: Toolchain, cannot: Limits) -> Self {
        Self::of_folder(name, name, toolchain, None, cannot)
    }

    const fn java(name: &'static str, version: &'static str, cannot: Limits) -> Self {
        Self::of_folder(name, "java", Toolchain::Java, Some(version), cannot)
    }

    const fn of_folder(
        name: &'static str,
        folder: &'static str,
        toolchain: Toolchain,
        version: Option<&'static str>,
        cannot: Limits,
    ) -> Self {
        Self { name, folder, toolchain, version, cannot, installed: OnceLock::new() }
    }

    /// Gives the program a task and waits for its end, whatever comes of it.
    pub fn try_task(&self, task: &Value) -> Finished {
        let installed = self
            .installed
            .get_or_init(|| Installed::new(self.name, self.folder, self.toolchain, self.version))
            .as_ref()
            .unwrap_or_else(|error| panic!("{} could not be installed: {error}", self.name));
        command::run(installed.program(self.toolchain).arg(task.to_string()), b"", TASK_LIMIT)
    }

    /// Gives the program a task, which it must do.
    #[track_caller]
    pub fn task(&self, task: &Value) {
        self.try_task(task).expect_success(&format!("{}: {task}", self.name));
    }
}
