//! `user-service dev`: everything on one machine, for trying it and for developing against it.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::TimeDelta;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{demo_data, postgres, seed_data};
use crate::{
    api::Api,
    app::{self, App},
    cli::{
        output::Output,
        serve::{bind, limits},
    },
    clock::{Clock, random_bytes},
    config::{self, Config, Secret, SecretKey},
    domain::caller::Caller,
    model::{scope::Scope, token::Subject},
    net,
    server::{self, Ports, Signals},
    store::{
        schema::{self, DevMarker},
        sql::Sql,
    },
};

const DATABASE: &str = "user_service_dev";
/// The name of the service that the printed token speaks for.
const SERVICE: &str = "dev";

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where gRPC listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    grpc_addr: SocketAddr,
    /// Where the REST gateway listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    rest_addr: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    ops_addr: SocketAddr,
    /// What the printed service token may do; without it, everything.
    #[arg(long, value_delimiter = ',', value_name = "SCOPE,…")]
    service_token_scopes: Option<Vec<String>>,
    /// Adds generated users until there are this many. A million takes a few minutes, once.
    #[arg(
        long,
        default_value_t = 0,
        value_name = "NUMBER",
        hide_default_value = true
    )]
    users: u64,
    /// Clears the data first.
    #[arg(long)]
    reset: bool,
}

/// Finds the configuration that a `dev` in this folder wrote for other commands. Gives none where
/// variables name the database.
pub(crate) fn written_config(folder: &Path) -> Option<PathBuf> {
    let file = config_file(folder);
    (!config::is_set("database.url") && file.exists()).then_some(file)
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("user-service.toml")
}

/// Starts everything, and stops everything again.
pub(crate) async fn run(dev: Dev, folder: &Path, output: &Output) -> anyhow::Result<()> {
    let scopes = read_scopes(dev.service_token_scopes.as_deref())?;
    let Some(_lock) = postgres::lock(folder)? else {
        let holder = postgres::lock_holder(folder)
            .map(|pid| format!(" (process {pid})"))
            .unwrap_or_default();
        bail!(
            "another dev{holder} is already running in {}: stop it, or choose a different folder with --data-dir",
            folder.display()
        );
    };
    net::files::raise();
    let grpc = bind(dev.grpc_addr).await?;
    let rest = bind(dev.rest_addr).await?;
    let operations = bind(dev.ops_addr).await?;
    let mut signals = Signals::listen()?;
    let addresses = Addresses {
        grpc: grpc.local_addr()?,
        rest: rest.local_addr()?,
        operations: operations.local_addr()?,
    };
    let database = database(folder, dev.reset);
    tokio::pin!(database);
    let database = tokio::select! {
        database = &mut database => database?,
        // A server that is starting has to be there before it can be stopped, which its drop does.
        () = signals.next() => return database.await.map(drop),
    };
    let started = tokio::select! {
        started = start(folder, database, &dev, &scopes, &addresses, *output) => started?,
        () = signals.next() => return Ok(()),
    };
    announce(&started, &addresses, *output)?;
    let rest = Some((rest, started.config.rest.clone()));
    let grpc = (grpc, started.config.grpc.clone());
    let operations = Some((operations, started.config.operations.clone()));
    let ports = Ports {
        grpc,
        rest,
        operations,
        limits: limits(&started.config),
    };
    let done =
        server::serve_until_signal(started.app.clone(), ports, Duration::ZERO, &mut signals).await;
    if let Some(mut postgres) = started.postgres {
        tokio::task::spawn_blocking(move || postgres.stop())
            .await
            .context("failed to stop Postgres")??;
    }
    done
}

struct Started {
    app: App,
    config: Config,
    tokens: Tokens,
    /// `None` if the database belongs to something else.
    postgres: Option<postgres::Server>,
}

/// The secrets that were printed, and are printed again.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Tokens {
    service: String,
    user: String,
    user_id: i64,
}

