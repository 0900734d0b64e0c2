//! Request ids of UpdateAccount and of codes: whatever becomes of a reply, a change is made once.

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use tonic::Status;
use user_service::convert::pb;

use crate::support::{
    Asks, Client, TestApp, fault, given,
    rest::{Caller, make_user},
    statements::until_waiting,
};

const ID: &str = "6d1b3c1e-3f8a-4b7e-9f39-1c2d3e4f5a6b";
const PASSWORD: &str = "violet-lantern-93";

#[tokio::test]
async fn p20_a_reply_that_was_lost_is_given_again_and_nothing_is_done_twice() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), PASSWORD).await;
    let etag = user.account(0).await.etag;
    let asks = Asks::password("amber-harbour-51")
        .current(PASSWORD)
        .at(&etag)
        .once(ID);

    // The client of this first call is gone before its answer is looked at.
    drop(user.clone().update(asks.clone()).await);
    let again = user.update(asks.clone()).await.unwrap();
    let reused = fault(user.update(asks.current("another")).await);

    assert_eq!(
        user.account(0).await,
        again,
        "the old password and etag were right the first time"
    );
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.password_changed"]
    );
    assert_eq!(reused.told(), ("REQUEST_ID_REUSED", vec!["request_id"]));
}

#[tokio::test]
async fn p20_ten_parallel_repeats_change_once() {
    let app = TestApp::new().await;
    let (_, mut user) = app.join(given("ann@example.org", ""), PASSWORD).await;
    let code = app.bind_code(&mut user, "+8613900139000").await;
    let of_code = Asks::phone("+8613900139000").new_code(&code).once(ID);
    let of_password = Asks::password("amber-harbour-51")
        .current(PASSWORD)
        .once("00000000-3f8a-4b7e-9f39-1c2d3e4f5a6b");

    for asks in [of_code, of_password] {
        let tries = (0..10).map(|_| {
            let (mut user, asks) = (user.clone(), asks.clone());
            async move { user.update(asks).await }
        });
        let mut replies = Vec::new();
        for answer in join_all(tries).await {
            match answer {
                Ok(reply) => replies.push(reply),
                Err(_) => assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS"),
            }
        }
        replies.push(user.update(asks).await.unwrap());
        assert!(
            replies.iter().all(|reply| *reply == replies[0]),
            "{replies:?}"
        );
    }
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.phone_changed", "notice.password_changed"]
    );
}

/// All answers that are replies are the same; the others tell that the request is under way.
fn assert_alike<T: std::fmt::Debug + PartialEq>(answers: Vec<Result<T, Status>>, reply: &T) {
    for answer in answers {
        match answer {
            Ok(answer) => assert_eq!(&answer, reply),
            Err(_) => assert_eq!(fault(answer).reason, "REQUEST_IN_PROGRESS"),
        }
    }
}

#[tokio::test]
async fn p20_parallel_repeats_on_two_replicas_change_once() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let (user_id, _) = app.join(given("ann@example.org", ""), PASSWORD).await;
    // One token, for a new password revokes the others.
    let token = app.user_token(user_id).await;
    let (mut user, there) = (app.client(&token), replica.client(&token));
    let clients = [user.clone(), there];
    let asks = Asks::password("amber-harbour-51")
        .current(PASSWORD)
        .at(&user.account(0).await.etag)
        .once(ID);

    let tries = clients.iter().cycle().take(10).map(|client| {
        let (mut client, asks) = (client.clone(), asks.clone());
        async move { client.update(asks).await }
    });
    let answers = join_all(tries).await;
    let reply = user.update(asks).await.unwrap();

    assert_alike(answers, &reply);
    assert_eq!(user.account(0).await, reply);
    assert_eq!(
        app.queued("ann@example.org").await,
        ["notice.password_changed"]
    );
}

