//! Certificates of the client listeners, made once per organisation and kept below its directory:
//!
//! ```text
//! tls/ca.pem            what clients trust
//! tls/listener.pem      the listeners' certificate, for localhost and 127.0.0.1
//! tls/listener.key.pem  its private key
//! ```
//!
//! The authority is not the one of the organisation's nodes: whoever trusts it trusts these listeners, and no node
//! takes a certificate of it. Its key is forgotten at once.

use super::network::{NetworkError, file_error, write_private};
use crate::security::tls::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};

/// What listeners need, and what clients need.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    pub(super) files: TlsFiles,
    /// The authority, as PEM.
    pub(super) ca: PathBuf,
}

impl Certificates {
    /// Finds the certificates of an organisation, or makes them. The authority's file is written last: without it
    /// everything is made anew.
    pub(super) fn open(organisation_dir: &Path, name: &str) -> Result<Self, NetworkError> {
        let dir = organisation_dir.join("tls");
        let certificates = Certificates {
            files: TlsFiles { certificate_chain: dir.join("listener.pem"), private_key: dir.join("listener.key.pem") },
            ca: dir.join("ca.pem"),
        };
        if !certificates.ca.exists() {
            fs::create_dir_all(&dir).map_err(|source| file_error(&dir, source))?;
            certificates.make(name)?;
        }
        Ok(certificates)
    }

    fn make(&self, name: &str) -> Result<(), NetworkError> {
        let failed = |error: rcgen::Error| NetworkError::Make(error.to_string());
        let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
        authority.distinguished_name.push(DnType::OrganizationName, name);
        authority.distinguished_name.push(DnType::CommonName, format!("{name} throw-away client CA of waybill dev"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate().map_err(failed)?;
        let ca = authority.self_signed(&authority_key).map_err(failed)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Some clients look for the authority by it.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?.pem();

        write_private(&self.files.private_key, key.serialize_pem().as_bytes())
            .map_err(|source| file_error(&self.files.private_key, source))?;
        for (path, text) in [(&self.files.certificate_chain, certificate), (&self.ca, ca)] {
            // Clients of other users of this machine read them.
            fs::write(path, text).map_err(|source| file_error(path, source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn certificates_are_made_once_and_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let made = Certificates::open(dir.path(), "acme").unwrap();
        let ca = fs::read(&made.ca).unwrap();
        made.files.load().unwrap();
        let found = Certificates::open(dir.path(), "acme").unwrap();
        assert_eq!(fs::read(&found.ca).unwrap(), ca);
        assert!(String::from_utf8(ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        let mode = fs::metadata(&made.files.private_key).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "the key is its owner's alone");
    }
}
