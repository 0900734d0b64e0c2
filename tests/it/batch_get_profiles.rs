//! BatchGetProfiles: any mixture of keys, in request order, within the size of a response.

use futures_util::future::join_all;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};
use user_service::{
    convert::pb::{self, profile_key::Key},
    model::scope::Scope,
};

use crate::support::{Client, TestApp, fault, member, person};

const MAX_BYTES: usize = 3 * 1024 * 1024;

fn request(keys: Vec<Key>, mask: &[&str]) -> pb::BatchGetProfilesRequest {
    let paths: Vec<String> = mask.iter().map(|&path| path.to_owned()).collect();
    pb::BatchGetProfilesRequest {
        keys: keys
            .into_iter()
            .map(|key| pb::ProfileKey { key: Some(key) })
            .collect(),
        read_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
    }
}

async fn batch(
    client: &mut Client,
    keys: Vec<Key>,
) -> Result<pb::BatchGetProfilesResponse, Status> {
    Ok(client
        .users
        .batch_get_profiles(request(keys, &[]))
        .await?
        .into_inner())
}

/// The ids of a response's profiles, in its order.
fn ids(response: &pb::BatchGetProfilesResponse) -> Vec<Option<i64>> {
    response
        .results
        .iter()
        .map(|result| result.profile.as_ref().map(|profile| profile.user_id))
        .collect()
}

fn by_id(user_ids: impl IntoIterator<Item = i64>) -> Vec<Key> {
    user_ids.into_iter().map(Key::UserId).collect()
}

/// A user with a value of every kind of key.
async fn full_user(client: &mut Client) -> i64 {
    let mut request = member(pb::Account {
        username: Some("Ann.Example".to_owned()),
        email: Some("Ann@Bücher.example".to_owned()),
        phone: Some("+8613800138000".to_owned()),
        ..Default::default()
    });
    let profile = request.profile.get_or_insert_default();
    (profile.openid, profile.unionid) = (Some("open-1".to_owned()), Some("union-1".to_owned()));
    let user_id = client.create(request).await.unwrap().user_id;
    client.link(user_id, "github", "ann-7").await.unwrap();
    user_id
}

fn github(subject: &str) -> Key {
    Key::Connection(pb::ConnectionKey {
        provider: "github".to_owned(),
        subject: subject.to_owned(),
    })
}

#[tokio::test]
async fn p68_results_are_in_the_order_of_keys_of_every_kind() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = full_user(&mut client).await;
    let ben = client.create_named("Ben").await.user_id;
    let gone = client.create_named("Gone").await.user_id;
    client
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id: gone,
            ..Default::default()
        })
        .await
        .unwrap();

    let keys = vec![
        (Key::UserId(ben), Some(ben)),
        (Key::Username("ANN.EXAMPLE".to_owned()), Some(ann)),
        (Key::Username("nobody.here".to_owned()), None),
        (
            Key::Email("ann@XN--BCHER-KVA.example".to_owned()),
            Some(ann),
        ),
        (Key::UserId(gone), None),
        (Key::Phone("+8613800138000".to_owned()), Some(ann)),
        (Key::Phone("not a number".to_owned()), None),
        (Key::Openid("open-1".to_owned()), Some(ann)),
        (Key::Openid("union-1".to_owned()), None),
        (Key::UserId(i64::MAX), None),
        (Key::Unionid("union-1".to_owned()), Some(ann)),
        (github("ann-7"), Some(ann)),
        (github("x".repeat(5000).as_str()), None),
        (Key::UserId(ben), Some(ben)),
    ];
    let expected: Vec<Option<i64>> = keys.iter().map(|(_, user_id)| *user_id).collect();
    let found = batch(&mut client, keys.into_iter().map(|(key, _)| key).collect())
        .await
        .unwrap();

    assert_eq!((ids(&found), found.next_key_index), (expected, 0));
    let single = client.get(ann).await.unwrap();
    assert_eq!(
        found.results[1].profile.as_ref(),
        Some(&single),
        "it is what GetProfile gives"
    );
}