#[tokio::test]
async fn p20_parallel_repeats_on_two_replicas_send_one_code() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let (user_id, user) = app.join(given("ann@example.org", ""), "").await;
    let clients = [user, replica.user(user_id).await];
    let request = pb::SendEmailCodeRequest {
        purpose: pb::CodePurpose::Bind.into(),
        email: "new@example.org".to_owned(),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let ask = async |mut client: Client| {
        Ok(client
            .users
            .send_email_code(request.clone())
            .await?
            .into_inner())
    };

    let answers = join_all(
        clients
            .iter()
            .cycle()
            .take(10)
            .map(|client| ask(client.clone())),
    )
    .await;
    let [here, there] = [
        ask(clients[0].clone()).await.unwrap(),
        ask(clients[1].clone()).await.unwrap(),
    ];

    assert_alike(answers, &here);
    assert_eq!(here, there);
    assert_eq!(app.queued("new@example.org").await, ["code.bind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_a_repeat_of_a_write_in_progress_is_told_so_on_every_replica() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let clients = [app.service().await, replica.service().await];
    let ann = clients[0].clone().create_named("Ann").await.user_id;
    let request = pb::UpdateProfileRequest {
        user_id: ann,
        profile: Some(pb::Profile {
            nickname: "Anna".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["nickname".to_owned()],
        }),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let rename = async |mut client: Client| {
        Ok(client
            .users
            .update_profile(request.clone())
            .await?
            .into_inner())
    };
    let (mut holder, mut watcher) = (app.database.connect().await, app.database.connect().await);
    holder
        .batch_execute(&format!(
            "begin; select from users where user_id = {ann} for update"
        ))
        .await
        .unwrap();

    let (mut first, sent) = (clients[0].clone(), request.clone());
    let first = tokio::spawn(async move { first.users.update_profile(sent).await });
    until_waiting(&mut watcher, 1).await;
    let repeats = [
        rename(clients[0].clone()).await,
        rename(clients[1].clone()).await,
    ];
    holder.batch_execute("rollback").await.unwrap();
    let first = first.await.unwrap().unwrap().into_inner();

    assert_eq!(
        repeats.map(|repeat| fault(repeat).reason),
        ["REQUEST_IN_PROGRESS"; 2]
    );
    for client in clients {
        assert_eq!(rename(client).await.unwrap(), first);
    }
}

#[tokio::test]
async fn p20_the_caller_of_a_request_is_the_service_and_not_its_token() {
    let app = TestApp::new().await;
    let (user_id, mut user) = app.join(given("ann@example.org", ""), "").await;
    let asks = Asks::username("ann.mixed").of(user_id).once(ID);
    let first = app.service().await.update(asks.clone()).await.unwrap();

    user.update(Asks::username("ann.other")).await.unwrap();
    let again = app.service().await.update(asks).await.unwrap();
    let of_user = user
        .update(Asks::username("ann.third").once(ID))
        .await
        .unwrap();

    assert_eq!(
        again, first,
        "another token of the same service gets the same reply"
    );
    assert_eq!(
        of_user.username.as_deref(),
        Some("ann.third"),
        "another caller's ids are others"
    );
}

#[tokio::test]
async fn p20_a_connection_is_linked_once() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, mut user) = app.join(given("ann@example.org", ""), PASSWORD).await;
    let request = pb::LinkConnectionRequest {
        user_id,
        provider: "github".to_owned(),
        subject: "7".to_owned(),
        display_name: "Ann".to_owned(),
        request_id: ID.to_owned(),
    };

    let tries = (0..10).map(|_| {
        let (mut client, request) = (service.clone(), request.clone());
        async move { Ok(client.admin.link_connection(request).await?.into_inner()) }
    });
    let answers = join_all(tries).await;
    let first = service
        .admin
        .link_connection(request.clone())
        .await
        .unwrap()
        .into_inner();
    let other = pb::LinkConnectionRequest {
        display_name: "Anna".to_owned(),
        ..request.clone()
    };
    let reused = fault(service.admin.link_connection(other).await);
    // The first response comes again although the connection is gone meanwhile.
    let connection_id = first.connection.as_ref().unwrap().connection_id;
    service
        .update(Asks::unlink(connection_id).of(user_id))
        .await
        .unwrap();
    let again = service
        .admin
        .link_connection(request)
        .await
        .unwrap()
        .into_inner();

    assert_alike(answers, &first);
    assert_eq!(reused.told(), ("REQUEST_ID_REUSED", vec!["request_id"]));
    assert_eq!(again, first);
    assert!(user.account(0).await.connections.is_empty());
}

#[tokio::test]
async fn p20_a_field_is_created_once() {
    let app = TestApp::new().await;
    let replica = app.replica().await;
    let mut clients = [app.service().await, replica.service().await];
    let field = pb::FieldDefinition {
        name: "level".to_owned(),
        r#type: pb::FieldType::Integer.into(),
        default_value: Some(user_service::convert::json::to_value(&serde_json::json!(1))),
        ..Default::default()
    };
    let request = pb::CreateFieldRequest {
        field: Some(field.clone()),
        request_id: ID.to_owned(),
    };

    let tries = clients.iter().cycle().take(10).map(|client| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { Ok(client.admin.create_field(request).await?.into_inner()) }
    });
    let answers = join_all(tries).await;
    let first = clients[0]
        .admin
        .create_field(request.clone())
        .await
        .unwrap()
        .into_inner();
    let other = pb::FieldDefinition {
        description: "another".to_owned(),
        ..field
    };
    let other = pb::CreateFieldRequest {
        field: Some(other),
        request_id: ID.to_owned(),
    };
    let reused = fault(clients[0].admin.create_field(other).await);
    let delete = pb::DeleteFieldRequest {
        name: "level".to_owned(),
        ..Default::default()
    };
    clients[0].admin.delete_field(delete).await.unwrap();
    let again = clients[1]
        .admin
        .create_field(request)
        .await
        .unwrap()
        .into_inner();

    assert_alike(answers, &first);
    assert_eq!(reused.told(), ("REQUEST_ID_REUSED", vec!["request_id"]));
    assert_eq!(
        again, first,
        "and creates nothing, although the field was deleted"
    );
}

