//! Who may call: signed tokens, the cache of verdicts, revocation, certificates, and what attackers
//! try.

mod attacks;
mod certificates;
mod issuers;
mod own_user;
mod revocation;

use chrono::TimeDelta;
use serde_json::{Value, json};
use user_service::{auth::jwt::JwtIssuer, convert::pb};

use crate::support::{
    Client, TestApp, fault,
    issuer::{AUDIENCE, ISSUER, Issuer, Signer},
    person, start_time,
};

/// The user that tokens speak for.
const USER_ID: i64 = 42;

/// A service that trusts an issuer with one key, and has one user.
struct Stage {
    app: TestApp,
    issuer: Issuer,
    signer: Signer,
    trusted: JwtIssuer,
}

impl Stage {
    async fn new() -> Self {
        Self::trusting(|_| {}).await
    }

    /// The same, where the issuer is configured otherwise.
    async fn trusting(change: impl Fn(&mut JwtIssuer)) -> Self {
        let issuer = Issuer::start().await;
        let signer = Signer::eddsa("first");
        issuer.serves(&[signer.jwk()]);
        let mut trusted = issuer.config();
        change(&mut trusted);
        let app = TestApp::configured(|config| config.auth.issuers = vec![trusted.clone()]).await;
        let mut request = person("Ann");
        request.profile.as_mut().unwrap().user_id = USER_ID;
        app.service().await.create(request).await.unwrap();
        Self {
            app,
            issuer,
            signer,
            trusted,
        }
    }

    /// One more service over the same database and clock, which trusts the same issuer.
    async fn replica(&self) -> TestApp {
        self.app
            .replica_configured(|config| config.auth.issuers = vec![self.trusted.clone()])
            .await
    }

    /// The outcome of a call with this token: `OK`, or the reason why not.
    async fn call(&self, token: &str) -> String {
        call(&mut self.app.client(token)).await
    }
}

/// The outcome of reading one's own profile.
async fn call(client: &mut Client) -> String {
    match client
        .users
        .get_profile(pb::GetProfileRequest::default())
        .await
    {
        Ok(_) => "OK".to_owned(),
        error => fault(error).reason,
    }
}

/// Claims of the user, good for an hour from the start of every test's clock.
fn claims() -> Value {
    let now = start_time();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": USER_ID.to_string(), "iat": now.timestamp(),
        "exp": (now + TimeDelta::hours(1)).timestamp(),
    })
}

/// The same, but for one claim.
fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}
