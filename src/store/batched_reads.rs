//! Reads of many callers at once, each in one statement: profiles by id, and users by what is
//! theirs alone.
//!
//! They are prepared once a connection and sent without waiting for the answer to the previous one,
//! which Diesel's own connection does not do. A lone read takes the form with `=`, which is cheaper
//! to plan and to run.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Error, Row, Statement, types::Type};

use crate::model::{filter::UniqueKey, profile::Profile};

const COLUMNS: &str = "user_id, nickname, avatar_url, gender, country, province, city, language, openid, unionid, \
    is_authorized, group_ids, custom_fields, created_at, updated_at, version";

/// How traces show the read of a profile.
pub const PROFILE: &str = "select … from users where user_id = any($1)";
/// How traces show the read of who holds a value.
pub const HOLDER: &str = "select user_id from unique_values where kind = $1 and value = $2";

/// The statements, prepared on one connection.
pub struct Statements {
    profile: Statement,
    profiles: Statement,
    holder: Statement,
    holders: Statement,
}

impl Statements {
    /// Prepares them.
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let one = format!("select {COLUMNS} from users where user_id = $1");
        let many = format!("select {COLUMNS} from users where user_id = any($1)");
        // Each kind with each value: there are few kinds, and other rows that are found are not
        // requested. A join with a list of pairs would ask every node of a distributed database.
        let holders = "select kind, value, user_id from unique_values where kind = any($1) and value = any($2)";
        let (profile, profiles, holder, holders) = tokio::try_join!(
            client.prepare_typed(&one, &[Type::INT8]),
            client.prepare_typed(&many, &[Type::INT8_ARRAY]),
            client.prepare_typed(HOLDER, &[Type::TEXT, Type::TEXT]),
            client.prepare_typed(holders, &[Type::TEXT_ARRAY, Type::TEXT_ARRAY]),
        )?;
        Ok(Self {
            profile,
            profiles,
            holder,
            holders,
        })
    }

    /// The profiles of these users.
    pub async fn find_profiles(
        &self,
        client: &Client,
        user_ids: &[i64],
    ) -> Result<HashMap<i64, Profile>, Error> {
        let rows = match user_ids {
            [user_id] => client.query(&self.profile, &[user_id]).await?,
            user_ids => client.query(&self.profiles, &[&user_ids]).await?,
        };
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, profile(row)?)))
            .collect()
    }

    /// The users who hold these values.
    pub async fn find_holders(
        &self,
        client: &Client,
        keys: &[UniqueKey],
    ) -> Result<HashMap<UniqueKey, i64>, Error> {
        if let [(kind, value)] = keys {
            let row = client.query_opt(&self.holder, &[kind, value]).await?;
            return row
                .iter()
                .map(|row| Ok(((*kind, value.clone()), row.try_get(0)?)))
                .collect();
        }
        let known: HashSet<&'static str> = keys.iter().map(|(kind, _)| *kind).collect();
        let kinds: Vec<&str> = known.iter().copied().collect();
        let values: Vec<&str> = keys.iter().map(|(_, value)| value.as_str()).collect();
        let rows = client.query(&self.holders, &[&kinds, &values]).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let (kind, value): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(kind) = known.get(kind) {
                found.insert((*kind, value.to_owned()), row.try_get(2)?);
            }
        }
        Ok(found)
    }
}

fn profile(row: &Row) -> Result<Profile, Error> {
    Ok(Profile {
        user_id: row.try_get(0)?,
        nickname: row.try_get(1)?,
        avatar_url: row.try_get(2)?,
        gender: row.try_get(3)?,
        country: row.try_get(4)?,
        province: row.try_get(5)?,
        city: row.try_get(6)?,
        language: row.try_get(7)?,
        openid: row.try_get(8)?,
        unionid: row.try_get(9)?,
        is_authorized: row.try_get(10)?,
        group_ids: row.try_get(11)?,
        custom_fields: row.try_get(12)?,
        created_at: row.try_get(13)?,
        updated_at: row.try_get(14)?,
        version: row.try_get(15)?,
    })
}
