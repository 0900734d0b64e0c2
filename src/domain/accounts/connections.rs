//! Linking third-party logins.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::{Accounts, notices};
use crate::{
    domain::{
        db::End,
        idempotency::{IdempotencyKey, Outcome},
    },
    error::{Error, Reason, Result},
    model::{
        account::{Connection, connection_key},
        delivery::Template,
    },
    store::{
        accounts::{self, Changes, Locked},
        unique_values,
    },
};

/// A third-party login to link.
pub struct Link {
    pub user_id: i64,
    pub provider: String,
    pub subject: String,
    pub display_name: String,
}

impl Accounts {
    /// Links a third-party login. If the user already has it, returns it unchanged. `reply` creates the response that
    /// is stored for a repeated request id.
    ///
    /// # Errors
    /// USER_NOT_FOUND, CONNECTION_TAKEN, REQUEST_IN_PROGRESS.
    pub async fn link(
        &self,
        link: &Link,
        once: Option<&IdempotencyKey>,
        reply: impl Fn(&Connection) -> Vec<u8> + Sync,
    ) -> Result<Outcome<Connection>> {
        let now = self.clock.now();
        self.db
            .of_user(link.user_id)
            .transaction(End::Commit, async |conn| {
                if let Some(once) = once
                    && let Some(stored) = once.begin(conn).await?
                {
                    return Ok(Outcome::Stored(stored));
                }
                let connection = self.find_or_insert(conn, link, now).await?;
                if let Some(once) = once {
                    once.end(conn, Some(link.user_id), reply(&connection)).await?;
                }
                Ok(Outcome::New(connection))
            })
            .await
    }

    async fn find_or_insert(
        &self,
        conn: &mut AsyncPgConnection,
        link: &Link,
        now: DateTime<Utc>,
    ) -> Result<Connection> {
        let Link { user_id, provider, subject, display_name } = link;
        let user_id = *user_id;
        let locked = accounts::lock(conn, user_id).await?;
        let Locked { login, language } = locked.ok_or_else(|| Error::user_not_found(user_id))?;
        let linked = accounts::list_connections(conn, vec![user_id]).await?;
        let is_same = |link: &Connection| link.provider == *provider && link.subject == *subject;
        if let Some(connection) = linked.into_iter().find(is_same) {
            return Ok(connection);
        }
        let value = connection_key(provider, subject);
        if unique_values::reserve(conn, &[(user_id, "connection", value.as_str())]).await?.is_empty() {
            return Err(Error::taken(Reason::ConnectionTaken, "subject"));
        }
        let connection_id = accounts::insert_connection(conn, user_id, provider, subject, display_name, now).await?;
        accounts::update(conn, user_id, Changes::default()).await?;
        let happened = std::iter::once(Template::ConnectionLinked);
        notices::queue(conn, &login, language.as_ref(), happened, (&self.policy.texts, &self.policy.notices), now)
            .await?;
        Ok(Connection {
            connection_id,
            user_id,
            provider: provider.clone(),
            subject: subject.clone(),
            display_name: display_name.clone(),
            linked_at: now,
        })
    }
}
