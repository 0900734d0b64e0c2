//! ImportUsers: the stream, its responses in order, validation of every user, and what a repeat
//! does.

use tokio_stream::StreamExt;
use user_service::convert::pb;

use crate::support::{Client, TestApp, person};

async fn import(
    client: &mut Client,
    users: Vec<pb::CreateUserRequest>,
) -> Vec<pb::ImportUsersResponse> {
    let requests = users
        .into_iter()
        .map(|user| pb::ImportUsersRequest { user: Some(user) });
    let answers = client
        .admin
        .import_users(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    answers.map(|answer| answer.unwrap()).collect().await
}

fn named(username: &str) -> pb::CreateUserRequest {
    let account = pb::Account {
        username: Some(username.to_owned()),
        ..Default::default()
    };
    pb::CreateUserRequest {
        account: Some(account),
        ..person("imported")
    }
}

#[tokio::test]
async fn import_answers_batch_by_batch_and_tells_each_fault_with_its_place() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut users: Vec<_> = (0..1200)
        .map(|number| named(&format!("import.{number}")))
        .collect();
    users[700] = named("IMPORT.3");
    users[900] = named("no");

    let answers = import(&mut client, users).await;

    assert_eq!(answers.len(), 3);
    let failures: Vec<_> = answers.iter().flat_map(|answer| &answer.failures).collect();
    let told: Vec<_> = failures
        .iter()
        .map(|f| (f.index, f.reason.as_str(), f.field.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (700, "USERNAME_TAKEN", "account.username"),
            (900, "INVALID_REQUEST", "account.username")
        ]
    );
    assert_eq!(
        answers.iter().map(|answer| answer.created).sum::<i64>(),
        1198
    );
    assert_eq!(answers.last().unwrap().next_index, 1200);
}

#[tokio::test]
async fn p20_users_that_are_sent_twice_stand_once() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let users: Vec<_> = (0..600_u128)
        .map(|number| pb::CreateUserRequest {
            request_id: uuid::Uuid::from_u128(number + 1).to_string(),
            ..person("imported")
        })
        .collect();

    import(&mut client, users.clone()).await;
    let again = import(&mut client, users).await;

    assert_eq!(again.iter().map(|answer| answer.created).sum::<i64>(), 600);
    let request = pb::ListProfilesRequest {
        return_total_size: true,
        ..Default::default()
    };
    assert_eq!(
        client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner()
            .total_size,
        Some(600)
    );
}

fn with_id(user_id: i64, mut user: pb::CreateUserRequest) -> pb::CreateUserRequest {
    user.profile.as_mut().unwrap().user_id = user_id;
    user
}

/// Reasons by place.
fn refused(answers: &[pb::ImportUsersResponse]) -> Vec<(i64, &str)> {
    let failures = answers.iter().flat_map(|answer| &answer.failures);
    failures
        .map(|failure| (failure.index, failure.reason.as_str()))
        .collect()
}

#[tokio::test]
async fn who_comes_first_in_a_batch_gets_an_id_and_a_name_and_who_fails_holds_none() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .admin
        .create_user(with_id(7000, named("holder")))
        .await
        .unwrap();

    let answers = import(
        &mut client,
        vec![
            with_id(7001, named("anybody")),
            with_id(7001, named("another")),
            named("ANYBODY"),
            with_id(7000, named("second")),
            with_id(7002, named("holder")),
            with_id(7002, named("second")),
            person("nameless"),
            named("another"),
        ],
    )
    .await;

    assert_eq!(
        refused(&answers),
        [
            (1, "USER_ID_TAKEN"),
            (2, "USERNAME_TAKEN"),
            (3, "USER_ID_TAKEN"),
            (4, "USERNAME_TAKEN")
        ]
    );
    assert_eq!(answers[0].created, 4);
    let request = pb::ListProfilesRequest {
        return_total_size: true,
        ..Default::default()
    };
    assert_eq!(
        client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner()
            .total_size,
        Some(5)
    );
}

#[tokio::test]
async fn an_id_that_was_erased_is_refused_in_a_batch_and_drawn_by_none() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .admin
        .create_user(with_id(7100, person("gone")))
        .await
        .unwrap();
    client
        .admin
        .delete_user(pb::DeleteUserRequest {
            user_id: 7100,
            ..Default::default()
        })
        .await
        .unwrap();

    let users = vec![
        with_id(7100, person("again")),
        person("drawn"),
        with_id(7200, person("later")),
        person("drawn"),
    ];
    let answers = import(&mut client, users).await;

    assert_eq!(refused(&answers), [(0, "USER_ID_TAKEN")]);
    let request = pb::ListProfilesRequest::default();
    let page = client
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner()
        .profiles;
    let mut ids: Vec<i64> = page.iter().map(|profile| profile.user_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [7101, 7102, 7200]);
}

#[tokio::test]
async fn an_id_that_is_drawn_is_none_that_the_batch_brings() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    // The first that a new database draws.
    let answers = import(
        &mut client,
        vec![with_id(1, person("first")), person("drawn")],
    )
    .await;

    assert_eq!(refused(&answers), []);
    assert_eq!(answers[0].created, 2);
}

#[tokio::test]
async fn p20_a_request_id_twice_in_one_batch_makes_one_user() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let request_id = uuid::Uuid::from_u128(1).to_string();
    let once = |nickname| pb::CreateUserRequest {
        request_id: request_id.clone(),
        ..person(nickname)
    };

    let answers = import(
        &mut client,
        vec![once("same"), once("same"), once("another")],
    )
    .await;

    assert_eq!(refused(&answers), [(2, "REQUEST_ID_REUSED")]);
    let request = pb::ListProfilesRequest {
        return_total_size: true,
        ..Default::default()
    };
    assert_eq!(
        client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner()
            .total_size,
        Some(1)
    );
}

#[tokio::test]
async fn p30_imports_of_the_same_names_at_the_same_time_give_each_to_one() {
    let app = TestApp::new().await;
    // Each in another order, so that who locked one after another would meet others in deadlocks.
    let imports = (0..4).map(|turn| {
        let app = &app;
        async move {
            let mut client = app.service().await;
            let users =
                (0..300).map(|number| named(&format!("wanted.{}", (number * 7 + turn * 61) % 300)));
            import(&mut client, users.collect()).await
        }
    });

    let answers = futures_util::future::join_all(imports).await;

    let created: i64 = answers.iter().flatten().map(|answer| answer.created).sum();
    assert_eq!(created, 300);
    let reasons: Vec<_> = answers
        .iter()
        .flat_map(|answers| refused(answers))
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(reasons.len(), 900);
    assert!(
        reasons.iter().all(|reason| *reason == "USERNAME_TAKEN"),
        "{reasons:?}"
    );
}
