//! No statement has a form that a distributed Postgres rejects: what a walk through the RPCs sends
//! is read.

use std::collections::BTreeSet;

use serde_json::json;
use tokio_postgres::NoTls;
use user_service::{
    convert::pb::{self, get_profile_request::Key},
    store::batched_reads::Statements,
};

use crate::support::{Client, TestApp, json as object, person, statements};

/// A form that is rejected, and how its text is known, in lower case.
type Refused = (&'static str, fn(&str) -> bool);

const REFUSED: &[Refused] = &[
    ("FOR UPDATE over several users", |text| {
        locks(text)
            && !text.contains("skip locked")
            && (text.contains("= any(") || text.contains(" in ("))
    }),
    (
        "a join of unique_values and another table of users",
        |text| {
            joins(text).any(|tables| {
                tables.contains("unique_values") && OWNED.iter().any(|table| tables.contains(table))
            })
        },
    ),
    ("a subquery of unique_values over users", |text| {
        text.contains("users u") && text.contains("(select k.user_id from unique_values")
    }),
    (
        "a subquery of another table of rows below OR or NOT",
        |text| below_or_not(text, "in (select f.user_id"),
    ),
    ("a changing function or an interval in DO UPDATE", |text| {
        text.split("do update set")
            .nth(1)
            .is_some_and(|set| CHANGING.iter().any(|word| set.contains(word)))
    }),
    ("a STABLE function in an UPDATE", |text| {
        changed(text)
            .is_some_and(|set| CHANGING.iter().chain(STABLE).any(|word| set.contains(word)))
    }),
    ("MERGE", |text| text.starts_with("merge")),
    // The outbox is one table in one place, where a fence carries nothing anywhere.
    ("OFFSET 0 or MATERIALIZED as a fence", |text| {
        (text.contains("offset 0") || text.contains("materialized"))
            && !text.contains("update outbox")
    }),
    (
        "a CTE that changes spread rows and feeds the outbox",
        |text| {
            text.starts_with("with")
                && text.contains("insert into outbox")
                && text.matches(" returning ").count() > 0
        },
    ),
];

/// Tables that are spread by the user.
const OWNED: &[&str] = &["users", "accounts", "field_values", "connections", "codes"];
const CHANGING: &[&str] = &[
    "now()",
    "clock_timestamp()",
    "current_timestamp",
    "interval",
];
const STABLE: &[&str] = &[
    "to_jsonb(",
    "jsonb_build_object(",
    "jsonb_build_array(",
    "::timestamptz",
];

fn locks(text: &str) -> bool {
    text.contains("for update") || text.contains("for no key update")
}

/// What stands on both sides of each JOIN of a FROM.
fn joins(text: &str) -> impl Iterator<Item = &str> {
    text.split(" from ")
        .skip(1)
        .filter_map(|from| from.split(" where ").next())
        .filter(|from| from.contains(" join "))
}

/// What an UPDATE of users sets and asks.
fn changed(text: &str) -> Option<&str> {
    let at = text.find("update users")?;
    text[at..].split(" returning ").next()
}

/// Whether a part stands in brackets that an OR divides, or that are negated.
fn below_or_not(text: &str, part: &str) -> bool {
    let open = |at: usize| {
        let mut depth = 0;
        text[..at].char_indices().rev().find_map(|(at, char)| {
            depth += i32::from(char == ')') - i32::from(char == '(');
            (depth < 0).then_some(at)
        })
    };
    text.match_indices(part).any(|(at, _)| {
        std::iter::successors(open(at), |at| open(*at)).any(|at| {
            let (inside, after) = bracket(&text[at..]);
            inside.contains(" or ") || after.starts_with(" is not true")
        })
    })
}

/// What stands in the bracket at the beginning of a text, without the brackets inside of it, and
/// what comes after it.
fn bracket(text: &str) -> (String, &str) {
    let (mut depth, mut inside) = (0, String::new());
    for (at, char) in text.char_indices() {
        depth += i32::from(char == '(') - i32::from(char == ')');
        match depth {
            0 => return (inside, &text[at + 1..]),
            1 => inside.push(char),
            _ => {}
        }
    }
    (inside, "")
}

fn faults(sent: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for text in sent {
        let lower = text
            .to_lowercase()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        faults.extend(
            REFUSED
                .iter()
                .filter(|(_, is)| is(&lower))
                .map(|(form, _)| format!("{form}: {text}")),
        );
    }
    faults
}

#[tokio::test]
async fn no_statement_has_a_form_that_a_distributed_postgres_refuses() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    let user_id = make(&mut client).await;
    read(&mut client, user_id).await;
    change(&mut client, user_id).await;
    administer(&app, &mut client, user_id).await;
    let Some(sent) = statements::sent_to(&app.database).await else {
        return eprintln!("this Postgres does not write statements down: none is looked at");
    };
    let sent: BTreeSet<String> = sent.into_iter().chain(gathered(&app).await).collect();

    for table in [
        "users",
        "accounts",
        "unique_values",
        "field_values",
        "idempotency",
        "codes",
        "outbox",
        "limits",
    ] {
        assert!(
            sent.iter().any(|text| text.contains(table)),
            "nothing was sent to {table}"
        );
    }
    assert_eq!(faults(&sent), Vec::<String>::new());
    assert!(
        sent.iter().any(|text| text.contains("add_number(")),
        "no number was added by the statement itself"
    );
    let changing = changing_functions(&app).await;
    let calls = |text: &&String| {
        changed(text).is_some_and(|set| {
            changing
                .iter()
                .any(|name| set.contains(&format!("{name}(")))
        })
    };
    assert_eq!(
        sent.iter().filter(calls).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "{changing:?} are not IMMUTABLE"
    );
}

