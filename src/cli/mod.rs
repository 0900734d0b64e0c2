//! The command line: a thin transport over the same use cases as gRPC, with an operator as the
//! caller.

mod account;
mod field;
mod import;
mod mail;
mod outbox;
pub(crate) mod output;
pub(crate) mod serve;
mod token;
mod user;

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::{Args, Parser, Subcommand};

use crate::{
    api::Api,
    app,
    clock::Clock,
    config,
    config::Config,
    server,
    store::schema,
    telemetry::{self, Role},
    threads,
};
use output::Output;

#[cfg(feature = "dev")]
use crate::dev::run;

/// The profiles and login accounts of an application's users, over gRPC and REST, on Postgres.
#[derive(Debug, Parser)]
#[command(name = "user-service", version, arg_required_else_help = true)]
struct Cli {
    /// TOML file of the configuration; variables `USER_SERVICE__SECTION__KEY` win over it.
    #[arg(long, global = true, env = "USER_SERVICE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder of `dev`. Without a configuration file, commands use the service in this folder.
    #[cfg(feature = "dev")]
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Prints JSON for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything on this machine: Postgres, demo data, and the service.
    #[cfg(feature = "dev")]
    Dev(run::Dev),
    /// Runs the service with its configuration.
    Serve,
    /// Applies the database migrations of this binary.
    Migrate(Migrate),
    /// Creates, shows, erases, and imports users.
    #[command(subcommand)]
    User(user::Command),
    /// Creates and lists custom fields.
    #[command(subcommand)]
    Field(field::Command),
    /// Issues, shows and revokes tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Changes how users log in.
    #[command(subcommand)]
    Account(account::Command),
    /// Lists and retries failed messages.
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Shows what mails look like.
    #[command(subcommand)]
    Mail(mail::Command),
    /// Checks or prints the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
struct Migrate {
    /// Also distributes the tables over the workers of a Postgres with the extension Citus. Only
    /// the first time: later migrations do it by themselves.
    #[arg(long)]
    distribute: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reports every error of the configuration at once, or warns of risky settings.
    Check,
    /// Prints the effective configuration, with secrets masked.
    Print,
}

impl Command {
    fn role(&self) -> Role {
        match self {
            #[cfg(feature = "dev")]
            Command::Dev(_) => Role::Service,
            Command::Serve => Role::Service,
            _ => Role::Command,
        }
    }
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let runtime = match threads::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            return output.fail(&anyhow::Error::new(error).context("cannot start the runtime"));
        }
    };
    let telemetry = {
        let _entered = runtime.enter();
        telemetry::start(
            &config::telemetry(cli.config.as_deref()),
            cli.command.role(),
        )
    };
    let telemetry = match telemetry {
        Ok(telemetry) => telemetry,
        Err(error) => return output.fail(&error.context("cannot start telemetry")),
    };
    let done = runtime.block_on(execute(cli, &output));
    // Before the runtime goes, for it carries the last of it away.
    drop(telemetry);
    // What a stopped service left running, for example a call past its time, ends here.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| output.fail(&error))
}

async fn execute(cli: Cli, output: &Output) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        config: cli.config,
        #[cfg(feature = "dev")]
        data_dir: cli
            .data_dir
            .unwrap_or_else(crate::dev::postgres::default_folder),
    };
    match cli.command {
        #[cfg(feature = "dev")]
        Command::Dev(dev) => run::run(dev, &settings.data_dir, output).await?,
        Command::Serve => serve::run(settings.config.as_deref()).await?,
        Command::Migrate(Migrate { distribute }) => {
            let database = settings.load()?.database;
            let (url, ca) = (&database.url.0, database.ca_file.as_deref());
            let migrated = schema::migrate_and_distribute(url, ca, distribute).await?;
            output.migrated(
                &migrated,
                &field::warnings(&mut schema::connect(url, ca).await?).await?,
            )?;
        }
        Command::User(command) => return user::run(command, &settings.api()?, output).await,
        Command::Field(command) => field::run(command, &settings.api()?, output).await?,
        Command::Token(command) => token::run(command, &settings.api()?, output).await?,
        Command::Account(command) => account::run(command, &settings.api()?, output).await?,
        Command::Outbox(command) => outbox::run(command, &settings.api()?, output).await?,
        Command::Mail(command) => mail::run(command, output)?,
        Command::Config(ConfigCommand::Check) => {
            let warnings = settings.check().await?;
            let lines: Vec<String> = warnings
                .iter()
                .map(|warning| format!("warning: {warning}\n"))
                .collect();
            let sentence = format!("{}the configuration is valid", lines.concat());
            output.line(
                &sentence,
                &serde_json::json!({ "ok": true, "warnings": warnings }),
            )?;
        }
        Command::Config(ConfigCommand::Print) => {
            output.text(&config::printed(&settings.load()?)?)?
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a command finds its service.
struct Settings {
    config: Option<PathBuf>,
    #[cfg(feature = "dev")]
    data_dir: PathBuf,
}

impl Settings {
    /// The file that was named, else what `dev` wrote into its folder; none where variables name
    /// the database.
    fn file(&self) -> Option<PathBuf> {
        #[cfg(feature = "dev")]
        let of_dev = || run::written_config(&self.data_dir);
        #[cfg(not(feature = "dev"))]
        let of_dev = || None;
        self.config.clone().or_else(of_dev)
    }

    fn load(&self) -> anyhow::Result<Config> {
        config::load(self.file().as_deref())
    }

    /// Reports all errors of the configuration; if there are none, those of the files that it
    /// names. Returns what is risky, but no error.
    async fn check(&self) -> anyhow::Result<Vec<String>> {
        let (config, mut violations) = config::inspect(self.file().as_deref())?;
        let warnings = config::warnings(&config);
        if violations.is_empty() {
            let rest_tls = config
                .rest
                .tls
                .clone()
                .filter(|_| config.rest.address.is_some());
            let tried = [
                app::build(&config, Clock::System).err(),
                server::acceptor("grpc.tls", config.grpc.tls, &[])
                    .await
                    .err(),
                server::acceptor("rest.tls", rest_tls, &[]).await.err(),
            ];
            violations.extend(
                tried
                    .into_iter()
                    .flatten()
                    .map(|error| format!("{error:#}")),
            );
        }
        if violations.is_empty() {
            Ok(warnings)
        } else {
            Err(config::report(violations))
        }
    }

    fn api(&self) -> anyhow::Result<Api> {
        let file = self.file();
        if file.is_none() && !config::is_set("database.url") {
            if cfg!(feature = "dev") {
                bail!("no configuration found: run `dev` first, or pass --config");
            }
            bail!(
                "there is no configuration: name one with --config, or set USER_SERVICE__DATABASE__URL"
            );
        }
        Ok(app::build(&config::load(file.as_deref())?, Clock::System)?.api)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn commands_are_well_formed() {
        super::Cli::command().debug_assert();
    }
}
