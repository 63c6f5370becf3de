//! TLS for clients: 1.3 and, for older Java and Node clients, 1.2. What links between nodes use is another matter
//! ([`waybill_ledger::identity`]).

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a listener's certificate is, as an operator says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM: the listener's certificate, then those between it and the authority that clients trust.
    pub certificate_chain: PathBuf,
    /// PEM: the certificate's private key (PKCS#8, SEC1 or PKCS#1).
    pub private_key: PathBuf,
}

/// Why a listener has no TLS. Each says which file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is not PEM.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file without a certificate.
    #[error("{0} has no certificate")]
    NoCertificate(String),
    /// Certificate and key do not fit each other, or are of a kind that is not known.
    #[error("the certificate in {path} cannot be used with its key: {reason}")]
    Refused {
        /// The certificate's file.
        path: String,
        /// What the TLS library says.
        reason: String,
    },
}

impl TlsFiles {
    /// Reads both files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&self.certificate_chain).and_then(|certificates| certificates.collect());
        let chain = chain.map_err(|error| file_error(&self.certificate_chain, &error))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(self.certificate_chain.display().to_string()));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.private_key).map_err(|error| file_error(&self.private_key, &error))?;
        let refused = |error: rustls::Error| TlsError::Refused {
            path: self.certificate_chain.display().to_string(),
            reason: error.to_string(),
        };
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(refused)?;
        Ok(Arc::new(config))
    }
}

fn file_error(path: &Path, reason: &dyn ToString) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn files(dir: &Path, chain: &str, key: &str) -> TlsFiles {
        let files = TlsFiles { certificate_chain: dir.join("chain.pem"), private_key: dir.join("key.pem") };
        std::fs::write(&files.certificate_chain, chain).unwrap();
        std::fs::write(&files.private_key, key).unwrap();
        files
    }

    #[test]
    fn files_are_loaded_and_what_is_wrong_with_them_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap().pem();
        files(dir.path(), &certificate, &key.serialize_pem()).load().unwrap();

        let refused = |chain: &str, key: &str| files(dir.path(), chain, key).load().unwrap_err().to_string();
        assert!(refused("", &key.serialize_pem()).contains("chain.pem has no certificate"));
        assert!(refused(&certificate, "").contains("key.pem"));
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert!(refused(&certificate, &other).contains("cannot be used with its key"));
        let missing = TlsFiles { certificate_chain: dir.path().join("no"), private_key: dir.path().join("no") };
        assert!(matches!(missing.load(), Err(TlsError::File { .. })));
    }
}
