//! TLS to Postgres, with a server of its own.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;
use user_service::{
    dev::postgres::{self, Settings},
    store::{schema, sql::Sql},
};

use crate::support::{certificates::Authority, folder::Folder};

/// Starts the server with this certificate; `None` where its binaries know no TLS.
async fn start(folder: PathBuf, cert: String, key: String) -> Option<postgres::Server> {
    let server = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || {
            postgres::Server::start(&Settings {
                folder: &folder,
                extra: &[],
            })
            .unwrap()
        }
    });
    let server = server.await.unwrap();
    let mut conn = schema::connect(&server.url("postgres"), None)
        .await
        .unwrap();
    let library = Sql::<Text>::new("select setting from pg_settings where name = 'ssl_library'");
    let library: String = library.get_result(&mut conn).await.unwrap();
    let data: String = Sql::<Text>::new("select current_setting('data_directory')")
        .get_result(&mut conn)
        .await
        .unwrap();
    tokio::task::spawn_blocking(move || {
        drop(server);
        if library.is_empty() {
            return None;
        }
        let owner = fs::metadata(&data).unwrap();
        for (name, text) in [("server.crt", cert), ("server.key", key)] {
            let path = PathBuf::from(&data).join(name);
            fs::write(&path, text).unwrap();
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
        }
        Some(
            postgres::Server::start(&Settings {
                folder: &folder,
                extra: &[("ssl", "on")],
            })
            .unwrap(),
        )
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p52_postgres_must_show_a_chain_and_a_name_that_are_right() {
    let (folder, ca, stranger) = (Folder::new(), Authority::new(), Authority::new());
    let leaf = ca.issue("localhost");
    let Some(server) = start(folder.0.join("postgres"), leaf.cert, leaf.key).await else {
        return println!("the binaries of Postgres know no TLS");
    };
    let url = |host: &str, mode: &str| {
        format!(
            "postgres://postgres@{host}:{}/postgres?sslmode={mode}",
            server.port()
        )
    };
    let (ours, theirs) = (
        folder.write("ca.pem", &ca.pem()),
        folder.write("stranger.pem", &stranger.pem()),
    );

    for mode in ["require", "verify-ca", "verify-full", "prefer"] {
        let mut conn = schema::connect(&url("localhost", mode), Some(&ours))
            .await
            .unwrap();
        let statement =
            Sql::<Bool>::new("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
        let is_encrypted: bool = statement.get_result(&mut conn).await.unwrap();
        assert!(is_encrypted, "{mode}");
    }
    for (host, ca) in [
        ("localhost", None),
        ("localhost", Some(&theirs)),
        ("127.0.0.1", Some(&ours)),
    ] {
        let refused = schema::connect(&url(host, "require"), ca.map(PathBuf::as_path))
            .await
            .err();
        let text = refused
            .expect("a stranger's certificate is refused")
            .to_string();
        assert!(text.contains("certificate"), "{host}: {text}");
    }
    schema::connect(&url("127.0.0.1", "disable"), None)
        .await
        .unwrap();
    drop(tokio::task::spawn_blocking(move || drop(server)).await);
}
