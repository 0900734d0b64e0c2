//! The lines of curl, and the requests of the other examples.

use serde_json::{Value, json};

use super::{ACCOUNT, BULK, Bench, LIST, V1, nicknames};
use crate::support::rest::curl;

const HOST: &str = "https://cloud.minapp.com";
const V1_KEYS: &[&str] = &[
    "avatar",
    "city",
    "country",
    "created_at",
    "gender",
    "id",
    "nickname",
    "openid",
    "unionid",
    "province",
    "user_group",
    "user_id",
];
const V2_KEYS: &[&str] = &[
    "avatar",
    "city",
    "country",
    "created_at",
    "created_by",
    "gender",
    "id",
    "is_authorized",
    "language",
    "nickname",
    "openid",
    "province",
    "test",
    "unionid",
    "updated_at",
];

impl Bench {
    /// A line of the pages, with host and token replaced; gives the body of a success.
    async fn curl(&self, line: &str, token: &str) -> Value {
        let (host, own) = (
            format!("http://{}", self.service.rest),
            self.service.header("authorization"),
        );
        let (status, body) = curl(line, &[(HOST, &host), (&format!("Bearer {token}"), own)]).await;
        assert_eq!(status, 200, "{line}\n{body}");
        body
    }
}

fn has_keys(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing in {value}");
    }
}

// The lines of curl.

#[tokio::test]
async fn the_line_of_one_user_in_v1() {
    let bench = Bench::new().await;
    let line = r#"curl -X GET \
-H "Authorization: Bearer 58f6cd9f84b1b0c04941fbd4d87bc5f14a785107" \
-H "Content-Type: application/json" \
https://cloud.minapp.com/oserve/v1/miniapp/user-profile/?user_id=55019"#;
    let user = bench
        .curl(line, "58f6cd9f84b1b0c04941fbd4d87bc5f14a785107")
        .await;
    has_keys(&user, V1_KEYS);
    assert_eq!(user.as_object().unwrap().len(), V1_KEYS.len());
    assert_eq!(
        (&user["user_id"], &user["created_at"]),
        (&json!(55019), &json!(1_504_504_504))
    );
}

#[tokio::test]
async fn the_line_of_the_list_in_v1() {
    let bench = Bench::new().await;
    let line = r#"curl -X GET \
-H "Authorization: Bearer 58f6cd9f84b1b0c04941fbd4d87bc5f14a785107" \
-H "Content-Type: application/json" \
-G \
-d nickname__contains=Tom \
-d gender=1 \
-d created_at__gt=1483228800 \
-d order_by=-created_at \
https://cloud.minapp.com/oserve/v1/miniapp/user-profile/"#;
    let list = bench
        .curl(line, "58f6cd9f84b1b0c04941fbd4d87bc5f14a785107")
        .await;
    let meta =
        json!({ "limit": 20, "next": null, "offset": 0, "previous": null, "total_count": 1 });
    assert_eq!(
        (&list["meta"], nicknames(&list)),
        (&meta, vec!["Tom".to_owned()])
    );
    has_keys(&list["objects"][0], V1_KEYS);
}

#[tokio::test]
async fn the_url_of_the_count_in_v2() {
    let bench = Bench::new().await;
    let line = "curl -H 'Authorization: Bearer t' \
                'https://cloud.minapp.com/oserve/v2.2/miniapp/user_profile/?limit=1&return_total_count=1'";
    let list = bench.curl(line, "t").await;
    assert_eq!(
        (&list["meta"]["total_count"], nicknames(&list).len()),
        (&json!(3), 1)
    );
}

#[tokio::test]
async fn the_line_of_the_list_in_v2() {
    let bench = Bench::new().await;
    // As printed, the condition has no name and travels in a body, which a GET does not read.
    let line = r#"curl -X GET \
-H "Authorization: Bearer 35919068aa799eccdef160e1da4bf21381" \
--data-urlencode '{"test": {"$eq":"test"}}'\
 https://cloud.minapp.com/oserve/v2.2/miniapp/user_profile/"#;
    let list = bench.curl(line, "35919068aa799eccdef160e1da4bf21381").await;
    let meta = json!({ "limit": 20, "next": null, "offset": 0, "previous": null });
    assert_eq!((&list["meta"], nicknames(&list).len()), (&meta, 3));
    // As meant.
    let meant = line
        .replace("-X GET", "-G")
        .replace("'{\"test\"", "'where={\"test\"");
    let list = bench
        .curl(&meant, "35919068aa799eccdef160e1da4bf21381")
        .await;
    assert_eq!(nicknames(&list).len(), 2);
    list["objects"]
        .as_array()
        .unwrap()
        .iter()
        .for_each(|object| has_keys(object, V2_KEYS));
}

