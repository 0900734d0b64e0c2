//! The crowd of `dev --users`: what COPY wrote is what CreateUser would have written.

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::json;
use user_service::{
    convert::pb::{self, get_profile_request::Key},
    dev::{demo_data, seed_data},
    store::{
        schema::{self, DevMarker},
        sql::Sql,
    },
};

use crate::support::{TestApp, indexes, json as object, person, start_time};

const USERS: u64 = 2000;
const EXAMPLES: i64 = 243;

/// A service whose database has the examples and a crowd, which came in two parts.
async fn crowded() -> TestApp {
    let app = TestApp::new().await;
    demo_data::fill(&app.api).await.unwrap();
    let mut conn = app.database.connect().await;
    schema::set_mark(&mut conn, DevMarker::Filled { users: 0 })
        .await
        .unwrap();
    let url = app.database.url();
    let now = start_time();
    assert_eq!(
        seed_data::fill(&url, None, 1500, now, |_| {})
            .await
            .unwrap(),
        1500
    );
    assert_eq!(
        seed_data::fill(&url, None, USERS, now, |_| {})
            .await
            .unwrap(),
        USERS - 1500
    );
    assert_eq!(
        seed_data::fill(&url, None, USERS, now, |_| {})
            .await
            .unwrap(),
        0,
        "it is remembered"
    );
    app
}

async fn number(conn: &mut AsyncPgConnection, statement: &'static str) -> i64 {
    Sql::<BigInt>::new(statement)
        .get_result(conn)
        .await
        .expect(statement)
}

#[tokio::test]
async fn crowd_stands_in_every_table_as_made_one_by_one() {
    let app = crowded().await;
    let mut conn = app.database.connect().await;

    assert_eq!(
        number(&mut conn, "select count(*) from users").await,
        EXAMPLES + USERS as i64
    );
    assert_eq!(
        number(
            &mut conn,
            "select count(*) from users natural join accounts"
        )
        .await,
        EXAMPLES + USERS as i64
    );
    assert_eq!(number(&mut conn, UNIQUE_VALUES_THAT_DIFFER).await, 0);
    let unprotected = "select count(*) from accounts a where username_key is not null and (skeleton_of is distinct from \
        username_key or not exists (select from unique_values v where v.user_id = a.user_id and kind = 'username_skeleton'))";
    assert_eq!(number(&mut conn, unprotected).await, 0);
    indexes::assert_whole(&app.database).await;
    let highest = number(&mut conn, "select max(user_id) from users").await;
    let next = app
        .service()
        .await
        .create(person("after the crowd"))
        .await
        .unwrap();
    assert_eq!(next.user_id, highest + 1, "the sequence is past them");
}

/// Rows that should be in `unique_values` and are not, and the other way round.
const UNIQUE_VALUES_THAT_DIFFER: &str = "with expected as (
        select 'username', username_key, user_id from accounts where username_key is not null
        union all select 'email', email_key, user_id from accounts where email_key is not null
        union all select 'phone', phone, user_id from accounts where phone is not null
        union all select 'openid', openid, user_id from users where openid is not null
        union all select 'unionid', unionid, user_id from users where unionid is not null
        union all select 'field:' || field_id, custom_fields ->> name, user_id
            from users, field_definitions where is_unique and custom_fields ? name
    ), stored as (select kind, value, user_id from unique_values where kind <> 'username_skeleton')
    select count(*) from ((table expected except table stored) union all (table stored except table expected)) d";

#[tokio::test]
async fn crowd_is_found_by_every_key() {
    let app = crowded().await;
    let mut client = app.service().await;
    let mut conn = app.database.connect().await;
    let statement = Sql::<(BigInt, Text, Text, Text, Nullable<Text>)>::new(
        "select u.user_id, a.username, a.email, a.phone, u.openid from users u join accounts a using (user_id) \
         where a.username is not null and a.email is not null and a.phone is not null order by user_id desc limit 20",
    );
    let sample: Vec<(i64, String, String, String, Option<String>)> =
        statement.load(&mut conn).await.unwrap();
    assert_eq!(sample.len(), 20);

    for (user_id, username, email, phone, openid) in sample {
        let keys = [
            Key::Username(username),
            Key::Email(email.to_uppercase()),
            Key::Phone(phone),
        ];
        for key in keys.into_iter().chain(openid.map(Key::Openid)) {
            assert_eq!(
                client.get_by(key.clone()).await.unwrap().user_id,
                user_id,
                "{key:?}"
            );
        }
    }
}

#[tokio::test]
async fn crowd_is_filtered_and_ordered() {
    let app = crowded().await;
    let mut client = app.service().await;
    let mut conn = app.database.connect().await;

    let counts = [
        (
            json!({ "level": 2 }),
            "select count(*) from users where custom_fields -> 'level' = '2'",
        ),
        (
            json!({ "tags": "vip" }),
            "select count(*) from users where custom_fields -> 'tags' ? 'vip'",
        ),
        (
            json!({ "group_ids": 1000 }),
            "select count(*) from users where 1000 = any(group_ids)",
        ),
        (
            json!({ "nickname": { "$contains": "王" } }),
            "select count(*) from users where strpos(nickname, '王') > 0",
        ),
    ];
    for (filter, statement) in counts {
        let request = pb::ListProfilesRequest {
            filter: Some(object(filter)),
            return_total_size: true,
            ..Default::default()
        };
        let page = client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner();
        let expected = number(&mut conn, statement).await;
        assert!(expected > 5, "{statement}: {expected}");
        assert_eq!(page.total_size, Some(expected), "{statement}");
    }
    let newest = "select user_id from users order by created_at desc, user_id desc";
    let expected: Vec<i64> = Sql::<BigInt>::new(newest).load(&mut conn).await.unwrap();
    let newest_first = pb::ListProfilesRequest {
        page_size: 300,
        ..Default::default()
    };
    assert_eq!(client.walk(newest_first).await, expected);
}
