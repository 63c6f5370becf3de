//! `waybill`: one binary with a command for each thing that an organisation does with it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
