//! ImportUsers of many users in one stream, and COPY of the same rows into the same tables and
//! indexes.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, bail};
use diesel_async::SimpleAsyncConnection;
use tonic::{metadata::MetadataValue, transport::Endpoint};
use user_service::{
    clock::Clock,
    convert::pb::{self, user_admin_service_client::UserAdminServiceClient},
    dev::{copy, seed_data},
    model::field::Fields,
    store::{connector::Connector, fields, schema},
};

use crate::client::Outcome;

/// So many users beyond a crowd of that size, as their client makes them.
async fn people(
    url: &str,
    size: u64,
    count: u64,
) -> anyhow::Result<(Vec<pb::CreateUserRequest>, Fields)> {
    let mut conn = schema::connect(url, None).await?;
    let known = Fields::new(fields::list(&mut conn).await?, Vec::new());
    let person = |number| {
        seed_data::fake_user(
            size + number,
            number as f64 / count as f64,
            Clock::System.now(),
            &known,
        )
    };
    Ok(((0..count).map(person).collect(), known))
}

/// Users who are ready to be sent.
pub(crate) struct Import {
    requests: Vec<pb::ImportUsersRequest>,
    client: UserAdminServiceClient<tonic::transport::Channel>,
    token: MetadataValue<tonic::metadata::Ascii>,
}

impl Import {
    pub(crate) async fn new(
        url: &str,
        size: u64,
        count: u64,
        address: SocketAddr,
        token: &str,
    ) -> anyhow::Result<Self> {
        let (people, _) = people(url, size, count).await?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect()
            .await?;
        Ok(Self {
            requests: people
                .into_iter()
                .map(|user| pb::ImportUsersRequest { user: Some(user) })
                .collect(),
            client: UserAdminServiceClient::new(channel),
            token: format!("Bearer {token}").parse()?,
        })
    }

    /// Sends them all and hears that all stand.
    pub(crate) async fn run(mut self) -> anyhow::Result<Outcome> {
        let count = self.requests.len() as u64;
        let mut request = tonic::Request::new(tokio_stream::iter(self.requests));
        request.metadata_mut().insert("authorization", self.token);
        let begin = Instant::now();
        let mut answers = self.client.import_users(request).await?.into_inner();
        let (mut created, mut failures) = (0, Vec::new());
        while let Some(answer) = answers.message().await? {
            created += answer.created as u64;
            failures.extend(answer.failures);
        }
        if created < count {
            bail!(
                "{created} of {count} users were made; of the others: {:?}",
                failures.first()
            );
        }
        Ok(Outcome {
            requests: count,
            seconds: begin.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }
}

/// Rows that are ready to be copied.
pub(crate) struct Copy {
    count: u64,
    rows: copy::Rows,
    client: tokio_postgres::Client,
}

impl Copy {
    pub(crate) async fn new(url: &str, size: u64, count: u64) -> anyhow::Result<Self> {
        let (people, known) = people(url, size, count).await?;
        let (client, connection) = Connector::new(None)?.connect(url).await?;
        tokio::spawn(connection);
        let ids = copy::draw_ids(&client, count).await?;
        let rows = seed_data::rows(people.into_iter().zip(ids), &known, Clock::System.now())?;
        Ok(Self {
            count,
            rows,
            client,
        })
    }

    /// Copies them all in one transaction.
    pub(crate) async fn run(mut self) -> anyhow::Result<Outcome> {
        let begin = Instant::now();
        let transaction = self.client.transaction().await?;
        self.rows
            .send(&transaction)
            .await
            .context("the rows cannot be copied")?;
        transaction.commit().await?;
        Ok(Outcome {
            requests: self.count,
            seconds: begin.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }
}

/// Removes all users after this one, so that the next time finds what this one did.
pub(crate) async fn remove(url: &str, last_id: i64) -> anyhow::Result<()> {
    let mut conn = schema::connect(url, None).await?;
    for table in ["users", "accounts", "unique_values", "field_values"] {
        conn.batch_execute(&format!("delete from {table} where user_id > {last_id}"))
            .await?;
        conn.batch_execute(&format!("vacuum {table}")).await?;
    }
    Ok(())
}
