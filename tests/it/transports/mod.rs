//! Both doors agree: the same calls in the same order, one service spoken to over gRPC and its twin
//! over REST, give the same data, codes, reasons and details.

mod cases;
mod nul;
mod speak;

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use serde_json::Value;
use user_service::{
    convert::SERVICES,
    model::{scope::Scope, token::Subject},
};

use crate::support::{TestApp, rest::Caller};
use cases::{CASES, Case};
use speak::Answer;

/// A service of its own, spoken to through one door.
struct Side {
    app: TestApp,
    tokens: BTreeMap<&'static str, String>,
    /// What answers gave that later requests name.
    kept: BTreeMap<&'static str, String>,
}

impl Side {
    async fn new() -> Self {
        let mut side = Self {
            app: TestApp::new().await,
            tokens: BTreeMap::new(),
            kept: BTreeMap::new(),
        };
        let service = Subject::Service("test".to_owned());
        for (who, scopes) in [("service", Scope::ALL), ("reader", &[Scope::ProfilesRead])] {
            let issued = side
                .app
                .api
                .tokens()
                .issue(&service, scopes, TimeDelta::days(1))
                .await
                .unwrap();
            side.tokens.insert(who, issued.1);
        }
        side.tokens.insert(
            "stale",
            side.tokens["reader"].replace(char::is_numeric, "0"),
        );
        side
    }

    /// The token of a caller; a name that is a number is a user's.
    async fn token(&mut self, who: &'static str) -> Option<String> {
        if let Ok(user_id) = who.parse()
            && !self.tokens.contains_key(who)
        {
            let token = self.app.user_token(user_id).await;
            self.tokens.insert(who, token);
        }
        self.tokens.get(who).cloned()
    }

    /// The request with what this side's earlier answers and mails gave.
    async fn filled(&self, request: &str) -> Value {
        let mut text = request.to_owned();
        for (name, value) in &self.kept {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        while let Some((_, rest)) = text.split_once("{code ") {
            let address = rest.split_once('}').unwrap().0.to_owned();
            let code = self.app.newest_code(&address).await;
            text = text.replace(&format!("{{code {address}}}"), &code);
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn keep(&mut self, answer: &Answer) {
        let Ok(answer) = answer else { return };
        for (name, value) in [
            ("next", &answer["nextPageToken"]),
            ("delivery", &answer["deliveryId"]),
            ("token", &answer["token"]["tokenId"]),
            ("connection", &answer["connection"]["connectionId"]),
        ] {
            if let Some(text) = value.as_str() {
                self.kept.insert(name, text.to_owned());
            }
        }
    }
}

#[tokio::test]
async fn both_doors_agree() {
    assert!(CASES.len() >= 40);
    let (mut grpc, mut rest) = (Side::new().await, Side::new().await);
    let mut spoken = BTreeSet::new();
    for (
        place,
        Case {
            who,
            rpc,
            request,
            expected,
        },
    ) in CASES.iter().enumerate()
    {
        let case = format!("case {place}, {rpc} {request} by {who}");
        if *rpc == "GetDelivery" {
            grpc.app.all_sent().await;
            rest.app.all_sent().await;
        }
        let token = grpc.token(who).await;
        let given = grpc.filled(request).await;
        let first = speak::grpc(&grpc.app, token.as_deref(), rpc, &given).await;
        grpc.keep(&first);
        let outcome = match &first {
            Ok(_) => "OK",
            Err(error) => error["reason"].as_str().unwrap(),
        };
        assert_eq!(outcome, *expected, "{case}: {first:?}");

        let token = rest.token(who).await;
        let headers = token
            .map(|token| ("authorization", format!("Bearer {token}")))
            .into_iter()
            .collect();
        let caller = Caller {
            rest: rest.app.rest(),
            headers,
        };
        let given = rest.filled(request).await;
        for route in speak::routes(rpc, &given) {
            let second = speak::rest(&caller, rpc, &given, &route).await;
            assert_eq!(
                speak::comparable(&second),
                speak::comparable(&first),
                "{case} at {route:?}"
            );
            rest.keep(&second);
        }
        spoken.insert((*rpc, *expected == "OK"));
    }
    let services = SERVICES
        .iter()
        .filter_map(|name| user_service::convert::POOL.get_service_by_name(name));
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        assert!(
            spoken.contains(&(method.name(), true)),
            "no good call of {}",
            method.name()
        );
        assert!(
            spoken.contains(&(method.name(), false)),
            "no bad call of {}",
            method.name()
        );
    }
}
