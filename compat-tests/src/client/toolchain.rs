//! The languages that clients are written in, and whether they are on this machine.

use std::env;
use std::process::{Command, Stdio};

/// What must be there to install and run a client. Nothing below this is installed by the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// CPython with `venv` and `pip`.
    Python,
    /// Node.js with npm.
    Node,
    /// Go.
    Go,
    /// A JDK, and Maven.
    Java,
    /// Cargo, which runs this.
    Rust,
}

impl Toolchain {
    /// What is not on this machine, if anything: `no npm`.
    pub fn missing(self) -> Option<String> {
        let missing: Vec<&str> = self.probes().iter().filter(|probe| !answers(probe)).map(|probe| probe[0]).collect();
        (!missing.is_empty()).then(|| format!("no {}", missing.join(", no ")))
    }

    fn probes(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Python => &[&["python3", "-c", "import venv, ensurepip"]],
            Self::Node => &[&["node", "--version"], &["npm", "--version"]],
            Self::Go => &[&["go", "version"]],
            Self::Java => &[&["javac", "-version"], &["mvn", "--version"]],
            Self::Rust => &[],
        }
    }
}

/// Whether a client without its toolchain is a failure: `WAYBILL_COMPAT=all`, as in `.ci/run`.
pub fn all_demanded() -> bool {
    env::var_os("WAYBILL_COMPAT").is_some_and(|value| value == "all")
}

/// Whether suites run whole and every client reads what every other wrote: `WAYBILL_COMPAT_FULL=1`, as in `just full`.
pub fn full_demanded() -> bool {
    env::var_os("WAYBILL_COMPAT_FULL").is_some_and(|value| value == "1")
}

fn answers(words: &[&str]) -> bool {
    let asked = Command::new(words[0]).args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}