async fn start(
    folder: &Path,
    (url, postgres): (String, Option<postgres::Server>),
    dev: &Dev,
    scopes: &[Scope],
    addresses: &Addresses,
    output: Output,
) -> anyhow::Result<Started> {
    prepare(&url, dev.reset, postgres.is_some()).await?;
    let config = configure(folder, url, addresses)?;
    let app = app::build(&config, Clock::System)?;
    let mut conn =
        schema::connect(&config.database.url.0, config.database.ca_file.as_deref()).await?;
    let mark = schema::mark(&mut conn)
        .await?
        .as_deref()
        .and_then(DevMarker::parse);
    if !matches!(mark, Some(DevMarker::Filled { .. })) {
        demo_data::fill(&app.api).await?;
        schema::set_mark(&mut conn, DevMarker::Filled { users: 0 }).await?;
    }
    if dev.users > 0 {
        generate(&config.database, dev.users, output).await?;
    }
    let tokens = tokens(&app.api, folder, scopes).await?;
    Ok(Started {
        app,
        config,
        tokens,
        postgres,
    })
}

/// Generates seed data, and shows the progress.
async fn generate(database: &config::Database, users: u64, output: Output) -> anyhow::Result<()> {
    let progress = if output.is_json() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(users)
    };
    let progress = progress.with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} users {eta}",
    )?);
    let told = |made| progress.set_position(made);
    seed_data::fill(
        &database.url.0,
        database.ca_file.as_deref(),
        users,
        Clock::System.now(),
        told,
    )
    .await?;
    progress.finish_and_clear();
    Ok(())
}

/// The database of `DATABASE_URL`, else one on a server of our own.
async fn database(
    folder: &Path,
    reset: bool,
) -> anyhow::Result<(String, Option<postgres::Server>)> {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Ok((url, None));
    }
    let folder = folder.to_owned();
    let server = tokio::task::spawn_blocking(move || {
        postgres::Server::start(&postgres::Settings {
            folder: &folder,
            extra: &[],
        })
    });
    let server = server.await.context("failed to start Postgres")??;
    let mut conn = schema::connect(&server.url("postgres"), None).await?;
    if reset {
        // Whatever binary migrated it.
        let drop = Sql::<()>::new("drop database if exists user_service_dev with (force)");
        diesel_async::RunQueryDsl::execute(drop, &mut conn).await?;
    }
    let exists = Sql::<diesel::sql_types::Bool>::new(
        "select exists (select 1 from pg_database where datname = ",
    )
    .bind(DATABASE)
    .push(")");
    if !diesel_async::RunQueryDsl::get_result::<bool>(exists, &mut conn).await? {
        diesel_async::RunQueryDsl::execute(
            Sql::<()>::new("create database user_service_dev"),
            &mut conn,
        )
        .await?;
    }
    let url = server.url(DATABASE);
    Ok((url, Some(server)))
}

/// Migrates. A database that someone else made is migrated never, and cleared never.
async fn prepare(url: &str, reset: bool, is_ours: bool) -> anyhow::Result<()> {
    let mut conn = schema::connect(url, None).await?;
    let mark = schema::mark(&mut conn)
        .await?
        .as_deref()
        .and_then(DevMarker::parse);
    if mark.is_none() && !is_ours && !schema::is_empty(&mut conn).await? {
        bail!(
            "the database in DATABASE_URL wasn't created by dev, so it is left unchanged; use an empty database"
        );
    }
    if reset && !is_ours {
        schema::revert(url, None)
            .await
            .context("the database can't be reset: empty it manually")?;
    }
    schema::migrate(url, None).await?;
    if reset || mark.is_none() {
        schema::set_mark(&mut conn, DevMarker::Migrated).await?;
    }
    Ok(())
}

/// Writes the configuration that other commands in this folder read; its key is made once.
fn configure(folder: &Path, url: String, addresses: &Addresses) -> anyhow::Result<Config> {
    let file = config_file(folder);
    let earlier = fs::read_to_string(&file)
        .ok()
        .and_then(|text| toml::from_str::<Config>(&text).ok());
    let mut config = Config {
        secrets: earlier.unwrap_or_default().secrets,
        ..Config::default()
    };
    if config.secrets.keys.is_empty() {
        config.secrets.keys.push(SecretKey {
            id: "dev".to_owned(),
            key: Secret(config::key_text(random_bytes())),
        });
    }
    config.database.url = Secret(url.clone());
    config.grpc.address = addresses.grpc;
    config.rest = config.rest.with_legacy_flavors();
    config.rest.address = Some(addresses.rest);
    config.operations.address = Some(addresses.operations);
    // There is one replica only, so no other has to be notified of a change.
    config.fields.wait_seconds = 2;
    if !config::is_set("mail.smtp.host") {
        let mails = std::path::absolute(folder.join("mails"))
            .context("the folder of the data has no path")?;
        config.mail.folder = Some(mails);
    }
    config.sms.log = !config::is_set("sms.url");
    write_private(
        &file,
        &toml::to_string(&config).context("the configuration cannot be written")?,
    )?;
    let mut config = config::load(Some(&file))?;
    config.database.url = Secret(url);
    Ok(config)
}

