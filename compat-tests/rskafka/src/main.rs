//! rskafka as a client under test: it does one task and tells what came of it, as `compat-tests/README.md` says.
//!
//! What this client cannot express, so that a story must not ask for it:
//! - consumer groups: the task `group` is refused;
//! - a header without a value, two headers of one name, and an order of headers that is not the alphabetical one: it keeps
//!   headers as a map. Such records are refused when they are to be produced. Read from others, a header without a value is
//!   an error of this client's decoder, and of headers of one name it shows the last;
//! - idempotent producers: the wish is ignored;
//! - a topic's configuration: `config` is neither set nor answered, nor are `nodes`, `groups`, `group_state`,
//!   `group_offsets` and `group_deleted`.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::task::{Job, PATIENCE, Result, Security, Task};

mod admin;
mod records;
#[expect(dead_code, reason = "the other client uses all of it")]
mod task;

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client(task).await?;
        match &task.job {
            Job::Produce(job) => records::produce(&client, job).await,
            Job::Consume(job) => records::consume(&client, job).await,
            Job::Admin(job) => admin::run(&client, job).await,
            Job::Group(_) => Err("rskafka has no consumer groups".into()),
        }
    })
}

async fn client(task: &Task) -> Result<Client> {
    if task.security.is_some() {
        // A refused log-in or certificate is tried again like anything else. This one finds out soon whether we are let in.
        patiently("connect", builder(task, PATIENCE / 20)?.build()).await?;
    }
    patiently("connect", builder(task, PATIENCE)?.build()).await
}

fn builder(task: &Task, deadline: Duration) -> Result<ClientBuilder> {
    let backoff =
        BackoffConfig { max_backoff: Duration::from_secs(1), deadline: Some(deadline), ..BackoffConfig::default() };
    let mut builder = ClientBuilder::new(vec![task.bootstrap.clone()]).backoff_config(backoff);
    if let Some(security) = &task.security {
        if let Some(ca) = &security.ca {
            builder = builder.tls_config(trusting(ca)?);
        }
        if security.protocol.starts_with("SASL") {
            builder = builder.sasl_config(sasl(security)?);
        }
    }
    Ok(builder)
}

fn trusting(ca: &Path) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    Ok(Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

fn sasl(security: &Security) -> Result<SaslConfig> {
    let username = security.username.clone().ok_or("SASL without a user name")?;
    let password = security.password.clone().ok_or("SASL without a password")?;
    let credentials = Credentials::new(username, password);
    match security.mechanism.as_deref() {
        Some("PLAIN") => Ok(SaslConfig::Plain(credentials)),
        Some("SCRAM-SHA-256") => Ok(SaslConfig::ScramSha256(credentials)),
        Some("SCRAM-SHA-512") => Ok(SaslConfig::ScramSha512(credentials)),
        other => Err(format!("no such SASL mechanism: {other:?}").into()),
    }
}

/// One call of the client, which may wait for its own retries but not for ever.
async fn patiently<T>(what: &str, call: impl Future<Output = rskafka::client::error::Result<T>>) -> Result<T> {
    let result = tokio::time::timeout(PATIENCE, call).await;
    let result = result.map_err(|_| format!("{what}: no end after {} s", PATIENCE.as_secs()))?;
    result.map_err(|error| format!("{what}: {error}").into())
}