/// The functions of the schema that are not IMMUTABLE.
async fn changing_functions(app: &TestApp) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(&app.database.url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let text = "select proname::text from pg_proc where pronamespace = 'public'::regnamespace and provolatile <> 'i'";
    client
        .query(text, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Those that are not sent through Diesel.
async fn gathered(app: &TestApp) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(&app.database.url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let held = Statements::prepare(&client).await.unwrap();
    let texts = statements::prepared(&client)
        .await
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    drop(held);
    texts
}

#[test]
fn refused_forms_are_known() {
    let examples = [
        "select u.user_id from users u where u.user_id = any($1) for update",
        "select u.* from unique_values k join users u on u.user_id = k.user_id where k.kind = $1",
        "select count(*) from users u where u.user_id = (select k.user_id from unique_values k where k.kind = $1)",
        "select 1 from users u where ((u.user_id in (select f.user_id from field_values f) and true) or u.gender = $1)",
        "select 1 from users u where (u.user_id in (select f.user_id from field_values f)) is not true",
        "update users u set custom_fields = u.custom_fields || jsonb_build_object($1, $2) where u.user_id = $3",
        "insert into limits (key) values ($1) on conflict (key) do update set expires_at = now() + interval '1 day'",
        "update users u set custom_fields = to_jsonb(u.version) where u.user_id = $1",
        "merge into users using given on true when matched then delete",
        "select * from (select 1 from users offset 0) f",
        "with c as (update users set version = 1 returning user_id) insert into outbox (user_id) select * from c",
    ];
    for text in examples {
        assert_eq!(
            faults(&BTreeSet::from([text.to_owned()])).len(),
            1,
            "{text}"
        );
    }
    let fine = "select 1 from users u where u.user_id in (select f.user_id from field_values f) and (false or u.gender = 1)";
    assert_eq!(
        faults(&BTreeSet::from([fine.to_owned()])),
        Vec::<String>::new()
    );
}

async fn make(client: &mut Client) -> i64 {
    for (name, field_type, item, indexed, unique) in [
        (
            "level",
            pb::FieldType::Integer,
            pb::FieldType::Unspecified,
            true,
            false,
        ),
        (
            "tags",
            pb::FieldType::Array,
            pb::FieldType::String,
            true,
            false,
        ),
        (
            "card",
            pb::FieldType::String,
            pb::FieldType::Unspecified,
            false,
            true,
        ),
        (
            "note",
            pb::FieldType::String,
            pb::FieldType::Unspecified,
            false,
            false,
        ),
        (
            "since",
            pb::FieldType::Date,
            pb::FieldType::Unspecified,
            true,
            false,
        ),
    ] {
        let (r#type, item_type) = (field_type.into(), item.into());
        let field = pb::FieldDefinition {
            name: name.to_owned(),
            r#type,
            item_type,
            indexed,
            unique,
            ..Default::default()
        };
        client.create_field(field).await.unwrap();
    }
    let mut request = person("王芳");
    request.account = Some(pb::Account {
        username: Some("wang.fang".to_owned()),
        email: Some("wang@example.com".to_owned()),
        email_verified: true,
        phone: Some("+12025550123".to_owned()),
        ..Default::default()
    });
    request.password = "a long enough phrase".to_owned();
    request.request_id = uuid::Uuid::new_v4().to_string();
    client.create(person("other")).await.unwrap();
    client.create(request).await.unwrap().user_id
}

async fn read(client: &mut Client, user_id: i64) {
    client.get(user_id).await.unwrap();
    client
        .get_by(Key::Email("wang@example.com".to_owned()))
        .await
        .unwrap();
    let keys = [
        pb::profile_key::Key::UserId(user_id),
        pb::profile_key::Key::Username("wang.fang".to_owned()),
    ];
    let read_mask = Some(prost_types::FieldMask {
        paths: vec!["account".to_owned()],
    });
    let keys = keys
        .into_iter()
        .map(|key| pb::ProfileKey { key: Some(key) })
        .collect();
    client
        .users
        .batch_get_profiles(pb::BatchGetProfilesRequest { keys, read_mask })
        .await
        .unwrap();
    for (filter, order_by) in [
        (json!({}), ""),
        (
            json!({ "level": 3, "nickname": { "$contains": "王" } }),
            "-level,nickname",
        ),
        (json!({ "level": { "$gte": 1 } }), ""),
        (json!({ "tags": { "$all": ["a"] } }), ""),
        (
            json!({ "since": { "$lt": "2025-01-01T00:00:00Z" }, "updated_at": { "$gt": 0 } }),
            "-updated_at",
        ),
        (
            json!({ "$or": [{ "username": "wang.fang" }, { "email": { "$in": ["a@example.com"] } }] }),
            "created_at",
        ),
        (
            json!({ "$or": [{ "level": 3 }, { "tags": "a" }, { "$not": { "phone": "+12025550123" } }] }),
            "",
        ),
        (
            json!({ "$not": { "group_ids": 258 }, "created_at": { "$gte": 0 } }),
            "user_id",
        ),
        (
            json!({ "last_login_at": { "$in": [1, 2] } }),
            "created_at desc",
        ),
    ] {
        let read_mask = Some(prost_types::FieldMask {
            paths: vec!["account".to_owned(), "nickname".to_owned()],
        });
        let mut request = pb::ListProfilesRequest {
            filter: Some(object(filter)),
            read_mask,
            ..Default::default()
        };
        (
            request.order_by,
            request.page_size,
            request.return_total_size,
        ) = (order_by.to_owned(), 1, true);
        let page = client
            .users
            .list_profiles(request.clone())
            .await
            .unwrap()
            .into_inner();
        request.page_token = page.next_page_token;
        client.users.list_profiles(request).await.unwrap();
    }
}

async fn change(client: &mut Client, user_id: i64) {
    for change in [
        json!({ "note": "a" }),
        json!({ "level": { "$incr_by": 1 } }),
        json!({ "level": { "$incr_by": 1 }, "tags": { "$append": ["a"] } }),
        json!({ "card": "c-1", "since": "2024-01-01T00:00:00Z" }),
    ] {
        client.change(user_id, change.clone()).await.unwrap();
        let request = pb::BulkUpdateFieldsRequest {
            filter: Some(object(
                json!({ "username": "wang.fang", "level": { "$gte": 0 } }),
            )),
            custom_fields: Some(object(change)),
            add_group_ids: vec![258],
            remove_group_ids: vec![77],
            return_total_size: true,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        client.users.bulk_update_fields(request).await.unwrap();
    }
    let request = pb::UpdateProfileRequest {
        user_id,
        profile: Some(pb::Profile {
            openid: Some("o-1".to_owned()),
            gender: 1,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["openid".to_owned(), "gender".to_owned()],
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    client.users.update_profile(request).await.unwrap();
    let groups = pb::UpdateProfileRequest {
        user_id,
        add_group_ids: vec![9],
        ..Default::default()
    };
    client.users.update_profile(groups).await.unwrap();
    let request = pb::UpdateAccountRequest {
        user_id,
        account: Some(pb::Account {
            email: Some("new@example.com".to_owned()),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["email".to_owned()],
        }),
        new_password: "another long phrase".to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    client.users.update_account(request).await.unwrap();
}

async fn revoke_all(app: &TestApp, client: &mut Client, user_id: i64) {
    let issue = pb::IssueTokenRequest {
        subject: Some(pb::issue_token_request::Subject::Service(
            "orders".to_owned(),
        )),
        scopes: vec!["sessions.write".to_owned()],
        request_id: "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b".to_owned(),
        ..Default::default()
    };
    client.admin.issue_token(issue.clone()).await.unwrap();
    let orders = client
        .admin
        .issue_token(issue)
        .await
        .unwrap()
        .into_inner()
        .secret;
    let subject = Some(pb::issue_token_request::Subject::UserId(user_id));
    let session = pb::IssueTokenRequest {
        subject,
        ..Default::default()
    };
    app.client(&orders)
        .admin
        .issue_token(session)
        .await
        .unwrap();
    for subject in [
        pb::revoke_tokens_request::Subject::Service("orders".to_owned()),
        pb::revoke_tokens_request::Subject::UserId(user_id),
    ] {
        client
            .admin
            .revoke_tokens(pb::RevokeTokensRequest {
                subject: Some(subject),
            })
            .await
            .unwrap();
    }
}

async fn administer(app: &TestApp, client: &mut Client, user_id: i64) {
    let request = pb::SendEmailCodeRequest {
        user_id,
        purpose: pb::CodePurpose::Bind.into(),
        email: "third@example.com".to_owned(),
        ..Default::default()
    };
    let sent = client
        .users
        .send_email_code(request)
        .await
        .unwrap()
        .into_inner();
    let delivery = pb::GetDeliveryRequest {
        delivery_id: sent.delivery_id,
    };
    client.admin.get_delivery(delivery).await.unwrap();
    let link = pb::LinkConnectionRequest {
        user_id,
        provider: "example".to_owned(),
        subject: "s-1".to_owned(),
        ..Default::default()
    };
    client.admin.link_connection(link).await.unwrap();
    let mut own = app.user(user_id).await;
    own.get(user_id).await.unwrap();
    let tokens = pb::ListTokensRequest {
        subject: Some(pb::list_tokens_request::Subject::UserId(user_id)),
        ..Default::default()
    };
    let listed = client.admin.list_tokens(tokens).await.unwrap().into_inner();
    client
        .admin
        .revoke_token(pb::RevokeTokenRequest {
            token_id: listed.tokens[0].token_id,
        })
        .await
        .unwrap();
    revoke_all(app, client, user_id).await;
    client
        .admin
        .delete_field(pb::DeleteFieldRequest {
            name: "note".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    app.clock.advance(chrono::TimeDelta::hours(1));
    while app.app.field_worker.step().await.unwrap() {}
    client
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id,
            ..Default::default()
        })
        .await
        .unwrap();
}
