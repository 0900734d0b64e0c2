//! What those who run the service see and do: health, the operations port, stopping.

use std::{process::Command, time::Instant};

use diesel_async::SimpleAsyncConnection;
use serde_json::{Value, json};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use user_service::store::schema;

use crate::support::{
    TestDatabase, person,
    serve::{Serve, get, keys},
    server_url,
};

async fn execute(url: &str, statement: &str) {
    schema::connect(url, None)
        .await
        .unwrap()
        .batch_execute(statement)
        .await
        .unwrap();
}

/// Takes the database away, as if it were gone.
async fn take_away(database: &TestDatabase) {
    let (name, url) = (database.name(), server_url());
    execute(
        url,
        &format!("alter database {name} allow_connections false"),
    )
    .await;
    execute(
        url,
        &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"),
    )
    .await;
}

async fn give_back(database: &TestDatabase) {
    execute(
        server_url(),
        &format!("alter database {} allow_connections true", database.name()),
    )
    .await;
}

/// The status of a path of the operations port.
async fn status(serve: &Serve, path: &str) -> u16 {
    get(serve.operations().await, path, &[]).await.0
}

#[tokio::test]
async fn p53_health_is_lost_after_three_pings_and_back_after_one() {
    let database = TestDatabase::new().await;
    let serve = Serve::start(&database);
    serve.wait_for(Serving).await;
    assert_eq!(
        (
            status(&serve, "/livez").await,
            status(&serve, "/readyz").await
        ),
        (200, 200)
    );

    take_away(&database).await;
    serve.wait_for(NotServing).await;
    assert_eq!(
        (
            status(&serve, "/livez").await,
            status(&serve, "/readyz").await
        ),
        (200, 503)
    );
    // Lines are written a moment after what they tell of, in order.
    serve
        .logged(|line| line["message"] == "health status changed" && line["serving"] == false)
        .await;
    let failed = serve
        .log()
        .iter()
        .filter(|line| line.contains("database ping failed"))
        .count();
    give_back(&database).await;
    serve.wait_for(Serving).await;

    assert_eq!(failed, 3);
    assert_eq!(status(&serve, "/readyz").await, 200);
    assert_eq!(status(&serve, "/").await, 404);
}

#[tokio::test]
async fn p53_it_starts_while_the_database_is_away() {
    let database = TestDatabase::new().await;
    take_away(&database).await;
    let serve = Serve::start(&database);
    assert_eq!(
        (
            status(&serve, "/livez").await,
            status(&serve, "/readyz").await
        ),
        (200, 503)
    );

    give_back(&database).await;
    serve.wait_for(Serving).await;

    serve.client().await.create_named("Ann").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p53_it_serves_once_the_tables_are_there() {
    let database = TestDatabase::empty().await;
    let serve = Serve::start(&database);
    serve
        .logged(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains("user-service migrate"))
        })
        .await;
    assert_eq!(status(&serve, "/readyz").await, 503);

    schema::migrate(&database.url(), None).await.unwrap();

    serve.wait_for(Serving).await;
}

#[tokio::test]
async fn p59_migrate_warns_of_a_field_whose_name_is_reserved_by_now() {
    const FIELDS: &str = "insert into field_definitions (name, kind, created_at, changed_at) values \
        ('last_login_at', 'date', now(), now()), ('level', 'integer', now(), now())";
    let database = TestDatabase::new().await;
    execute(&database.url(), FIELDS).await;

    let mut migrate = Command::new(env!("CARGO_BIN_EXE_user-service"));
    migrate
        .args(["migrate", "--json"])
        .env("USER_SERVICE__DATABASE__URL", database.url());
    let output = migrate
        .env("USER_SERVICE__SECRETS__KEYS", keys())
        .output()
        .unwrap();

    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["migrated"], json!([]));
    let warnings: Vec<&str> = told["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("`last_login_at`"), "{warnings:?}");
}

#[tokio::test]
async fn p59_a_newer_schema_is_served_only_where_it_says_that_it_is_safe() {
    const UNKNOWN: &str =
        "insert into __diesel_schema_migrations (version) values ('99991231000000')";
    const SAFE: &str = "insert into safe_migrations values ('99991231000000', '20261124000600')";
    const UNSAFE: &str = "update safe_migrations set oldest_binary = '99991230000000'";
    let database = TestDatabase::new().await;
    let url = database.url();
    let running = Serve::start(&database);
    running.wait_for(Serving).await;

    execute(&url, UNKNOWN).await;
    running.wait_for(NotServing).await;
    let mut refused = Serve::start(&database);
    assert_eq!(refused.ended().await.code(), Some(1));
    assert!(
        refused
            .log()
            .iter()
            .any(|line| line.contains("aren't marked safe for this binary")),
        "{:?}",
        refused.log()
    );
    execute(&url, SAFE).await;
    running.wait_for(Serving).await;
    let started = Serve::start(&database);
    started.wait_for(Serving).await;
    execute(&url, UNSAFE).await;

    running.wait_for(NotServing).await;
    started.wait_for(NotServing).await;
}

