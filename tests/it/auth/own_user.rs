//! A user's token acts on its own user alone, RPC by RPC.

use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use user_service::{
    convert::{
        POOL, SERVICES,
        pb::{self, get_profile_request::Key},
    },
    domain::authorization,
    model::token::Subject,
};

use crate::support::{TestApp, fault, person};

/// What users may call at all; any other method is for services.
const OF_USERS: &[&str] = &[
    "GetProfile",
    "UpdateProfile",
    "UpdateAccount",
    "ConfirmEmailChange",
    "ConfirmPhoneChange",
    "SendEmailCode",
    "SendPhoneCode",
];

/// Calls any method with a message that names a user and nothing else.
struct Caller {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Caller {
    fn new(app: &TestApp, token: Option<&str>) -> Self {
        let channel = Endpoint::from_shared(format!("http://{}", app.address()))
            .unwrap()
            .connect_lazy();
        Self {
            channel,
            token: token.map(|token| format!("Bearer {token}").parse().unwrap()),
        }
    }

    async fn call(&self, method: &MethodDescriptor, user_id: i64) -> Result<(), Status> {
        let mut message = DynamicMessage::new(method.input());
        if method.input().get_field_by_name("user_id").is_some() {
            message.set_field_by_name("user_id", Value::I64(user_id));
        }
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let codec = ProstCodec::<DynamicMessage, ()>::default();
        client
            .unary(request, PathAndQuery::try_from(path).unwrap(), codec)
            .await
            .map(drop)
    }
}

fn methods() -> impl Iterator<Item = MethodDescriptor> {
    SERVICES.iter().flat_map(|name| {
        POOL.get_service_by_name(name)
            .unwrap()
            .methods()
            .collect::<Vec<_>>()
    })
}

#[tokio::test]
async fn p51_a_user_sees_its_own_user_alone_on_every_rpc() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let (own, other) = (
        service.create_named("Ann").await.user_id,
        service.create_named("Ben").await.user_id,
    );
    let (_, secret) = app
        .api
        .tokens()
        .issue(&Subject::User(own), &[], chrono::TimeDelta::days(1))
        .await
        .unwrap();
    let user = Caller::new(&app, Some(&secret));

    for method in methods() {
        let name = method.name();
        let is_of_users = OF_USERS.contains(&name);
        let rule = authorization::TABLE
            .iter()
            .find(|rule| rule.method == name)
            .unwrap();
        assert_eq!(
            rule.user == authorization::UserRule::Own,
            is_of_users,
            "{name}"
        );
        // No one's number is rejected like another's.
        for user_id in [other, 1 << 40] {
            let refused = fault(user.call(&method, user_id).await);
            let reason = if is_of_users {
                "NOT_OWNER"
            } else {
                "SCOPE_MISSING"
            };
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::PermissionDenied, reason),
                "{name}"
            );
        }
        for user_id in [own, 0] {
            let code = user
                .call(&method, user_id)
                .await
                .err()
                .map(|status| status.code());
            assert_eq!(
                code == Some(Code::PermissionDenied),
                !is_of_users,
                "{name} {code:?}"
            );
        }
    }
}

#[tokio::test]
async fn p48_every_rpc_asks_for_a_token_streams_too() {
    let app = TestApp::new().await;
    let (none, bad) = (Caller::new(&app, None), Caller::new(&app, Some("us_bad")));
    for method in methods() {
        let (none, bad) = (
            fault(none.call(&method, 1).await),
            fault(bad.call(&method, 1).await),
        );
        assert_eq!(
            (none.code, none.reason.as_str()),
            (Code::Unauthenticated, "TOKEN_MISSING"),
            "{}",
            method.name()
        );
        assert_eq!(
            (bad.code, bad.reason.as_str()),
            (Code::Unauthenticated, "TOKEN_INVALID"),
            "{}",
            method.name()
        );
    }
}

#[tokio::test]
async fn p51_another_users_keys_are_refused_like_nobodys() {
    let app = TestApp::new().await;
    let mut service = app.service().await;
    let own = service.create_named("Ann").await.user_id;
    let mut request = person("Ben");
    request.account = Some(pb::Account {
        username: Some("ben.stone".to_owned()),
        email: Some("ben@example.com".to_owned()),
        phone: Some("+8613800138000".to_owned()),
        ..Default::default()
    });
    request.profile.as_mut().unwrap().openid = Some("openid-of-ben".to_owned());
    let ben = service.create(request).await.unwrap();
    let mut user = app.user(own).await;

    for key in [
        Key::UserId(ben.user_id),
        Key::Username("ben.stone".to_owned()),
        Key::Username("nobody.here".to_owned()),
        Key::Email("ben@example.com".to_owned()),
        Key::Email("nobody@example.com".to_owned()),
        Key::Phone("+8613800138000".to_owned()),
        Key::Openid("openid-of-ben".to_owned()),
        Key::Openid("openid-of-nobody".to_owned()),
    ] {
        let refused = fault(user.get_by(key.clone()).await);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::PermissionDenied, "NOT_OWNER"),
            "{key:?}"
        );
    }
}
