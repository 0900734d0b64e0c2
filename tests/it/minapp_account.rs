//! What minapp's account endpoint needs (its rules are those of an operator's service token).

use tonic::Code;
use user_service::convert::pb;

use crate::support::{Asks, TestApp, fault, given, named};

#[tokio::test]
async fn minapp_sets_all_or_nothing_and_the_flags_fall() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;
    app.join(given("taken@example.org", ""), "").await;

    let asks = Asks::username("ifanrx")
        .and(Asks::phone("+8613900139000"))
        .and(Asks::password("amber-harbour-51"));
    let taken = fault(
        service
            .update(
                asks.clone()
                    .and(Asks::email("Taken@Example.org"))
                    .of(user_id),
            )
            .await,
    );
    let untouched = service.account(user_id).await;
    let set = service
        .update(asks.and(Asks::email("New@Example.org")).of(user_id))
        .await
        .unwrap();

    assert_eq!(
        (taken.code, taken.told()),
        (Code::AlreadyExists, ("EMAIL_TAKEN", vec!["account.email"]))
    );
    assert_eq!((untouched.username, untouched.has_password), (None, false));
    assert_eq!(
        (set.email_verified, set.phone_verified, set.has_password),
        (false, false, true)
    );
}

#[tokio::test]
async fn minapp_the_same_value_again_is_no_conflict_and_keeps_its_flag() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;
    service
        .update(Asks::username("ifanrx").of(user_id))
        .await
        .unwrap();

    let asks = Asks::username("IFanrX")
        .and(Asks::email("ANN@example.org"))
        .and(Asks::phone("+8613800138000"));
    let again = service.update(asks.of(user_id)).await.unwrap();

    assert_eq!(
        (again.username.as_deref(), again.email.as_deref()),
        (Some("IFanrX"), Some("ANN@example.org"))
    );
    assert!(again.email_verified && again.phone_verified);
}

#[tokio::test]
async fn minapp_null_clears_value_and_flag_and_absent_stays() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app
        .join(given("ann@example.org", "+8613800138000"), "")
        .await;
    service
        .update(Asks::username("ifanrx").of(user_id))
        .await
        .unwrap();

    let asks = Asks(named(pb::Account::default(), &["email", "phone"])).of(user_id);
    let cleared = service.update(asks).await.unwrap();

    assert_eq!((cleared.email, cleared.phone), (None, None));
    assert_eq!(
        (cleared.email_verified, cleared.phone_verified),
        (false, false)
    );
    assert_eq!(cleared.username.as_deref(), Some("ifanrx"));
}

#[tokio::test]
async fn minapp_many_users_have_no_name() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    for number in 0..3 {
        let (user_id, _) = app
            .join(given("", &format!("+861380013800{number}")), "")
            .await;
        service
            .update(Asks::username("ifanrx").of(user_id))
            .await
            .unwrap();
        service
            .update(Asks::clear("username").of(user_id))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn minapp_no_other_casing_of_a_name_or_an_email_is_free() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let account = pb::Account {
        username: Some("ifanrx".to_owned()),
        ..given("Ann@Bücher.Example", "")
    };
    app.join(account, "").await;
    let (other, _) = app.join(given("", "+8613800138000"), "").await;

    for name in ["IFANRX", "iFanrX", "ｉｆａｎｒｘ"] {
        assert_eq!(
            fault(service.update(Asks::username(name).of(other)).await).reason,
            "USERNAME_TAKEN",
            "{name}"
        );
    }
    for email in ["ANN@BÜCHER.example", "ann@xn--bcher-kva.example"] {
        assert_eq!(
            fault(service.update(Asks::email(email).of(other)).await).reason,
            "EMAIL_TAKEN",
            "{email}"
        );
    }
}

#[tokio::test]
async fn minapp_bad_forms_and_unknown_users() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (user_id, _) = app.join(given("ann@example.org", ""), "").await;

    let mail = fault(service.update(Asks::email("ann@").of(user_id)).await);
    let phone = fault(service.update(Asks::phone("13800138000").of(user_id)).await);
    let unknown = fault(
        service
            .update(Asks::username("ifanrx").of(user_id + 1))
            .await,
    );

    assert_eq!(
        mail.fields,
        [("account.email".to_owned(), "FIELD_FORMAT".to_owned())]
    );
    assert_eq!(
        phone.fields,
        [("account.phone".to_owned(), "FIELD_FORMAT".to_owned())]
    );
    assert_eq!(
        (unknown.code, unknown.resource),
        (Code::NotFound, Some(format!("users/{}", user_id + 1)))
    );
}
