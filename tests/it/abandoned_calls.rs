//! Calls that are given up in the middle are in no one's way.

use std::time::Duration;

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use user_service::{
    convert::pb,
    domain::db::Db,
    store::{connector::Connector, sql::Sql},
};

use crate::support::{TestApp, TestDatabase, given, member, patiently};

/// Work of some milliseconds, long enough for a request to cancel that comes too late.
const SHORT: &str = "select count(*)::text from generate_series(1, 20000)";
/// Work of some more, which is given up before its end.
const LONG: &str = "select count(*)::text from generate_series(1, 50000)";

/// Work of hours.
const ENDLESS: &str = "select count(*)::text from generate_series(1, 100000000000)";

#[tokio::test]
async fn p55_a_statement_that_is_given_up_takes_no_other_along() {
    give_up(LONG, Duration::from_millis(1)).await;
}

#[tokio::test]
async fn p55_a_statement_that_would_never_end_is_given_up_and_its_connection_is_free() {
    give_up(ENDLESS, Duration::from_millis(5)).await;
}

/// Gives up every other statement on a few connections.
async fn give_up(statement: &'static str, after: Duration) {
    let database = TestDatabase::new().await;
    let db = Db::new(&database.url(), Connector::new(None).unwrap(), 4);
    let ask = async |statement: &'static str| {
        db.run(async |conn| {
            Ok(Sql::<Text>::new(statement)
                .get_result::<String>(conn)
                .await?)
        })
        .await
    };

    let callers = (0..8).map(async |caller| {
        for call in 0..60 {
            if (caller + call) % 2 == 0 {
                ask(SHORT).await.expect("nobody gave this one up");
            } else {
                // Its connection may not even have come by then.
                drop(tokio::time::timeout(after, ask(statement)).await);
            }
        }
    });
    join_all(callers).await;
}

#[tokio::test]
async fn p44_codes_are_asked_for_by_many_at_once_where_nobody_sends_mail() {
    let app = TestApp::configured(|config| config.mail.folder = None).await;
    let mut service = app.service().await;
    let users = (0..200).map(|number| {
        let account = given("", &format!("+8613800138{number:03}"));
        pb::ImportUsersRequest {
            user: Some(member(account)),
        }
    });
    let users: Vec<_> = users.collect();
    let mut batches = service
        .admin
        .import_users(tokio_stream::iter(users))
        .await
        .unwrap()
        .into_inner();
    while batches.message().await.unwrap().is_some() {}
    let listed = service
        .users
        .list_profiles(pb::ListProfilesRequest {
            page_size: 1000,
            ..Default::default()
        })
        .await;

    let asked =
        listed
            .unwrap()
            .into_inner()
            .profiles
            .into_iter()
            .map(|profile| {
                let (mut service, user_id) = (service.clone(), profile.user_id);
                let email = format!("u{user_id}@example.org");
                let request = pb::SendEmailCodeRequest {
                    user_id,
                    email,
                    ..Default::default()
                };
                async move {
                    patiently(async || service.users.send_email_code(request.clone()).await).await
                }
            });
    let answers = join_all(asked).await;

    assert_eq!(answers.len(), 200);
    for answer in answers {
        answer.expect("a code is queued");
    }
}
