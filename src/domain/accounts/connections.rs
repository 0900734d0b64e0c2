//! Linking third-party logins.

use super::Accounts;
use crate::{
    domain::db::End,
    error::{Error, Reason, Result},
    model::account::{Connection, connection_key},
    store::{
        accounts::{self, Changes},
        profiles, unique_values,
    },
};

impl Accounts {
    /// Links a third-party login; one that the user has already is given as it is.
    ///
    /// # Errors
    /// USER_NOT_FOUND, CONNECTION_TAKEN.
    pub async fn link(&self, user_id: i64, provider: &str, subject: &str, display_name: &str) -> Result<Connection> {
        let now = self.clock.now();
        let value = connection_key(provider, subject);
        self.db
            .transaction(End::Commit, async |conn| {
                profiles::lock(conn, user_id).await?.ok_or_else(|| Error::user_not_found(user_id))?;
                let linked = accounts::list_connections(conn, vec![user_id]).await?;
                let same = |link: &Connection| link.provider == provider && link.subject == subject;
                if let Some(link) = linked.into_iter().find(same) {
                    return Ok(link);
                }
                let claim = (user_id, "connection", value.as_str());
                if unique_values::claim(conn, &[claim]).await?.is_empty() {
                    return Err(Error::taken(Reason::ConnectionTaken, "subject"));
                }
                let connection_id =
                    accounts::insert_connection(conn, user_id, provider, subject, display_name, now).await?;
                accounts::update(conn, user_id, Changes::default()).await?;
                Ok(Connection {
                    connection_id,
                    user_id,
                    provider: provider.to_owned(),
                    subject: subject.to_owned(),
                    display_name: display_name.to_owned(),
                    linked_at: now,
                })
            })
            .await
    }
}
