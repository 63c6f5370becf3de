//! `dev.json`: where the nodes of a running network are reached.

use super::{DevError, Hosts, file_error};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where an organisation is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The organisation.
    pub name: String,
    /// Its node's id.
    pub node: u32,
    /// Whether it trades, or only witnesses.
    pub trades: bool,
    /// Its Kafka listener.
    pub kafka: SocketAddr,
    /// Its HTTP port.
    pub http: SocketAddr,
    /// Its listeners with TLS and log-in, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secured: Option<Secured>,
}

/// An organisation's listeners with TLS and log-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Secured {
    /// TLS.
    pub ssl: SocketAddr,
    /// Log-in.
    pub sasl_plaintext: SocketAddr,
    /// Log-in over TLS.
    pub sasl_ssl: SocketAddr,
    /// The certificate of the authority that clients trust, as a PEM file.
    pub ca: PathBuf,
}

/// The content of `dev.json`, which is there while the network is up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Endpoints {
    /// All that run, in the order of their nodes. With `--only`, those that other processes have announced too.
    pub organisations: Vec<Endpoint>,
}

impl Endpoints {
    const FILE: &str = "dev.json";

    /// Reads the endpoints of the network that runs in a data directory.
    pub fn load(data_dir: &Path) -> Result<Self, DevError> {
        let path = data_dir.join(Self::FILE);
        let text = fs::read_to_string(&path).map_err(|source| file_error(&path, source))?;
        serde_json::from_str(&text).map_err(|error| file_error(&path, io::Error::other(error)))
    }

    /// Says that these nodes are ready, beside those of other processes. Returns them all.
    pub(super) fn announce(own: Vec<Endpoint>, data_dir: &Path, hosts: &Hosts) -> Result<Self, DevError> {
        let _lock = Self::lock(data_dir)?;
        let mut organisations = Self::of_others(data_dir, hosts);
        organisations.extend(own);
        organisations.sort_by_key(|endpoint| endpoint.node);
        let endpoints = Self { organisations };
        endpoints.save(data_dir)?;
        Ok(endpoints)
    }

    /// Says that this process's nodes are not ready, or no longer.
    pub(super) fn withdraw(data_dir: &Path, hosts: &Hosts) -> Result<(), DevError> {
        let _lock = Self::lock(data_dir)?;
        let organisations = Self::of_others(data_dir, hosts);
        if !organisations.is_empty() {
            return Self { organisations }.save(data_dir);
        }
        match fs::remove_file(data_dir.join(Self::FILE)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(file_error(&data_dir.join(Self::FILE), source))
            }
            _ => Ok(()),
        }
    }

    fn of_others(data_dir: &Path, hosts: &Hosts) -> Vec<Endpoint> {
        let mut found = Self::load(data_dir).unwrap_or_default().organisations;
        found.retain(|endpoint| !hosts.own(&endpoint.name));
        found
    }

    /// Processes of one network write the file in turn.
    fn lock(data_dir: &Path) -> Result<fs::File, DevError> {
        let path = data_dir.join("dev.lock");
        let locked = fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| file_error(&path, source))
    }

    fn save(&self, data_dir: &Path) -> Result<(), DevError> {
        let path = data_dir.join(Self::FILE);
        let text = serde_json::to_string_pretty(self).map_err(|error| file_error(&path, io::Error::other(error)))?;
        // Its presence says that the network is ready, so it comes whole or not at all.
        let draft = path.with_extension("draft");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(|source| file_error(&path, source))
    }
}
