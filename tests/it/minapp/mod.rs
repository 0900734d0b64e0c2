//! minapp's own pages: each line of curl as it is printed, the requests of their Node and PHP
//! examples as those send them, each parameter of their tables, and each rule; and the requests of
//! client libraries.

mod clients;
mod examples;
mod rules;
mod tables;

use serde_json::{Value, json};

use crate::support::{
    TestApp,
    rest::{Caller, Reply},
};

const V1: &str = "/oserve/v1/miniapp/user-profile/";
const LIST: &str = "/oserve/v2.2/miniapp/user_profile/";
const BULK: &str = "/oserve/v2.6/miniapp/user_profile/";
const ACCOUNT: &str = "/oserve/v2.1/miniapp/user/account/70695404/";

/// A service with the users of the pages, and a token of another service with every scope.
struct Bench {
    app: TestApp,
    service: Caller,
}

impl Bench {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let service = Caller::service(&app).await;
        for field in [
            json!({ "name": "test", "type": "FIELD_TYPE_STRING" }),
            json!({ "name": "level", "type": "FIELD_TYPE_INTEGER", "indexed": true }),
            json!({ "name": "tags", "type": "FIELD_TYPE_ARRAY", "itemType": "FIELD_TYPE_STRING" }),
            json!({ "name": "stats", "type": "FIELD_TYPE_OBJECT" }),
            json!({ "name": "card", "type": "FIELD_TYPE_STRING", "unique": true }),
        ] {
            service
                .good("POST", "/v1/fields", json!({ "field": field }))
                .await;
        }
        for user in [
            json!({ "profile": { "userId": 64501217, "nickname": "你今天真好看", "gender": 1, "country": "中国",
                "city": "广州", "province": "广东", "language": "zh_CN", "openid": "o0b495YcphSE24RbTl7K9dMx_QAA",
                "isAuthorized": true, "createdAt": "2018-11-16T10:33:07Z", "customFields": { "test": "test" } } }),
            json!({ "profile": { "userId": 70695404, "nickname": "你也是", "country": "中国", "language": "zh_CN",
                "openid": "o0b495agcnGojMQbCnlB9AV6OeDw", "isAuthorized": true, "createdAt": "2018-11-22T03:52:12Z",
                "customFields": { "test": "test", "level": 3 } },
                "account": { "username": "guoch.9", "email": "pretty_girl@example.com", "emailVerified": true,
                "phone": "+8613800138000", "phoneVerified": true } }),
            json!({ "profile": { "userId": 55019, "nickname": "Tom", "gender": 1, "country": "China",
                "province": "Guangdong", "city": "Guangzhou", "openid": "onzns0KsLKFyg3-VcW0GwTE6",
                "unionid": "unzns0KsLKFyg3-VcW0GwTE6", "groupIds": ["137", "258"],
                "createdAt": "2017-09-04T05:55:04Z" } }),
        ] {
            service.good("POST", "/v1/users", user).await;
        }
        Self { app, service }
    }

    async fn get(&self, path: &str) -> Reply {
        self.service.get(path).await
    }

    /// The nicknames that a list finds.
    async fn found(&self, path: &str) -> Vec<String> {
        let reply = self.get(path).await;
        assert_eq!(reply.status.as_u16(), 200, "{path} gave {}", reply.body);
        nicknames(&reply.body)
    }

    /// The nicknames that a `where` finds, oldest first.
    async fn find(&self, given: Value) -> Vec<String> {
        self.found(&format!(
            "{LIST}?order_by=created_at&where={}",
            encoded(&given.to_string())
        ))
        .await
    }

    /// The status and body that reject a call in this surface's form.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        refused(&self.service, method, path, body).await
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        self.service.good("PUT", path, body).await
    }
}

async fn refused(caller: &Caller, method: &str, path: &str, body: String) -> (u16, Value) {
    let reply = caller.send(method, path, body.clone()).await;
    assert!(
        !reply.status.is_success(),
        "{method} {path} {body} is taken: {}",
        reply.body
    );
    let keys: Vec<&str> = reply
        .body
        .as_object()
        .unwrap_or_else(|| panic!("{path}: {reply:?}"))
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        (keys, &reply.body["status"]),
        (vec!["error_msg", "status"], &json!("error")),
        "{path}"
    );
    (reply.status.as_u16(), reply.body)
}

fn nicknames(list: &Value) -> Vec<String> {
    let objects = list["objects"].as_array().unwrap();
    objects
        .iter()
        .map(|object| object["nickname"].as_str().unwrap().to_owned())
        .collect()
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
