//! What the service sends: waited for by the state of its outbox, and read where it arrived.

use std::fs;

use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;
use user_service::store::sql::Sql;

use super::{TestApp, TestDatabase, eventually};

/// Waits until nothing is queued any more.
pub async fn all_sent(database: &TestDatabase) {
    let mut conn = database.connect().await;
    eventually("an empty outbox", async || {
        let queued = Sql::<BigInt>::new("select count(*) from outbox where state = 'queued'");
        let queued: i64 = queued.get_result(&mut conn).await.unwrap();
        (queued == 0).then_some(())
    })
    .await;
}

impl TestApp {
    /// Waits until nothing is queued any more.
    pub async fn all_sent(&self) {
        all_sent(&self.database).await;
    }

    /// The templates of all messages to an address that were ever queued, oldest first.
    pub async fn queued(&self, address: &str) -> Vec<String> {
        let mut conn = self.database.connect().await;
        let statement =
            Sql::<Text>::new("select template from outbox where recipient = ").bind(address);
        statement
            .push(" order by outbox_id")
            .load(&mut conn)
            .await
            .unwrap()
    }

    /// The newest message to an address as it arrived.
    pub async fn newest(&self, address: &str) -> String {
        self.all_sent().await;
        if !address.contains('@') {
            let mut texts = self.texts.received().into_iter();
            return texts
                .rfind(|text| text.to == address)
                .expect("a text message")
                .text;
        }
        let mut conn = self.database.connect().await;
        let statement = Sql::<Text>::new(
            "select message_id::text from outbox where state = 'accepted' and recipient = ",
        );
        let statement = statement
            .bind(address)
            .push(" order by outbox_id desc limit 1");
        let message_id: String = statement.get_result(&mut conn).await.expect("a mail");
        let mut files = fs::read_dir(&self.mails.0)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let file = files.find(|path| {
            path.to_string_lossy()
                .ends_with(&format!("{message_id}.eml"))
        });
        fs::read_to_string(file.expect("the mail's file")).unwrap()
    }

    /// The code in the newest message to an address.
    pub async fn newest_code(&self, address: &str) -> String {
        let message = self.newest(address).await;
        let is_code =
            |word: &&str| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit());
        // Headers and boundaries of a mail may hold six digits too; the code stands on a line of
        // its own.
        let code = if address.contains('@') {
            message.lines().map(str::trim).find(is_code)
        } else {
            message.split(|c: char| !c.is_ascii_digit()).find(is_code)
        };
        code.unwrap_or_else(|| panic!("no code in {message}"))
            .to_owned()
    }
}