#[tokio::test]
async fn the_line_of_one_user_in_v2() {
    let bench = Bench::new().await;
    let line = r#"curl -X GET \
-H "Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2" \
https://cloud.minapp.com/oserve/v2.2/miniapp/user_profile/70695404/"#;
    let user = bench
        .curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2")
        .await;
    has_keys(&user, V2_KEYS);
    assert_eq!(
        (&user["id"], &user["created_by"]),
        (&json!(70695404), &json!(70695404))
    );
    assert_eq!(
        (&user["created_at"], &user["unionid"]),
        (&json!(1_542_858_732), &Value::Null)
    );
}

#[tokio::test]
async fn the_line_of_a_change() {
    let bench = Bench::new().await;
    let line = r#"curl -X PUT \
https://cloud.minapp.com/oserve/v2.6/miniapp/user_profile/70695404/ \
-H 'Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2' \
-H 'Content-Type: application/json' \
-d '{"test": "test"}'"#;
    let user = bench
        .curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2")
        .await;
    has_keys(&user, V2_KEYS);
    assert_eq!(
        (&user["test"], &user["level"], &user["nickname"]),
        (&json!("test"), &json!(3), &json!("你也是"))
    );
}

#[tokio::test]
async fn the_line_of_a_bulk_change() {
    let bench = Bench::new().await;
    let line = r#"curl -X PUT \
https://cloud.minapp.com/oserve/v2.6/miniapp/user_profile/ \
-H 'Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2' \
-H 'Content-Type: application/json' \
-d '{"test": "test"}'"#;
    let told = bench
        .curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2")
        .await;
    assert_eq!(
        (&told["succeed"], &told["offset"], &told["limit"]),
        (&json!(3), &json!(0), &json!(20))
    );
    assert_eq!(
        (&told["next"], told.get("total_count")),
        (&Value::Null, None)
    );
    let first = &told["operation_result"][0]["success"];
    assert!(
        first["id"].is_string() && first["updated_at"].is_i64(),
        "{told}"
    );
}

#[tokio::test]
async fn the_line_of_an_account() {
    let bench = Bench::new().await;
    let line = r#"curl -X PUT \
https://cloud.minapp.com/oserve/v2.1/miniapp/user/account/70695404/ \
-H 'Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2' \
-H 'Content-Type: application/json' \
-d '{"username": "pretty_girl"}'"#;
    let account = bench
        .curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2")
        .await;
    let expected = json!({ "email": "pretty_girl@example.com", "email_verified": true, "username": "pretty_girl",
                           "phone": "13800138000", "phone_verified": true });
    assert_eq!(account, expected);
}

// The requests of the Node and PHP examples, encoded as their libraries do.

#[tokio::test]
async fn the_requests_of_the_other_examples() {
    let bench = Bench::new().await;
    let php = bench
        .service
        .with("content-type", "application/json; charset=utf-8");
    let filter = "where=%7B%22test%22%3A%7B%22%24eq%22%3A%22test%22%7D%7D&return_total_count=1";
    for (path, key, expected) in [
        (format!("{V1}?user_id=55019"), "user_id", json!(55019)),
        (format!("{LIST}70695404/"), "id", json!(70695404)),
    ] {
        for caller in [&bench.service, &php] {
            assert_eq!(caller.get(&path).await.body[key], expected, "{path}");
        }
    }
    for (query, expected) in [
        (
            "nickname__contains=Tom&gender=1&created_at__gte=1483228800&order_by=-created_at",
            1,
        ),
        (
            "nickname__contains=username&gender=1&created_at__gte=1483228800&user_id=36395300&order_by=-created_at",
            0,
        ),
    ] {
        assert_eq!(
            php.get(&format!("{V1}?{query}")).await.body["meta"]["total_count"],
            expected,
            "{query}"
        );
    }
    assert_eq!(
        php.get(&format!("{LIST}?{filter}")).await.body["meta"]["total_count"],
        2
    );
    for path in [format!("{BULK}70695404/"), BULK.to_owned()] {
        php.good("PUT", &path, json!({ "test": "test" })).await;
    }
    let account = php
        .good("PUT", ACCOUNT, json!({ "username": "pretty_girl_php" }))
        .await;
    assert_eq!(account["username"], "pretty_girl_php");
}

#[tokio::test]
async fn the_older_paths_answer_too() {
    let bench = Bench::new().await;
    has_keys(&bench.get(&format!("{V1}55019/")).await.body, V1_KEYS);
    let list = bench.get("/oserve/v1/user/info/").await.body;
    assert_eq!(
        list["meta"]["total_count"], 3,
        "it counts without being asked"
    );
    has_keys(
        &bench.get("/oserve/v1/user/info/70695404/").await.body,
        V2_KEYS,
    );
    assert_eq!(
        bench
            .put("/oserve/v1/user/info/70695404/", json!({ "test": "older" }))
            .await["test"],
        "older"
    );
    for path in [V1, LIST, "/oserve/v1/user/info/"] {
        assert_eq!(
            bench.get(path.trim_end_matches('/')).await.status.as_u16(),
            200,
            "{path} without its last slash"
        );
    }
}
