use tokio_stream::StreamExt;
use user_service::wire::pb;

use crate::support::{Client, TestApp, person};

async fn import(client: &mut Client, users: Vec<pb::CreateUserRequest>) -> Vec<pb::ImportUsersResponse> {
    let requests = users.into_iter().map(|user| pb::ImportUsersRequest { user: Some(user) });
    let answers = client.admin.import_users(tokio_stream::iter(requests)).await.unwrap().into_inner();
    answers.map(|answer| answer.unwrap()).collect().await
}

fn named(username: &str) -> pb::CreateUserRequest {
    let account = pb::Account { username: Some(username.to_owned()), ..Default::default() };
    pb::CreateUserRequest { account: Some(account), ..person("imported") }
}

#[tokio::test]
async fn import_answers_batch_by_batch_and_tells_each_fault_with_its_place() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut users: Vec<_> = (0..1200).map(|number| named(&format!("import.{number}"))).collect();
    users[700] = named("IMPORT.3");
    users[900] = named("no");

    let answers = import(&mut client, users).await;

    assert_eq!(answers.len(), 3);
    let failures: Vec<_> = answers.iter().flat_map(|answer| &answer.failures).collect();
    let told: Vec<_> = failures.iter().map(|f| (f.index, f.reason.as_str(), f.field.as_str())).collect();
    assert_eq!(told, [(700, "USERNAME_TAKEN", "account.username"), (900, "INVALID_REQUEST", "account.username")]);
    assert_eq!(answers.iter().map(|answer| answer.created).sum::<i64>(), 1198);
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
    let request = pb::ListProfilesRequest { return_total_size: true, ..Default::default() };
    assert_eq!(client.users.list_profiles(request).await.unwrap().into_inner().total_size, Some(600));
}