#[tokio::test]
async fn p68_five_hundred_keys_of_which_many_repeat() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(client.create_named(&format!("user {number}")).await.user_id);
    }
    let wanted: Vec<i64> = (0..500)
        .map(|place| made.get(place % 9).copied().unwrap_or(1 << 60))
        .collect();

    let found = batch(&mut client, by_id(wanted.clone())).await.unwrap();

    let expected: Vec<Option<i64>> = wanted
        .into_iter()
        .map(|user_id| Some(user_id).filter(|id| *id < 1 << 60))
        .collect();
    assert_eq!((ids(&found), found.next_key_index), (expected, 0));
}

#[tokio::test]
async fn p68_every_malformed_key_is_reported_with_its_path() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = client.create_named("Ann").await.user_id;

    let mut mixed = request(
        vec![
            Key::UserId(ann),
            Key::UserId(0),
            Key::UserId(-4),
            Key::Email(String::new()),
            Key::Openid("a\0b".to_owned()),
            Key::Connection(pb::ConnectionKey {
                provider: String::new(),
                subject: "a\0".to_owned(),
            }),
        ],
        &["nickname", "nikname"],
    );
    mixed.keys.push(pb::ProfileKey { key: None });
    let mixed = fault(client.users.batch_get_profiles(mixed).await);
    let none = fault(batch(&mut client, Vec::new()).await);
    let most = batch(&mut client, by_id(vec![ann; 500])).await.unwrap();
    let many = fault(batch(&mut client, by_id(vec![0; 501])).await);

    let violation = |path: &str, reason: &str| (path.to_owned(), reason.to_owned());
    assert_eq!(
        (mixed.code, mixed.reason.as_str()),
        (Code::InvalidArgument, "INVALID_REQUEST")
    );
    assert_eq!(
        mixed.fields,
        [
            violation("keys[1].user_id", "FIELD_REQUIRED"),
            violation("keys[2].user_id", "FIELD_RANGE"),
            violation("keys[3].email", "FIELD_REQUIRED"),
            violation("keys[4].openid", "FIELD_FORMAT"),
            violation("keys[5].connection.provider", "FIELD_REQUIRED"),
            violation("keys[5].connection.subject", "FIELD_FORMAT"),
            violation("keys[6]", "FIELD_REQUIRED"),
            violation("read_mask", "UNKNOWN_FIELD"),
        ]
    );
    assert_eq!(none.fields, [violation("keys", "FIELD_REQUIRED")]);
    assert_eq!(most.results.len(), 500);
    assert_eq!(many.fields, [violation("keys", "FIELD_LENGTH")]);
}

#[tokio::test]
async fn p68_permissions_go_before_validation() {
    let app = TestApp::new().await;
    let ann = full_user(&mut app.service().await).await;
    let mut reader = app.service_with(&[Scope::ProfilesRead]).await;
    let mut writer = app
        .service_with(&[Scope::ProfilesWrite, Scope::AccountsRead])
        .await;
    let mut user = app.user(ann).await;

    let plain = vec![
        Key::UserId(ann),
        Key::Openid("open-1".to_owned()),
        Key::Unionid("none".to_owned()),
    ];
    assert_eq!(
        ids(&batch(&mut reader, plain.clone()).await.unwrap()),
        [Some(ann), Some(ann), None]
    );
    for key in [
        Key::Username("ann.example".to_owned()),
        Key::Email(String::new()),
        Key::Phone("+8613800138000".to_owned()),
        github("ann-7"),
    ] {
        let refused = fault(batch(&mut reader, vec![Key::UserId(-1), key]).await);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::PermissionDenied, "SCOPE_MISSING")
        );
        assert_eq!(refused.metadata["requiredScope"], "accounts.read");
    }
    for mask in ["account", "account.email"] {
        let refused = fault(
            reader
                .users
                .batch_get_profiles(request(by_id([0]), &[mask]))
                .await,
        );
        assert_eq!(refused.metadata["requiredScope"], "accounts.read");
    }
    for refused in [
        batch(&mut writer, plain.clone()).await,
        batch(&mut user, plain).await,
    ] {
        assert_eq!(fault(refused).metadata["requiredScope"], "profiles.read");
    }
}

