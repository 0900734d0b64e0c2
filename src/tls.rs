//! TLS of inbound and outbound connections: one crypto provider, and the trusted authorities.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};

/// How we are a client: a server must be of an authority that this machine knows, or of one in
/// `ca`.
///
/// # Errors
/// A file that cannot be read or has no certificate.
pub fn client_config(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // Some that cannot be read are none of ours; without any, a handshake tells.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
        add(&mut roots, &pem).with_context(|| path.display().to_string())?;
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a PEM file.
///
/// # Errors
/// A file without any.
pub fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    anyhow::ensure!(!certificates.is_empty(), "contains no certificate");
    Ok(certificates)
}

/// Adds the certificates of a PEM file to those that are trusted.
///
/// # Errors
/// A file without any; one that is no authority.
pub fn add(roots: &mut RootCertStore, pem: &[u8]) -> anyhow::Result<()> {
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(())
}