#[tokio::test]
async fn p20_the_nil_uuid_is_no_request_id() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app.join(given("ann@example.org", ""), "").await;

    for nil in [
        "00000000-0000-0000-0000-000000000000",
        "00000000000000000000000000000000",
    ] {
        let created = pb::CreateUserRequest {
            request_id: nil.to_owned(),
            ..Default::default()
        };
        let renamed = pb::UpdateProfileRequest {
            user_id,
            request_id: nil.to_owned(),
            ..Default::default()
        };
        let linked = pb::LinkConnectionRequest {
            user_id,
            request_id: nil.to_owned(),
            ..Default::default()
        };
        let field = pb::CreateFieldRequest {
            request_id: nil.to_owned(),
            ..Default::default()
        };
        let deleted = pb::DeleteUserRequest {
            user_id,
            request_id: nil.to_owned(),
            ..Default::default()
        };
        let sent = pb::SendEmailCodeRequest {
            user_id,
            request_id: nil.to_owned(),
            ..Default::default()
        };
        let refused = [
            fault(service.admin.create_user(created).await),
            fault(service.users.update_profile(renamed).await),
            fault(
                service
                    .update(Asks::username("ann.mixed").of(user_id).once(nil))
                    .await,
            ),
            fault(service.admin.link_connection(linked).await),
            fault(service.admin.create_field(field).await),
            fault(service.admin.delete_user(deleted).await),
            fault(service.users.send_email_code(sent).await),
        ];
        for refused in refused {
            assert_eq!(refused.reason, "INVALID_REQUEST");
            assert!(
                refused
                    .fields
                    .contains(&("request_id".to_owned(), "FIELD_FORMAT".to_owned())),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn p20_requests_that_mean_the_same_are_one_request() {
    let app = TestApp::new().await;
    let service = Caller::service(&app).await;
    let field =
        |name: &str, kind: &str| serde_json::json!({ "field": { "name": name, "type": kind } });
    service
        .good("POST", "/v1/fields", field("visits", "FIELD_TYPE_INTEGER"))
        .await;
    service
        .good("POST", "/v1/fields", field("thing", "FIELD_TYPE_OBJECT"))
        .await;
    let path = format!("/v1/users/{}/profile", make_user(&service, "Ann").await);
    let body = |request_id: &str, mask: &str, custom: &str| {
        let profile = r#""profile": {"nickname": "Anna", "city": "Guangzhou"}"#;
        format!(
            r#"{{{profile}, "updateMask": "{mask}", "customFields": {custom}, "requestId": "{request_id}"}}"#
        )
    };
    let sorted = r#"{"thing": {"a": 1, "b": {"c": 2, "d": 3}}, "visits": {"$incr_by": 1}}"#;
    let other = r#"{"visits": {"$incr_by": 1}, "thing": {"b": {"d": 3, "c": 2}, "a": 1}}"#;

    let first = service
        .send("PATCH", &path, body(ID, "nickname,city", sorted))
        .await;
    let bare = ID.replace('-', "");
    for again in [
        body(&ID.to_uppercase(), "nickname,city", sorted),
        body(&bare, "city,nickname", sorted),
        body(&format!("{{{ID}}}"), "city,nickname", other),
        body(&format!("urn:uuid:{ID}"), "city,nickname,city", other),
    ] {
        let reply = service.send("PATCH", &path, again.clone()).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body),
            (200, &first.body),
            "{again}"
        );
    }
    let reused = service
        .send("PATCH", &path, body(ID, "nickname", sorted))
        .await;

    assert_eq!(first.body["profile"]["customFields"]["visits"], 1);
    assert_eq!(
        service.get(&path).await.body["profile"]["customFields"]["visits"],
        1
    );
    assert_eq!(reused.reason(), "REQUEST_ID_REUSED");
}
