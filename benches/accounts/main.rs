//! Accounts and mail: what a password costs, what it tells by the time it takes, whom hashing keeps
//! waiting, and how fast a code comes. See `benches/README.md`.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the other benches ask for more")]
mod common;

mod callers;
mod logins;
mod mailbox;
mod mails;
mod meter;
mod people;
mod reads;
mod report;
mod service;

use std::process::ExitCode;

use clap::Parser;
use user_service::store::schema;

use common::{
    database::{self, Counter},
    folder::Folder,
};
use mailbox::Mailbox;
use meter::Meter;
use report::Table;
use service::{Client, Service};

/// Measures accounts and mail; fails where an aim is missed.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured: all of it, or one part.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What the time of a wrong password tells.
    Times,
    /// Logins a second.
    Logins,
    /// Reading while others hash.
    BatchLoader,
    /// Codes, mails and confirmations.
    Mails,
}

/// All that takes part.
struct Bench {
    client: Client,
    mailbox: Mailbox,
    meter: Meter,
    table: Table,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // `cargo test --benches` would run it too, which is nothing that a test should wait for.
    if !arguments.bench {
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::open(None, "accounts")?;
    let postgres = database::start(&folder.path)?;
    let url = postgres.url(database::DATABASE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let missed = runtime.block_on(async {
        schema::migrate(&url, None).await?;
        let mailbox = Mailbox::open().await?;
        let service = Service::start(&url, mailbox.address)?;
        let client = service.client().await?;
        people::move_in(&client).await?;
        let meter = Meter::new(service.pid(), postgres.pid(), Counter::new(&url).await?);
        let mut bench = Bench {
            client,
            mailbox,
            meter,
            table: Table::default(),
        };
        bench.run(arguments.part).await?;
        anyhow::Ok(bench.table.missed())
    })?;
    Ok(if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Bench {
    async fn run(&mut self, part: Option<Part>) -> anyhow::Result<()> {
        let is_wanted = |asked| part.is_none_or(|part| part == asked);
        if is_wanted(Part::Times) {
            logins::compare_times(self).await?;
        }
        if is_wanted(Part::Logins) {
            logins::count(self).await?;
        }
        if is_wanted(Part::BatchLoader) {
            reads::compare(self).await?;
        }
        if is_wanted(Part::Mails) {
            mails::measure(self).await?;
        }
        Ok(())
    }
}
