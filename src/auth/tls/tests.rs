use std::{net::SocketAddr, sync::Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsConnector;

use rustls::ClientConfig;

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key in PEM.
fn leaf(ca: &Ca, names: &[&str], uri: Option<&str>) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .subject_alt_names
        .extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
    let key = KeyPair::generate().unwrap();
    (
        params.signed_by(&key, ca).unwrap().pem(),
        key.serialize_pem(),
    )
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("user-service-tls-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn config(folder: &Folder, ca: &Ca) -> Tls {
    let (cert, key) = leaf(ca, &["localhost"], None);
    Tls {
        cert: folder.write("cert.pem", &cert),
        key: folder.write("key.pem", &key),
        client_ca: Some(folder.write("ca.pem", &ca.pem())),
        client_required: false,
        services: vec![
            CertificateService {
                san: "spiffe://test/billing".to_owned(),
                service: "billing".to_owned(),
                scopes: vec!["profiles.read".to_owned()],
            },
            CertificateService {
                san: "Mailer.test".to_owned(),
                service: "mailer".to_owned(),
                scopes: vec!["codes.send".to_owned()],
            },
        ],
    }
}

/// A port that answers each connection with a letter, and gives away its callers.
async fn serve(acceptor: Acceptor) -> (SocketAddr, Arc<Mutex<Vec<Option<Caller>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let callers: Arc<Mutex<Vec<Option<Caller>>>> = Arc::default();
    let seen = Arc::clone(&callers);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok((mut connection, caller)) = acceptor.accept(stream).await else {
                    return;
                };
                seen.lock().unwrap().push(caller);
                connection.write_all(b"!").await.unwrap();
                connection.shutdown().await.unwrap();
            });
        }
    });
    (address, callers)
}

/// Connects, trusting `ca`, with a certificate where one is given; tells whether the port answered.
async fn call(address: SocketAddr, ca: &Ca, shown: Option<&(String, String)>) -> bool {
    let mut roots = RootCertStore::empty();
    add(&mut roots, ca.pem().as_bytes()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some((cert, key)) => builder
            .with_client_auth_cert(
                certificates(cert.as_bytes()).unwrap(),
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let exchange = async {
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange)
        .await
        .unwrap();
    answer.is_ok()
}

#[tokio::test]
async fn p52_a_clients_certificate_speaks_for_its_service() {
    let (folder, ca) = (Folder::new(), authority());
    let (address, callers) = serve(acceptor(config(&folder, &ca), &["h2"]).await.unwrap()).await;

    for shown in [
        None,
        Some(leaf(&ca, &[], Some("spiffe://test/billing"))),
        Some(leaf(&ca, &["mailer.test"], None)),
        Some(leaf(
            &ca,
            &["stranger.test"],
            Some("spiffe://test/billing/more"),
        )),
    ] {
        assert!(call(address, &ca, shown.as_ref()).await);
    }
    assert!(
        !call(
            address,
            &ca,
            Some(&leaf(&authority(), &["mailer.test"], None))
        )
        .await
    );

    let callers = callers.lock().unwrap();
    let names: Vec<_> = callers
        .iter()
        .map(|caller| caller.as_ref().map(|caller| caller.to_string()))
        .collect();
    let service = |name: &str| Some(format!("service:{name}"));
    assert_eq!(names, [None, service("billing"), service("mailer"), None]);
    assert_eq!(callers[1].as_ref().unwrap().scopes, [Scope::ProfilesRead]);
}

#[tokio::test]
async fn p52_a_client_without_a_certificate_is_turned_away_where_one_is_required() {
    let (folder, ca) = (Folder::new(), authority());
    let tls = Tls {
        client_required: true,
        ..config(&folder, &ca)
    };
    let (address, _) = serve(acceptor(tls, &["h2"]).await.unwrap()).await;
    assert!(!call(address, &ca, None).await);
    assert!(call(address, &ca, Some(&leaf(&ca, &["any.test"], None))).await);
}

#[tokio::test]
async fn p52_files_are_read_again_and_bad_ones_keep_the_old() {
    let (folder, ca, next) = (Folder::new(), authority(), authority());
    let (mut reloader, current) = Reloader::start(config(&folder, &ca), &["h2"])
        .await
        .unwrap();
    let services = Arc::from([]);
    let (address, _) = serve(Acceptor { current, services }).await;

    let (cert, key) = leaf(&next, &["localhost"], None);
    folder.write("cert.pem", &cert);
    reloader.look().await;
    assert!(call(address, &ca, None).await, "the key does not fit yet");
    folder.write("key.pem", "no key");
    reloader.look().await;
    std::fs::remove_file(folder.0.join("key.pem")).unwrap();
    reloader.look().await;
    assert!(call(address, &ca, None).await);

    folder.write("key.pem", &key);
    reloader.look().await;
    assert!(call(address, &next, None).await);
    assert!(!call(address, &ca, None).await);
}

#[tokio::test]
async fn p52_new_authorities_of_clients_are_taken() {
    let (folder, ca, next) = (Folder::new(), authority(), authority());
    let (mut reloader, current) = Reloader::start(config(&folder, &ca), &[]).await.unwrap();
    let services = Arc::from([]);
    let (address, _) = serve(Acceptor { current, services }).await;
    let shown = leaf(&next, &["a.test"], None);
    assert!(!call(address, &ca, Some(&shown)).await);
    folder.write("ca.pem", &next.pem());
    reloader.look().await;
    assert!(call(address, &ca, Some(&shown)).await);
}

#[tokio::test]
async fn p52_a_client_that_says_nothing_is_in_nobodys_way() {
    let (folder, ca) = (Folder::new(), authority());
    let (address, _) = serve(acceptor(config(&folder, &ca), &["h2"]).await.unwrap()).await;
    let silent = TcpStream::connect(address).await.unwrap();
    assert!(call(address, &ca, None).await);
    drop(silent);
}

#[tokio::test]
async fn p52_the_first_files_must_be_good() {
    let (folder, ca) = (Folder::new(), authority());
    let good = config(&folder, &ca);
    let mut scope = good.clone();
    scope.services[0].scopes = vec!["everything".to_owned()];
    let missing = Tls {
        cert: folder.0.join("none.pem"),
        ..good.clone()
    };
    let mixed = Tls {
        key: folder.write("other.pem", &leaf(&ca, &["localhost"], None).1),
        ..good.clone()
    };
    let nobody = Tls {
        client_ca: None,
        client_required: true,
        ..good
    };
    for bad in [scope, missing, mixed, nobody] {
        assert!(acceptor(bad, &["h2"]).await.is_err());
    }
    assert!(crate::tls::client_config(Some(&folder.0.join("ca.pem"))).is_ok());
    assert!(crate::tls::client_config(Some(&folder.0.join("key.pem"))).is_err());
}

#[test]
fn no_certificate_speaks_for_the_operator_or_the_bootstrap_token() {
    let (folder, ca) = (Folder::new(), authority());
    let mut tls = config(&folder, &ca);
    assert_eq!(tls.errors("grpc.tls"), Vec::<String>::new());
    for name in ["operator", "bootstrap"] {
        tls.services[0].service = name.to_owned();
        assert_eq!(
            tls.errors("grpc.tls"),
            [format!("grpc.tls.services: {name} is a reserved name")]
        );
    }
}
