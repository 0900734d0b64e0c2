//! One Postgres for the run, one migrated template, and a copy of it for each test.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use diesel_async::SimpleAsyncConnection;
use user_service::{dev::postgres, store::schema};

/// A database that goes with the test.
pub struct TestDatabase {
    name: String,
}

struct Cluster {
    url: String,
    /// Held for the run; absent where `DATABASE_URL` names a server of someone's.
    _owned: Option<(postgres::FolderLock, postgres::Server)>,
}

/// Names of ours begin with this, and the process's number follows: nothing else is ever dropped.
fn prefix() -> String {
    format!("user_service_test_{}_", std::process::id())
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = find_cluster();
        let template = format!("{}template", prefix());
        let url = with_database(&cluster.url, &template);
        // A runtime of its own: a migration blocks its thread, which the runtime of a test does not
        // allow.
        let admin = cluster.url.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                execute(&admin, &format!("create database {template}")).await;
                schema::migrate(&url, None)
                    .await
                    .expect("the migrations run");
            });
        })
        .join()
        .expect("the template is made");
        cluster
    })
}

fn find_cluster() -> Cluster {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Cluster { url, _owned: None };
    }
    let folders = (0..8).map(|number| postgres::default_folder().join(format!("tests-{number}")));
    let (folder, lock) = folders
        .filter_map(|folder| {
            postgres::lock(&folder)
                .expect("the folder can be locked")
                .map(|lock| (folder, lock))
        })
        .next()
        .expect("one of eight folders is free");
    let start = |extra| {
        postgres::Server::start(&postgres::Settings {
            folder: &folder,
            extra,
        })
    };
    // Where the binaries have what writes statements down, it must have room for those of all
    // tests: each has a database of its own, and so its own entry for each statement. Where there
    // is none left, the least used go.
    let counting = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("pg_stat_statements.max", "200000"),
    ];
    let mut server = start(&counting).or_else(|_| start(&[])).expect("Postgres");
    server.stop_at_exit().expect("a watcher");
    let url = server.url("postgres");
    // What a killed run left behind would fill the disk in the end.
    thread::spawn({
        let url = url.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(sweep(&url));
        }
    })
    .join()
    .expect("leftovers are swept");
    Cluster {
        url,
        _owned: Some((lock, server)),
    }
}

async fn sweep(url: &str) {
    use diesel_async::RunQueryDsl;
    use user_service::store::sql::Sql;

    let mut conn = schema::connect(url, None).await.expect("a connection");
    let statement = Sql::<diesel::sql_types::Text>::new(
        "select datname::text from pg_database where datname like 'user\\_service\\_test\\_%'",
    );
    let left: Vec<String> = statement
        .load(&mut conn)
        .await
        .expect("the list of databases");
    for name in left {
        execute(url, &format!("drop database if exists {name} with (force)")).await;
    }
}

/// The URL of the server's maintenance database.
pub fn server_url() -> &'static str {
    &cluster().url
}

async fn execute(url: &str, statement: &str) {
    let mut conn = schema::connect(url, None).await.expect("a connection");
    conn.batch_execute(statement).await.expect(statement);
}

fn with_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_path(name);
    url.to_string()
}

impl TestDatabase {
    /// A copy of the template.
    pub async fn new() -> Self {
        let database = Self {
            name: Self::next_name(),
        };
        let statement = format!(
            "create database {} template {}template strategy file_copy",
            database.name,
            prefix()
        );
        execute(server_url(), &statement).await;
        database
    }

    /// A database without any table.
    pub async fn empty() -> Self {
        let database = Self {
            name: Self::next_name(),
        };
        execute(server_url(), &format!("create database {}", database.name)).await;
        database
    }

    fn next_name() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        cluster();
        format!("{}{}", prefix(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// What the server calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn url(&self) -> String {
        with_database(server_url(), &self.name)
    }

    /// A connection of its own, beside the service's.
    pub async fn connect(&self) -> diesel_async::AsyncPgConnection {
        schema::connect(&self.url(), None)
            .await
            .expect("a connection")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        // On a thread of its own, for the test's runtime may be gone.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(execute(server_url(), &statement));
        });
        assert!(
            dropped.join().is_ok() || thread::panicking(),
            "the test's database cannot be dropped"
        );
    }
}