#[tokio::test]
async fn p54_a_signal_drains_and_a_second_one_stops_at_once() {
    let database = TestDatabase::new().await;
    let (mut patient, mut hasty) = (Serve::start(&database), Serve::start(&database));
    patient.wait_for(Serving).await;
    hasty.wait_for(Serving).await;
    let began = Instant::now();

    patient.signal("TERM");
    hasty.signal("INT");
    patient.wait_for(NotServing).await;
    hasty.wait_for(NotServing).await;
    // A new connection is still taken.
    patient.client().await.create_named("Ann").await;
    hasty.signal("TERM");
    let hasty = hasty.ended().await;
    let at_once = began.elapsed();
    assert_eq!(
        (
            status(&patient, "/livez").await,
            status(&patient, "/readyz").await
        ),
        (200, 503)
    );
    let patient = patient.ended().await;

    assert_eq!(hasty.code(), Some(1));
    assert!(at_once.as_secs() < 4, "{at_once:?}");
    assert_eq!(patient.code(), Some(0));
    assert!(began.elapsed().as_secs() >= 5);
}

#[tokio::test]
async fn p57_metrics_are_those_of_the_runbook() {
    let database = TestDatabase::new().await;
    let serve = Serve::start(&database);
    serve.wait_for(Serving).await;
    let mut client = serve.client().await;
    let mut ann = person("Ann");
    ann.password = "violet-lantern-93".to_owned();
    let ann = client.create(ann).await.unwrap();
    client.get(ann.user_id).await.unwrap();
    assert_eq!(
        client.get(ann.user_id + 1).await.unwrap_err().code(),
        Code::NotFound
    );
    let path = format!("/v1/users/{}/profile", ann.user_id);
    let bearer = format!("Bearer {}", crate::support::serve::TOKEN);
    assert_eq!(
        get(serve.rest().await, &path, &[("authorization", &bearer)])
            .await
            .0,
        200
    );
    assert_eq!(get(serve.rest().await, &path, &[]).await.0, 401);

    let (_, text) = get(serve.operations().await, "/metrics", &[]).await;

    let runbook = std::fs::read_to_string("deploy/README.md").unwrap();
    let table = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let named: Vec<&str> = table
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("rpc_") || name.starts_with("user_"))
        .collect();
    assert_eq!(named.len(), 17);
    for name in named {
        assert!(
            text.contains(&format!("# TYPE {name} ")),
            "{name} is missing in\n{text}"
        );
    }
    let calls = |system: &str, code: &str| {
        format!(
            "rpc_server_call_duration_seconds_count{{rpc_method=\"userservice.v1.UserService/GetProfile\",\
             rpc_response_status_code=\"{code}\",rpc_system_name=\"{system}\"}}"
        )
    };
    let expected = [
        format!("{} 1", calls("grpc", "OK")),
        format!("{} 1", calls("http", "OK")),
        format!("{} 1", calls("grpc", "NOT_FOUND")),
        format!("{} 1", calls("http", "UNAUTHENTICATED")),
        "user_service_serving 1".to_owned(),
        "user_service_codes_total{outcome=\"sent\"} 0".to_owned(),
        "user_service_limiter_hits_total{limit=\"password_wrong\"} 0".to_owned(),
        "user_service_hash_wait_seconds_count ".to_owned(),
        "user_service_outbox_overdue 0".to_owned(),
        "user_service_outbox_dead_letters 0".to_owned(),
    ];
    for line in expected {
        assert!(
            text.lines().any(|found| found.starts_with(&line)),
            "{line} is missing in\n{text}"
        );
    }
    let states = ["used", "idle", "unopened"].map(|state| {
        let prefix = format!("user_service_db_pool_connections{{state=\"{state}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("{prefix} is missing"))
            .parse::<u32>()
            .unwrap()
    });
    assert_eq!(states.iter().sum::<u32>(), 16);
    promtool_passes(&text);
}

/// Has promtool look at it, where it is to be had.
fn promtool_passes(text: &str) {
    use std::{io::Write, process::Stdio};

    let found = Command::new("bash").arg(".ci/promtool").output().unwrap();
    let promtool = String::from_utf8(found.stdout).unwrap();
    if promtool.trim().is_empty() {
        eprintln!(
            "promtool is not here: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        return;
    }
    let mut check = Command::new(promtool.trim());
    check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let said = check.wait_with_output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert_eq!(said, "", "promtool finds fault");
}
