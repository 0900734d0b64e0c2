//! COPY into all tables of a user, for very many users at once.

use std::fmt::Write;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::SinkExt;
use tokio_postgres::{Client, Error, Transaction};

use crate::{
    model::{account::Normalized, profile::Profile, user::NewAccount},
    store::{
        fields::IndexRow,
        schema::{DevMarker, MARK},
    },
};

/// Rows of new users, in COPY's text form.
#[derive(Default)]
pub struct Rows {
    users: Lines,
    accounts: Lines,
    unique_values: Lines,
    field_values: Lines,
}

impl Rows {
    /// Adds a user with its unique values (kind and value) and the rows of its indexed fields.
    pub fn add<'a>(
        &mut self,
        profile: &Profile,
        account: &NewAccount,
        claims: impl Iterator<Item = (&'a str, &'a str)>,
        values: &[IndexRow],
    ) {
        self.add_profile(profile);
        self.add_account(profile.user_id, account);
        for (kind, value) in claims {
            self.unique_values
                .text(Some(kind))
                .text(Some(value))
                .number(profile.user_id)
                .end();
        }
        for row in values {
            let line = self.field_values.number(row.field_id).bytes(&row.value);
            line.time(Some(row.created_at)).number(row.user_id).end();
        }
    }

    fn add_profile(&mut self, profile: &Profile) {
        let line = self
            .users
            .number(profile.user_id)
            .text(profile.nickname.as_deref());
        line.text(profile.avatar_url.as_deref())
            .number(profile.gender.into());
        for text in [
            &profile.country,
            &profile.province,
            &profile.city,
            &profile.language,
        ] {
            line.text(text.as_deref());
        }
        line.text(profile.openid.as_deref())
            .text(profile.unionid.as_deref())
            .flag(profile.is_authorized);
        line.numbers(&profile.group_ids)
            .text(Some(profile.custom_fields.as_str()));
        line.time(Some(profile.created_at))
            .time(Some(profile.updated_at))
            .number(profile.version)
            .end();
    }

    fn add_account(&mut self, user_id: i64, account: &NewAccount) {
        let shown =
            |folded: &Option<Normalized>| folded.as_ref().map(|folded| folded.shown.clone());
        let key = |folded: &Option<Normalized>| folded.as_ref().map(|folded| folded.key.clone());
        let line = self.accounts.number(user_id);
        for text in [
            shown(&account.username),
            key(&account.username),
            shown(&account.email),
            key(&account.email),
        ] {
            line.text(text.as_deref());
        }
        line.flag(account.email_verified)
            .text(shown(&account.phone).as_deref())
            .flag(account.phone_verified);
        line.time(account.last_login_at);
        line.text(account.password_hash.as_deref())
            .text(account.wallet_password_hash.as_deref());
        line.text(key(&account.username).as_deref()).end();
    }

    /// Writes them.
    ///
    /// # Errors
    /// What the database says, above all where a value is held already.
    pub async fn send(self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let tables = [
            (
                "copy users (user_id, nickname, avatar_url, gender, country, province, city, language, openid, \
                 unionid, is_authorized, group_ids, custom_fields, created_at, updated_at, version) from stdin",
                self.users,
            ),
            (
                "copy accounts (user_id, username, username_key, email, email_key, email_verified, phone, \
                 phone_verified, last_login_at, password_hash, wallet_password_hash, skeleton_of) from stdin",
                self.accounts,
            ),
            (
                "copy unique_values (kind, value, user_id) from stdin",
                self.unique_values,
            ),
            (
                "copy field_values (field_id, value, created_at, user_id) from stdin",
                self.field_values,
            ),
        ];
        for (statement, lines) in tables {
            let sink = transaction.copy_in::<_, Bytes>(statement).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(Bytes::from(lines.text)).await?;
            sink.finish().await?;
        }
        Ok(())
    }
}

/// Draws so many ids.
pub async fn draw_ids(client: &Client, count: u64) -> Result<Vec<i64>, Error> {
    const STATEMENT: &str = "select nextval(pg_get_serial_sequence('users', 'user_id')) from generate_series(1, $1::bigint)";
    let rows = client.query(STATEMENT, &[&(count as i64)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Leaves a mark, as [`schema::set_mark`](crate::store::schema::set_mark), with the rows that it
/// tells of.
pub async fn set_mark(transaction: &Transaction<'_>, mark: DevMarker) -> Result<(), Error> {
    transaction
        .execute(
            "select set_config('user_service.mark', $1, true)",
            &[&mark.to_string()],
        )
        .await?;
    transaction.batch_execute(MARK).await
}

/// Brings what the planner knows up to date.
pub async fn settle(client: &Client) -> Result<(), Error> {
    client
        .batch_execute("vacuum (analyze) users, accounts, unique_values, field_values")
        .await
}

/// Lines of COPY's text form.
#[derive(Default)]
struct Lines {
    text: String,
    /// Whether the line has a column already.
    is_open: bool,
}

impl Lines {
    fn column(&mut self) {
        if self.is_open {
            self.text.push('\t');
        }
        self.is_open = true;
    }

    fn raw(&mut self, value: impl std::fmt::Display) -> &mut Self {
        self.column();
        write!(self.text, "{value}").expect("valid: a String takes everything");
        self
    }

    fn text(&mut self, text: Option<&str>) -> &mut Self {
        self.column();
        let Some(text) = text else {
            self.text.push_str("\\N");
            return self;
        };
        for letter in text.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                letter => self.text.push(letter),
            }
        }
        self
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.raw(number)
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.raw(if flag { 't' } else { 'f' })
    }

    fn numbers(&mut self, numbers: &[i64]) -> &mut Self {
        self.raw('{');
        for (place, number) in numbers.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(self.text, "{comma}{number}").expect("valid: a String takes everything");
        }
        self.text.push('}');
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw("\\\\x");
        for byte in bytes {
            write!(self.text, "{byte:02x}").expect("valid: a String takes everything");
        }
        self
    }

    fn time(&mut self, time: Option<DateTime<Utc>>) -> &mut Self {
        match time {
            Some(time) => self.raw(time.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => self.text(None),
        }
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.is_open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_escaped_and_parted() {
        let mut lines = Lines::default();
        lines
            .number(7)
            .text(Some("a\\b\tc\nd\re"))
            .text(None)
            .flag(true)
            .numbers(&[1, 2])
            .bytes(&[0, 255])
            .end();
        lines.text(Some("")).numbers(&[]).end();
        assert_eq!(
            lines.text,
            "7\ta\\\\b\\tc\\nd\\re\t\\N\tt\t{1,2}\t\\\\x00ff\n\t{}\n"
        );
    }
}