#[tokio::test]
async fn p68_the_mask_holds_for_every_profile_and_the_accounts_are_their_own() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let ann = full_user(&mut client).await;
    let ben = client
        .create(member(pb::Account {
            username: Some("ben.stone".to_owned()),
            ..Default::default()
        }))
        .await;
    let ben = ben.unwrap().user_id;

    let request = request(
        by_id([ben, 404, ann, ben]),
        &["nickname", "account.username", "account.connections"],
    );
    let found = client
        .users
        .batch_get_profiles(request)
        .await
        .unwrap()
        .into_inner();

    let shown: Vec<_> = found
        .results
        .iter()
        .map(|result| {
            let profile = result.profile.as_ref()?;
            let account = profile.account.as_ref().unwrap();
            assert!(!profile.etag.is_empty() && profile.user_id == 0 && account.email.is_none());
            Some((
                account.username.as_deref().unwrap(),
                account.connections.len(),
            ))
        })
        .collect();
    assert_eq!(
        shown,
        [
            Some(("ben.stone", 0)),
            None,
            Some(("Ann.Example", 1)),
            Some(("ben.stone", 0))
        ]
    );
}

#[tokio::test]
async fn p68_a_large_response_ends_early_and_goes_on_from_the_next_key() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for name in ["a", "b", "c"] {
        let field = pb::FieldDefinition {
            name: name.to_owned(),
            r#type: pb::FieldType::String.into(),
            ..Default::default()
        };
        client.create_field(field).await.unwrap();
    }
    let large = client.create_named("Large").await.user_id;
    let text = "x".repeat(16_000);
    client
        .change(large, json!({ "a": text, "b": text, "c": text }))
        .await
        .unwrap();
    let size = client.get(large).await.unwrap().encoded_len();
    let keys: Vec<i64> = (0..300)
        .map(|place| if place % 3 == 2 { 1 << 50 } else { large })
        .collect();

    for mask in [vec![], vec!["custom_fields", "user_id", "account"]] {
        let (mut found, mut calls) = (Vec::new(), 0);
        loop {
            let request = request(by_id(keys[found.len()..].to_vec()), &mask);
            let part = client
                .users
                .batch_get_profiles(request)
                .await
                .unwrap()
                .into_inner();
            assert!(part.encoded_len() <= MAX_BYTES, "{}", part.encoded_len());
            assert!(!part.results.is_empty());
            calls += 1;
            found.extend(ids(&part));
            if part.next_key_index == 0 {
                break;
            }
            assert!(
                part.encoded_len() + size + 16 > MAX_BYTES,
                "it ends when it is full, not before"
            );
            assert_eq!(part.next_key_index as usize, part.results.len());
        }
        let expected: Vec<Option<i64>> = keys
            .iter()
            .map(|id| Some(*id).filter(|id| *id == large))
            .collect();
        assert_eq!(found, expected);
        assert!(calls > 3, "{calls}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p68_a_batch_sees_every_write_that_ended_before_it() {
    const USERS: usize = 40;
    let here = TestApp::new().await;
    let there = here.replica().await;
    let mut writer = here.service().await;
    let reader = there.service().await;
    let mut made = Vec::new();
    for number in 0..USERS {
        let mut person = person(&format!("reader {number}"));
        person.profile.as_mut().unwrap().openid = Some(format!("open-{number}"));
        made.push(writer.create(person).await.unwrap().user_id);
    }

    // Single reads and batches of every size share statements.
    let rounds = (0..60_usize).map(|round| {
        let (mut writer, mut reader, made) = (writer.clone(), reader.clone(), made.clone());
        async move {
            let place = round % USERS;
            let nickname = format!("round {round}");
            let mut written = None;
            if round < USERS {
                written = Some(writer.rename(made[place], &nickname).await.unwrap().etag);
            }
            let count = [1, 7, 33, 150, 500][round % 5];
            let keys = (0..count).map(|at| match at % 3 {
                0 => Key::UserId(made[(place + at) % USERS]),
                1 => Key::Openid(format!("open-{}", (place + at) % USERS)),
                _ => Key::Openid(format!("none-{at}")),
            });
            let mut single = reader.clone();
            let (found, single) =
                tokio::join!(batch(&mut reader, keys.collect()), single.get(made[place]));
            let (found, single) = (found.unwrap(), single.unwrap());
            let expected: Vec<Option<i64>> = (0..count)
                .map(|at| Some(made[(place + at) % USERS]).filter(|_| at % 3 != 2))
                .collect();
            assert_eq!(ids(&found), expected);
            if let Some(etag) = written {
                assert_eq!(found.results[0].profile.as_ref().unwrap().etag, etag);
                assert_eq!(single.nickname, nickname);
            }
        }
    });
    join_all(rounds).await;
}
