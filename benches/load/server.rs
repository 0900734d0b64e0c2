//! The service under load, and a server with one fixed answer, each in a process of its own.
#![expect(
    clippy::disallowed_types,
    reason = "the fixed answer is a server of tonic's own"
)]

use std::{convert::Infallible, io::Read, net::SocketAddr, time::Duration};

use chrono::TimeDelta;
use futures_util::future::{BoxFuture, Ready, ready};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, body::Body, server::UnaryService, transport::server::TcpIncoming,
};
use tonic_prost::ProstCodec;
use user_service::{
    app::{self, App},
    clock::Clock,
    config::{Config, Secret, SecretKey, key_text},
    convert::pb,
    model::{scope::Scope, token::Subject},
    rest,
    server::{self, Ports},
    telemetry,
};

/// What a server prints when it is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    pub address: SocketAddr,
    /// Of the REST gateway; the same where there is none.
    pub rest: SocketAddr,
    pub token: String,
}

/// A service over a database.
pub(crate) fn build(url: &str) -> anyhow::Result<App> {
    app::build(&configuration(url), Clock::System)
}

fn configuration(url: &str) -> Config {
    let mut config = Config::default();
    config.database.url = Secret(url.to_owned());
    config.secrets.keys = vec![SecretKey {
        id: "load".to_owned(),
        key: Secret(key_text([7; 32])),
    }];
    config
}

/// Serves until stdin ends.
pub(crate) async fn run(url: &str) -> anyhow::Result<()> {
    let config = configuration(url);
    let _telemetry = telemetry::start(&config.telemetry, telemetry::Role::Service)?;
    let app = app::build(&config, Clock::System)?;
    let subject = Subject::Service("load".to_owned());
    let (_, token) = app
        .api
        .tokens()
        .issue(&subject, Scope::ALL, TimeDelta::days(1))
        .await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let rest = TcpListener::bind("127.0.0.1:0").await?;
    announce(Started {
        address: listener.local_addr()?,
        rest: rest.local_addr()?,
        token,
    })?;
    server::serve(
        app,
        Ports {
            grpc: (listener, user_service::config::Grpc::default()),
            rest: Some((rest, rest::Config::default())),
            operations: None,
            limits: Default::default(),
        },
        Duration::ZERO,
        end_of_stdin(),
    )
    .await
}

/// Gives one answer until stdin ends: what the transport alone can do.
pub(crate) async fn run_floor() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    announce(Started {
        address,
        rest: address,
        token: "none".to_owned(),
    })?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder().add_service(Fixed(answer()));
    Ok(server
        .serve_with_incoming_shutdown(incoming, end_of_stdin())
        .await?)
}

fn announce(ready: Started) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&ready)?);
    Ok(())
}

async fn end_of_stdin() {
    let read = || std::io::stdin().read_to_end(&mut Vec::new());
    if let Err(error) = tokio::task::spawn_blocking(read).await {
        eprintln!("stdin cannot be watched: {error}");
    }
}

/// A profile of the size that the crowd has.
fn answer() -> pb::GetProfileResponse {
    let custom = serde_json::json!({
        "level": 7, "score": 4321.5, "vip": false, "tags": ["early", "老用户"], "motto": "一期一会",
        "stats": { "logins": 1234, "week": { "posts": 4 } }, "member_no": "M00012345",
    });
    let custom = custom.as_object().expect("valid: written as an object");
    let profile = pb::Profile {
        user_id: 70_712_345,
        nickname: "王伟芳".to_owned(),
        avatar_url: "https://example.com/avatars/12345.png".to_owned(),
        gender: 1,
        country: "中国".to_owned(),
        province: "广东".to_owned(),
        city: "广州".to_owned(),
        language: "zh-CN".to_owned(),
        openid: Some("o0b495YcphSE24RbTl7K9dMx0QAA".to_owned()),
        group_ids: vec![258, 1017],
        custom_fields: Some(user_service::convert::json::to_struct(custom.iter())),
        etag: "1".to_owned(),
        ..Default::default()
    };
    pb::GetProfileResponse {
        profile: Some(profile),
    }
}

#[derive(Clone)]
struct Fixed(pb::GetProfileResponse);

impl tonic::server::NamedService for Fixed {
    const NAME: &'static str = "userservice.v1.UserService";
}

impl UnaryService<pb::GetProfileRequest> for &Fixed {
    type Response = pb::GetProfileResponse;
    type Future = Ready<Result<Response<pb::GetProfileResponse>, Status>>;

    fn call(&mut self, _: Request<pb::GetProfileRequest>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

impl tower::Service<http::Request<Body>> for Fixed {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fixed = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<pb::GetProfileResponse, pb::GetProfileRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(&fixed, request).await)
        })
    }
}