/// The tokens of last time where they are still good, else new ones.
async fn tokens(api: &Api, folder: &Path, scopes: &[Scope]) -> anyhow::Result<Tokens> {
    let file = folder.join("tokens.json");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut tokens: Tokens = serde_json::from_str(&text).unwrap_or_default();
    let is_good = |caller: &Arc<Caller>| caller.scopes == scopes;
    if !api
        .verify(&tokens.service)
        .await
        .as_ref()
        .is_ok_and(is_good)
    {
        let service = Subject::Service(SERVICE.to_owned());
        // Longer than what it issues, which would end with it.
        tokens.service = api
            .tokens()
            .issue(&service, scopes, TimeDelta::days(2 * 365))
            .await?
            .1;
    }
    if api.verify(&tokens.user).await.is_err() {
        tokens.user_id = demo_data::USER_ID;
        let user = Subject::User(tokens.user_id);
        match api.tokens().issue(&user, &[], TimeDelta::days(30)).await {
            Ok((_, secret)) => tokens.user = secret,
            Err(error) => {
                tracing::warn!(%error, "the demo user doesn't exist; no user token issued")
            }
        }
    }
    write_private(&file, &serde_json::to_string(&tokens)?)?;
    Ok(tokens)
}

fn read_scopes(names: Option<&[String]>) -> anyhow::Result<Vec<Scope>> {
    let Some(names) = names else {
        return Ok(Scope::ALL.to_vec());
    };
    let unknown: Vec<&String> = names
        .iter()
        .filter(|name| Scope::parse(name).is_none())
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        bail!(
            "unknown scopes {unknown:?}; valid scopes: {}",
            known.join(", ")
        );
    }
    Ok(Scope::ALL
        .iter()
        .copied()
        .filter(|scope| names.iter().any(|name| name == scope.as_str()))
        .collect())
}

/// Writes a file that its owner alone can read.
fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut options = fs::File::options();
        options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(file)?
            .write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

/// Where the ports listen.
struct Addresses {
    grpc: SocketAddr,
    rest: SocketAddr,
    operations: SocketAddr,
}

fn announce(started: &Started, addresses: &Addresses, output: Output) -> io::Result<()> {
    let Addresses {
        grpc,
        rest,
        operations,
    } = addresses;
    let Tokens {
        service,
        user,
        user_id,
    } = &started.tokens;
    if output.is_json() {
        let ready = json!({
            "grpc": grpc.to_string(),
            "rest": format!("http://{rest}"),
            "ops": format!("http://{operations}"),
            "service_token": service,
            "user_token": user,
            "user_id": user_id,
            "database_url": started.config.database.url.0,
            "mail_dir": started.config.mail.folder,
        });
        return output.text(&format!("{ready}\n"));
    }
    let text = format!(
        "\ngRPC           {grpc}
REST           http://{rest}   (try it at http://{rest}/docs)
operations     http://{operations}   (/livez, /readyz, /metrics)
database       {url}
mails          {mails}   (text messages: a line on stderr each)
service token  {service}
user token     {user}   (user {user_id})

grpcurl -plaintext -H 'authorization: Bearer {service}' -d '{{\"user_id\": {user_id}}}' {grpc} userservice.v1.UserService/GetProfile
buf curl --protocol grpc --http2-prior-knowledge -H 'authorization: Bearer {service}' -d '{{\"userId\": {user_id}}}' http://{grpc}/userservice.v1.UserService/GetProfile
curl -H 'authorization: Bearer {service}' http://{rest}/v1/users/{user_id}/profile

Ctrl-C stops everything.
",
        url = config::without_password(&started.config.database.url.0),
        mails = started.config.mail.folder.as_deref().unwrap_or(Path::new("")).display(),
    );
    output.text(&text)
}
