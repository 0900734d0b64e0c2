//! Restarts of the service itself: what a client and an import notice of them.

use std::{net::SocketAddr, process::Stdio};

use diesel::sql_types::BigInt;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    process::{Child, Command},
    sync::mpsc::Sender,
    task::JoinHandle,
};
use tonic::transport::{Channel, Endpoint, channel::Change};
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{NotServing, Serving},
    health_client::HealthClient,
};
use user_service::store::{schema, sql::Sql};

use crate::support::{
    Client, TestDatabase, eventually,
    folder::Folder,
    load::Load,
    postgres::{OwnPostgres, Stop},
    serve::{Serve, TOKEN, keys},
    statements::until_waiting,
};

/// Lets a balancing channel know of a replica for as long as its health says SERVING, as readiness
/// and a headless Service do.
async fn announce(
    replica: &Serve,
    balancer: Sender<Change<SocketAddr, Endpoint>>,
) -> JoinHandle<()> {
    let address = replica.grpc().await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    replica.wait_for(Serving).await;
    balancer
        .send(Change::Insert(address, endpoint.clone()))
        .await
        .unwrap();
    tokio::spawn(async move {
        let mut health = HealthClient::new(endpoint.connect_lazy());
        let request = HealthCheckRequest {
            service: "userservice.v1.UserService".to_owned(),
        };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        while let Ok(Some(told)) = watch.message().await
            && told.status() == Serving
        {}
        // The channel is gone where the test is over.
        balancer
            .send(Change::Remove(address))
            .await
            .unwrap_or_default();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn p54_a_rolling_restart_fails_no_call() {
    let database = TestDatabase::new().await;
    let (channel, balancer) = Channel::balance_channel(16);
    let mut replicas = Vec::new();
    for replica in [0; 3].map(|_| Serve::start_for_load(&database.url())) {
        let watcher = announce(&replica, balancer.clone()).await;
        replicas.push((replica, watcher));
    }
    let load = Load::start(Client::over(channel, Some(TOKEN)), 16).await;
    load.more(100).await;

    for (mut old, watcher) in replicas.split_off(0) {
        let new = Serve::start_for_load(&database.url());
        let new_watcher = announce(&new, balancer.clone()).await;
        old.signal("TERM");
        old.wait_for(NotServing).await;
        watcher.await.unwrap();
        assert_eq!(old.ended().await.code(), Some(0));
        load.more(100).await;
        replicas.push((new, new_watcher));
    }

    let failures = load.stop().await;
    assert!(
        failures.is_empty(),
        "{} failed, the first: {:?}",
        failures.len(),
        failures[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn p54_a_call_in_flight_when_the_drain_is_over_is_answered() {
    let database = TestDatabase::new().await;
    let mut serve = Serve::start_for_load(&database.url());
    serve.wait_for(Serving).await;
    let (address, mut client) = (serve.grpc().await, serve.client().await);
    let ann = client.create_named("Ann").await.user_id;
    let mut holder = database.connect().await;
    holder
        .batch_execute(&format!(
            "begin; update users set version = version where user_id = {ann}"
        ))
        .await
        .unwrap();
    let call = tokio::spawn(async move { client.rename(ann, "Anna").await });
    let mut watch = database.connect().await;
    until_waiting(&mut watch, 1).await;

    // One that says nothing is closed when the drain is over.
    let mut idle = TcpStream::connect(serve.rest().await).await.unwrap();
    serve.signal("TERM");
    idle.read_to_end(&mut Vec::new()).await.unwrap_or_default();
    eventually("a port that is closed", async || {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    let is_running = serve.is_running();
    holder.batch_execute("commit").await.unwrap();

    assert!(is_running);
    assert_eq!(call.await.unwrap().unwrap().nickname, "Anna");
    assert_eq!(serve.ended().await.code(), Some(0));
}

/// Lines of so many users, each with a username of its own.
fn users(folder: &Folder, count: usize) -> String {
    let line = |number| format!("{{\"account\":{{\"username\":\"import.{number:05}\"}}}}\n");
    folder
        .write("users.jsonl", &(0..count).map(line).collect::<String>())
        .to_str()
        .unwrap()
        .to_owned()
}

/// A running import.
struct Import(Child);

impl Import {
    fn start(url: &str, file: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_user-service"));
        command.args(["--json", "user", "import", file]);
        command
            .env("USER_SERVICE__DATABASE__URL", url)
            .env("USER_SERVICE__SECRETS__KEYS", keys());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.kill_on_drop(true).spawn().unwrap())
    }

    async fn ended(&mut self) -> Option<i32> {
        self.0.wait().await.unwrap().code()
    }
}

async fn count(url: &str) -> i64 {
    let mut conn = schema::connect(url, None).await.unwrap();
    Sql::<BigInt>::new("select count(*) from users")
        .get_result(&mut conn)
        .await
        .unwrap()
}

async fn some_are_there(url: &str) {
    eventually("the first of the users", async || {
        (count(url).await > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p54_an_import_goes_on_while_its_replica_and_its_database_restart() {
    let (mut postgres, folder) = (OwnPostgres::new().await, Folder::new());
    let (url, file) = (postgres.url(), users(&folder, 5000));
    let mut replica = Serve::start_for_load(&url);
    replica.wait_for(Serving).await;
    let mut import = Import::start(&url, &file);
    some_are_there(&url).await;

    replica.signal("TERM");
    postgres.stop(Stop::Immediate).await;
    postgres.start().await;
    let went_on = import.0.try_wait().unwrap().is_none();
    let ended = (import.ended().await, replica.ended().await.code());

    assert!(went_on, "the import was over before the database was away");
    assert_eq!(ended, (Some(0), Some(0)));
    assert_eq!(count(&url).await, 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn p54_an_import_that_was_killed_and_started_again_makes_every_user_once() {
    let (database, folder) = (TestDatabase::new().await, Folder::new());
    let (url, file) = (database.url(), users(&folder, 5000));
    let mut killed = Import::start(&url, &file);
    some_are_there(&url).await;

    killed.0.kill().await.unwrap();
    let made = count(&url).await;
    let again = Import::start(&url, &file).ended().await;

    assert!((1..5000).contains(&made), "{made}");
    assert_eq!(again, Some(0));
    assert_eq!(count(&url).await, 5000);
}
