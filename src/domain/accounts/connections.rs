//! Linking third-party logins.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use prost::Message;

use super::{Accounts, notices};
use crate::{
    domain::{
        db::End,
        idempotency::{self, IdempotencyKey, Outcome},
    },
    error::{Error, Reason, Result},
    model::{
        account::{Connection, Link, connection_key},
        delivery::Template,
    },
    store::{
        accounts::{self, Changes, Locked},
        unique_values,
    },
};

impl Accounts {
    /// Links a third-party login, and makes the response of it. If the user already has the login,
    /// it stays unchanged.
    ///
    /// # Errors
    /// USER_NOT_FOUND, CONNECTION_TAKEN, REQUEST_IN_PROGRESS.
    pub async fn link<R: Message + Default>(
        &self,
        link: &Link,
        key: Option<&IdempotencyKey>,
        respond: impl Fn(&Connection) -> R + Sync,
    ) -> Result<R> {
        let now = self.clock.now();
        let db = self.db.of_user(link.user_id);
        let write = idempotency::write(&db, End::Commit, key, Some(link.user_id), async |conn| {
            self.find_or_insert(conn, link, now)
                .await
                .map(|connection| respond(&connection))
        });
        write.await.map(Outcome::into_response)
    }

    async fn find_or_insert(
        &self,
        conn: &mut AsyncPgConnection,
        link: &Link,
        now: DateTime<Utc>,
    ) -> Result<Connection> {
        let Link {
            user_id,
            provider,
            subject,
            display_name,
        } = link;
        let user_id = *user_id;
        let locked = accounts::lock(conn, user_id).await?;
        let Locked { login, language } = locked.ok_or_else(|| Error::user_not_found(user_id))?;
        let linked = accounts::list_connections(conn, vec![user_id]).await?;
        let is_same = |link: &Connection| link.provider == *provider && link.subject == *subject;
        if let Some(connection) = linked.into_iter().find(is_same) {
            return Ok(connection);
        }
        let value = connection_key(provider, subject);
        if unique_values::reserve(conn, &[(user_id, "connection", value.as_str())])
            .await?
            .is_empty()
        {
            return Err(Error::taken(Reason::ConnectionTaken, "subject"));
        }
        let connection_id =
            accounts::insert_connection(conn, user_id, provider, subject, display_name, now)
                .await?;
        accounts::update(conn, user_id, Changes::default()).await?;
        let happened = std::iter::once(Template::ConnectionLinked);
        notices::queue(
            conn,
            &login,
            language.as_ref(),
            happened,
            (&self.policy.texts, &self.policy.notices),
            now,
        )
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
