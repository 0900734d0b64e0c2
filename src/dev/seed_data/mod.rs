//! Generated users for `dev` and for measuring: each is read by the same rules as a CreateUser, and
//! all are written by COPY.

mod fake_user;
mod names;
mod rng;

pub use fake_user::fake_user;

use std::{ops::Range, path::Path, sync::Arc};

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::{
    convert::{pb, user::new_user},
    dev::copy::{self, Rows},
    domain::fields::index_rows,
    model::{field::Fields, password::Lengths, username::UsernameRules},
    store::{
        connector::Connector,
        fields,
        schema::{self, DevMarker},
    },
};

/// Users of one transaction.
const BATCH: u64 = 20_000;
/// So many that each has its own telephone number.
const MOST: u64 = 1_000_000_000;

/// Generates users until there are `total`, and returns how many were created. What is created is
/// recorded with each transaction, so that one which is cut short goes on where it was.
///
/// # Errors
/// A database that `dev` did not fill, or values that users made by hand hold already.
pub async fn fill(
    url: &str,
    ca_file: Option<&Path>,
    total: u64,
    now: DateTime<Utc>,
    told: impl Fn(u64),
) -> anyhow::Result<u64> {
    if total >= MOST {
        bail!("at most {} users can be generated", MOST - 1);
    }
    let mut conn = schema::connect(url, ca_file).await?;
    let Some(DevMarker::Filled { users: there }) = schema::mark(&mut conn)
        .await?
        .as_deref()
        .and_then(DevMarker::parse)
    else {
        bail!("the database has no example users");
    };
    if there >= total {
        return Ok(0);
    }
    let known = Arc::new(Fields::new(
        fields::list(&mut conn).await?,
        fields::list_hidden(&mut conn).await?,
    ));
    let (mut client, connection) = Connector::new(ca_file)?
        .connect(url)
        .await
        .context("cannot reach the database")?;
    let driving = tokio::spawn(connection);
    let part = Part {
        first: there,
        total,
        now,
        fields: known,
    };
    let mut next = part.make(&client, there).await?;
    while let Some(making) = next {
        let (made, rows) = making.await.context("user generation failed")??;
        // The next are made while these are written.
        next = part.make(&client, made.end).await?;
        let transaction = client.transaction().await?;
        rows.send(&transaction)
            .await
            .context("the seed data can't be written")?;
        copy::set_mark(&transaction, DevMarker::Filled { users: made.end }).await?;
        transaction.commit().await?;
        told(made.end);
    }
    copy::settle(&client)
        .await
        .context("the seed data can't be analyzed")?;
    drop(client);
    driving
        .await
        .context("the database connection failed")?
        .context("the database connection failed")?;
    Ok(total - there)
}

/// The rows of new users, each with its id.
///
/// # Errors
/// A user who breaks a rule.
pub fn rows(
    users: impl Iterator<Item = (pb::CreateUserRequest, i64)>,
    fields: &Fields,
    now: DateTime<Utc>,
) -> anyhow::Result<Rows> {
    let mut rows = Rows::default();
    let usernames = UsernameRules::default();
    for (given, user_id) in users {
        let (mut new, _) =
            new_user(given, fields, &usernames, now, Lengths::default()).map_err(|error| {
                anyhow!(
                    "generated user {user_id} is invalid: {:?}",
                    error.violations()
                )
            })?;
        new.profile.user_id = user_id;
        let indexed = fields
            .iter()
            .map(|field| &**field)
            .filter(|field| field.index.is_maintained());
        let key = (user_id, new.profile.created_at);
        let values = index_rows(indexed, key, &new.profile.custom_fields.fields());
        let reservations = new
            .reservations
            .iter()
            .map(|reservation| (reservation.kind.as_str(), reservation.value.as_str()));
        rows.add(&new.profile, &new.account, reservations, &values);
    }
    Ok(rows)
}

type Made = anyhow::Result<(Range<u64>, Rows)>;

/// What one call adds.
struct Part {
    first: u64,
    total: u64,
    now: DateTime<Utc>,
    fields: Arc<Fields>,
}

impl Part {
    /// Begins to make the users from a number on; `None` where they are all there.
    async fn make(&self, client: &Client, from: u64) -> anyhow::Result<Option<JoinHandle<Made>>> {
        let numbers = from..self.total.min(from + BATCH);
        if numbers.is_empty() {
            return Ok(None);
        }
        let ids = copy::draw_ids(client, numbers.end - numbers.start).await?;
        let (first, whole, now, fields) = (
            self.first,
            self.total - self.first,
            self.now,
            self.fields.clone(),
        );
        Ok(Some(tokio::task::spawn_blocking(move || {
            let people = numbers.clone().map(|number| {
                let share = (number - first) as f64 / whole as f64;
                fake_user(number, share, now, &fields)
            });
            let rows = rows(people.zip(ids), &fields, now)?;
            Ok((numbers, rows))
        })))
    }
}
