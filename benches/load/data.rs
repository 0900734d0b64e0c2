//! The data under load: a crowd.

use anyhow::Context;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use serde_json::json;
use sha2::{Digest, Sha256};
use user_service::{
    clock::Clock,
    dev::{demo_data, seed_data},
    store::{
        schema::{self, DevMarker},
        sql::Sql,
    },
};

use crate::{
    scenario::{Data, Size},
    server,
};

/// Migrates, and makes the examples and the crowd, where they are not there yet.
pub(crate) async fn fill(url: &str, users: u64) -> anyhow::Result<Data> {
    schema::migrate(url, None).await?;
    let mut conn = schema::connect(url, None).await?;
    if schema::mark(&mut conn)
        .await?
        .as_deref()
        .and_then(DevMarker::parse)
        .is_none()
    {
        demo_data::fill(&server::build(url)?.api).await?;
        schema::set_mark(&mut conn, DevMarker::Filled { users: 0 }).await?;
    }
    let begin = std::time::Instant::now();
    let told = |made| eprintln!("{made} users after {:.0} s", begin.elapsed().as_secs_f64());
    seed_data::fill(url, None, users, Clock::System.now(), told).await?;
    let one = async |conn: &mut AsyncPgConnection, statement| {
        Sql::<BigInt>::new(statement)
            .get_result::<i64>(conn)
            .await
            .context(statement)
    };
    // The crowd's ids follow those of the examples, which end with this one.
    let data = Data {
        first_id: one(
            &mut conn,
            "select min(user_id) from users where user_id > 70695404",
        )
        .await?,
        last_id: one(&mut conn, "select max(user_id) from users").await?,
        level_field: one(
            &mut conn,
            "select field_id from field_definitions where name = 'level'",
        )
        .await?,
    };
    for size in Size::ALL {
        enlarge(&mut conn, size, &data).await?;
    }
    conn.batch_execute("checkpoint").await?;
    Ok(data)
}

/// Makes the documents of some users so large, with text that does not compress, where they are not
/// yet.
async fn enlarge(conn: &mut AsyncPgConnection, size: Size, data: &Data) -> anyhow::Result<()> {
    let (first, last) = size.users(data);
    let text: String = (0..size.bytes() / 64)
        .flat_map(|part| Sha256::digest(part.to_be_bytes()))
        .map(hex)
        .collect();
    // A distributed Postgres takes no function of the row that is not IMMUTABLE, so the document is
    // a value.
    let statement = Sql::<()>::new("update users u set custom_fields = u.custom_fields || ")
        .bind(json!({ "motto": text }))
        .push(" where user_id between ")
        .bind(first)
        .push(" and ")
        .bind(last)
        .push(" and octet_length(custom_fields::text) < ")
        .bind(size.bytes());
    statement.execute(conn).await?;
    Ok(())
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}
