//! TLS at our ports.
//!
//! A port's certificate, key and authorities are read again every few seconds. They are replaced
//! file by file: as long as they do not fit together, the old ones stay.

use std::{io, path::Path, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    domain::caller::Caller,
    model::{scope::Scope, token::Subject},
    tls::{add, certificates, provider},
};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Section `[grpc.tls]` and its like: TLS at one port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The chain of certificates in PEM, our own first.
    pub cert: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// The authorities of client certificates in PEM; without them no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub client_required: bool,
    /// The services that certificates speak for.
    pub services: Vec<CertificateService>,
}

impl Tls {
    /// What is wrong with the section of that name, without a look at the files.
    pub fn errors(&self, section: &str) -> Vec<String> {
        let mut errors = Vec::new();
        for (key, path) in [("cert", &self.cert), ("key", &self.key)] {
            if path.as_os_str().is_empty() {
                errors.push(format!("{section}.{key} is missing"));
            }
        }
        if self.client_ca.is_none() && (self.client_required || !self.services.is_empty()) {
            errors.push(format!(
                "{section}.client_ca is required to verify client certificates"
            ));
        }
        for service in &self.services {
            if service.san.is_empty() || service.service.is_empty() {
                errors.push(format!("{section}.services: each has a san and a service"));
            }
            if Subject::Service(service.service.clone()).is_reserved() {
                errors.push(format!(
                    "{section}.services: {} is a reserved name",
                    service.service
                ));
            }
            if let Err(error) = identity(service) {
                errors.push(format!("{section}.services: {error}"));
            }
        }
        errors
    }
}

/// A service that needs no token where it shows its certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateService {
    /// A DNS name or URI (`spiffe://…`) among the certificate's alternative names.
    pub san: String,
    pub service: String,
    pub scopes: Vec<String>,
}

/// Takes TLS connections at a port.
#[derive(Clone)]
pub struct Acceptor {
    current: watch::Receiver<Arc<ServerConfig>>,
    services: Arc<[(String, Caller)]>,
}

/// Reads the files and follows them until the acceptor and all its clones are gone. `protocols` are
/// those of ALPN.
///
/// # Errors
/// Files that cannot be read or do not fit together, and scopes that do not exist: the first time
/// all must be right.
pub async fn acceptor(tls: Tls, protocols: &[&str]) -> anyhow::Result<Acceptor> {
    let services = tls
        .services
        .iter()
        .map(identity)
        .collect::<anyhow::Result<_>>()?;
    let (mut reloader, current) = Reloader::start(tls, protocols).await?;
    tokio::spawn(async move {
        while !reloader.is_orphan() {
            tokio::time::sleep(LOOK_EVERY).await;
            reloader.look().await;
        }
    });
    Ok(Acceptor { current, services })
}

impl Acceptor {
    /// Shakes hands; tells also the service that the client's certificate speaks for, where it is
    /// one of ours.
    ///
    /// # Errors
    /// A handshake that fails. The caller sets its timeout.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Caller>)> {
        let config = Arc::clone(&self.current.borrow());
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let caller = certificate.and_then(|certificate| self.caller(certificate));
        Ok((stream, caller))
    }

    fn caller(&self, certificate: &CertificateDer<'_>) -> Option<Caller> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        let found = self.services.iter().find(|(san, _)| {
            certificate
                .valid_dns_names()
                .any(|name| name.eq_ignore_ascii_case(san))
                || certificate.valid_uri_names().any(|name| name == san)
        });
        found.map(|(_, caller)| caller.clone())
    }
}

fn identity(service: &CertificateService) -> anyhow::Result<(String, Caller)> {
    let scopes = service
        .scopes
        .iter()
        .map(|name| {
            Scope::parse(name).with_context(|| format!("{}: unknown scope {name}", service.service))
        })
        .collect::<anyhow::Result<_>>()?;
    let subject = Subject::Service(service.service.clone());
    Ok((service.san.clone(), Caller::new(subject, scopes)))
}

/// Keeps a port's configuration in step with its files.
struct Reloader {
    tls: Tls,
    protocols: Vec<Vec<u8>>,
    /// What the last look found, good or bad, so that nothing is tried or logged twice.
    seen: Result<Files, String>,
    current: watch::Sender<Arc<ServerConfig>>,
}

#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Reloader {
    async fn start(
        tls: Tls,
        protocols: &[&str],
    ) -> anyhow::Result<(Self, watch::Receiver<Arc<ServerConfig>>)> {
        let protocols: Vec<Vec<u8>> = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let files = Files::read(&tls).await?;
        let (current, receiver) = watch::channel(Arc::new(files.config(&tls, &protocols)?));
        let reloader = Self {
            tls,
            protocols,
            seen: Ok(files),
            current,
        };
        Ok((reloader, receiver))
    }

    fn is_orphan(&self) -> bool {
        self.current.receiver_count() == 0
    }

    /// Takes files that changed, if they are good; connections that stand are not touched.
    async fn look(&mut self) {
        let found = Files::read(&self.tls)
            .await
            .map_err(|error| format!("{error:#}"));
        if found == self.seen {
            return;
        }
        let config = match &found {
            Ok(files) => files
                .config(&self.tls, &self.protocols)
                .map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.clone()),
        };
        match config {
            Ok(config) => {
                self.current.send_replace(Arc::new(config));
                tracing::info!(cert = %self.tls.cert.display(), "TLS certificate reloaded");
            }
            Err(error) => {
                tracing::error!(cert = %self.tls.cert.display(), error, "invalid new TLS certificate; keeping the old one");
            }
        }
        self.seen = found;
    }
}

impl Files {
    async fn read(tls: &Tls) -> anyhow::Result<Self> {
        let client_ca = match &tls.client_ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        Ok(Self {
            cert: read(&tls.cert).await?,
            key: read(&tls.key).await?,
            client_ca,
        })
    }

    fn config(&self, tls: &Tls, protocols: &[Vec<u8>]) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                add(&mut roots, pem).context("client_ca")?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                let verifier = if tls.client_required {
                    verifier
                } else {
                    verifier.allow_unauthenticated()
                };
                builder.with_client_cert_verifier(verifier.build()?)
            }
            None if tls.client_required => anyhow::bail!("client_required needs client_ca"),
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("key")?;
        let mut config =
            builder.with_single_cert(certificates(&self.cert).context("cert")?, key)?;
        config.alpn_protocols = protocols.to_vec();
        Ok(config)
    }
}

async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(path)
        .await
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
