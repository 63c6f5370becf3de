//! rust-rdkafka as a client under test: it does one task and tells what came of it, as `compat-tests/README.md` says.
//!
//! All four tasks are done whole; nothing of them is beyond this client.

use std::process::ExitCode;

use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use crate::task::{Job, Result, Security, Task};

mod admin;
mod group;
mod records;
mod task;

/// Room for the largest record of the stories and its headers.
const MESSAGE_BYTES_MAX: &str = "20000000";

fn main() -> ExitCode {
    match task::from_arguments().and_then(|task| run(&task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<()> {
    let config = config(&task.bootstrap, task.security.as_ref())?;
    match &task.job {
        Job::Produce(produce) => records::produce(config, produce),
        Job::Consume(consume) => records::consume(config, consume),
        Job::Group(job) => {
            let produce_config = self::config(&job.produce_bootstrap, task.security.as_ref())?;
            group::run(&config, produce_config, job)
        }
        Job::Admin(job) => admin::run(&config, job),
    }
}

/// What every client object of this program starts from.
fn config(bootstrap: &str, security: Option<&Security>) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("message.max.bytes", MESSAGE_BYTES_MAX);
    let Some(security) = security else { return Ok(config) };
    config.set("security.protocol", security.protocol.to_lowercase());
    if let Some(ca) = &security.ca {
        config.set("ssl.ca.location", ca.to_str().ok_or("the path of the CA is no text")?);
    }
    let sasl = [
        ("sasl.mechanism", &security.mechanism),
        ("sasl.username", &security.username),
        ("sasl.password", &security.password),
    ];
    for (key, value) in sasl {
        if let Some(value) = value {
            config.set(key, value);
        }
    }
    Ok(config)
}

/// Ends the program where a broker refuses who we are, or we refuse the broker: the client itself would try for ever.
#[derive(Clone, Copy, Debug)]
pub struct Refusable;

impl ClientContext for Refusable {
    fn error(&self, error: KafkaError, reason: &str) {
        eprintln!("{error}: {reason}");
        if let Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) = error.rdkafka_error_code() {
            std::process::exit(1);
        }
    }
}

impl ConsumerContext for Refusable {}
