//! The requests of client libraries: minapp-sdk 3.23 (JavaScript), minapp-fetch 3.3, and the SDKs
//! for iOS and Android, with the host and the paths of the open API.

use serde_json::{Value, json};

use super::{ACCOUNT, BULK, Bench, LIST, V1, encoded, nicknames};
use crate::support::rest::Reply;

const ONE: &str = "/oserve/v2.2/miniapp/user_profile/70695404/";

/// A query string whose `where` is given as plain text.
fn query(given: &str) -> String {
    let parameters = given
        .split('&')
        .map(|parameter| match parameter.strip_prefix("where=") {
            Some(condition) => format!("where={}", encoded(condition)),
            None => parameter.to_owned(),
        });
    parameters.collect::<Vec<_>>().join("&")
}

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

impl Bench {
    async fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        self.service.send(method, path, body.to_owned()).await
    }

    /// How many users a bulk change changes.
    async fn changes(&self, parameters: &str, value: &str) -> Value {
        self.put(
            &format!("{BULK}?{}", query(parameters)),
            json!({ "test": value }),
        )
        .await["succeed"]
            .clone()
    }
}

#[tokio::test]
async fn lists_of_each_client() {
    let bench = Bench::new().await;
    let all = ["你也是", "你今天真好看", "Tom"];
    for (client, given, expected) in [
        (
            "sdk",
            "limit=20&offset=0&where={}&return_total_count=0",
            &all[..],
        ),
        (
            "sdk, Query.and()",
            "limit=20&offset=0&where={\"$and\":[]}&return_total_count=0",
            &all,
        ),
        (
            "sdk, count()",
            "limit=1&offset=0&where={}&return_total_count=1",
            &all[..1],
        ),
        (
            "sdk, limit(0)",
            "limit=0&offset=0&where={}&return_total_count=1",
            &[],
        ),
        (
            "sdk, query",
            "limit=20&offset=0&order_by=created_at&where={\"$and\":[{\"test\":{\"$eq\":\"test\"}}]}&return_total_count=0",
            &[all[1], all[0]],
        ),
        (
            "sdk, Query.or",
            "where={\"$or\":[{\"$and\":[{\"level\":{\"$gt\":2}}]},{\"$and\":[]}]}",
            &all,
        ),
        (
            "fetch, without r",
            "where=false&limit=20&offset=0&order_by=-created_at&expand=&keys=&return_total_count=0",
            &all,
        ),
        (
            "fetch, p0 and p1",
            "where={\"$and\":[{\"level\":{\"$in\":[3]}},{\"test\":{\"$isnull\":false}}]}&limit=20&offset=0&expand=&keys=",
            &all[..1],
        ),
        ("fetch, PHP's empty map", "where=[]", &all),
        (
            "axios, arrays",
            "order_by[]=created_at&order_by[]=id&keys[]=nickname&keys[]=id",
            &[all[2], all[1], all[0]],
        ),
        (
            "qs, arrays",
            "order_by%5B0%5D=created_at&order_by%5B1%5D=id",
            &[all[2], all[1], all[0]],
        ),
        (
            "repeated",
            "order_by=created_at&order_by=id&expand=a&expand=b",
            &[all[2], all[1], all[0]],
        ),
        (
            "ios",
            "keys=nickname,level&limit=20&offset=0&order_by=-created_at&return_total_count=0&where={}",
            &all,
        ),
        (
            "ios, flags",
            "limit=20&offset=0&return_total_count=false&where={\"$and\":[]}",
            &all,
        ),
        (
            "android",
            "limit=2&offset=1&order_by=-created_at&expand=created_by",
            &all[1..],
        ),
        (
            "android, operators",
            "nickname__contains=om&created_at__gt=1483228800&limit=20",
            &all[2..],
        ),
        (
            "android, both",
            "gender=1&where={\"test\":\"test\"}",
            &all[1..2],
        ),
        ("undefined values", "&offset=0&limit=", &all),
    ] {
        assert_eq!(
            bench.found(&format!("{LIST}?{}", query(given))).await,
            expected,
            "{client}"
        );
    }
    let none = bench
        .get(&format!("{LIST}?limit=0&return_total_count=1"))
        .await
        .body;
    let meta = json!({ "limit": 0, "offset": 0, "next": null, "previous": null, "total_count": 3 });
    assert_eq!((&none["meta"], &none["objects"]), (&meta, &json!([])));
}

#[tokio::test]
async fn keys_select_fields_on_one_user_and_on_lists() {
    let bench = Bench::new().await;
    let one = bench
        .get(&format!("{ONE}?keys=nickname,level&expand=created_by"))
        .await
        .body;
    assert_eq!(one, json!({ "nickname": "你也是", "level": 3 }));
    let listed = bench
        .get(&format!("{LIST}?keys=id,test&limit=1"))
        .await
        .body;
    assert_eq!(
        listed["objects"],
        json!([{ "id": 70695404, "test": "test" }])
    );
    let changed = bench
        .put(
            &format!("{ONE}?keys=test&enable_trigger=1&expand="),
            json!({ "test": "new" }),
        )
        .await;
    assert_eq!(changed, json!({ "test": "new" }));
    let first = bench
        .get(&format!("{V1}?keys=nickname&user_id=55019"))
        .await
        .body;
    assert_eq!(first["objects"], json!([{ "nickname": "Tom" }]));

    let everything = bench.get(ONE).await.body;
    assert!(everything["_email"].is_string(), "{everything}");
    assert_eq!(
        (&everything["_anonymous"], &everything["_provider"]),
        (&json!(false), &json!({}))
    );
    for parameters in ["keys=&expand=", "keys=nickname,-id"] {
        assert_eq!(
            bench.get(&format!("{ONE}?{parameters}")).await.body,
            everything,
            "{parameters}"
        );
    }
    let without = bench.get(&format!("{ONE}?keys=-_email,-_phone")).await.body;
    let left: Vec<&str> = keys(&everything)
        .into_iter()
        .filter(|key| !["_email", "_phone"].contains(key))
        .collect();
    assert_eq!(keys(&without), left);
    for path in [ONE, LIST] {
        let refused = bench
            .refused("GET", &format!("{path}?keys=nickname,nikname"), Value::Null)
            .await;
        assert_eq!(refused.0, 400, "{path}");
        assert!(
            refused.1["error_msg"]
                .as_str()
                .unwrap()
                .contains("keys: nikname"),
            "{}",
            refused.1
        );
    }
}

#[tokio::test]
async fn older_paths_of_the_same_operations() {
    let bench = Bench::new().await;
    for version in [
        "v1.9", "v2.0", "v2.1", "v2.2", "v2.3", "v2.4", "v2.5", "v2.6",
    ] {
        let path = |rest: &str| format!("/oserve/{version}/miniapp/{rest}");
        let counts = ["v1.9", "v2.0", "v2.1"].contains(&version);
        let list = bench.get(&path("user_profile/?limit=1")).await.body;
        assert_eq!(
            (
                nicknames(&list).len(),
                list["meta"].get("total_count").is_some()
            ),
            (1, counts),
            "{version}"
        );
        let bulk = bench
            .put(&path("user_profile/"), json!({ "test": version }))
            .await;
        assert_eq!(
            (&bulk["succeed"], bulk.get("total_count").is_some()),
            (&json!(3), counts),
            "{version}"
        );
        assert_eq!(
            bench.get(&path("user_profile/70695404")).await.body["test"],
            version
        );
        let changed = bench
            .put(&path("user_profile/70695404/"), json!({ "level": 7 }))
            .await;
        assert_eq!(
            (&changed["level"], &changed["test"]),
            (&json!(7), &json!(version))
        );
        let account = bench
            .put(
                &path("user/account/70695404/"),
                json!({ "username": "guoch.9" }),
            )
            .await;
        assert_eq!(account["username"], "guoch.9", "{version}");
    }
}

#[tokio::test]
async fn changes_of_each_client() {
    let bench = Bench::new().await;
    for (client, body, field, expected) in [
        (
            "sdk, set",
            json!({ "$set": { "test": "a" }, "$unset": {} }),
            "test",
            json!("a"),
        ),
        (
            "sdk, incrementBy",
            json!({ "$set": { "level": { "$incr_by": 1 } }, "$unset": {} }),
            "level",
            json!(4),
        ),
        (
            "sdk, patchObject",
            json!({ "$set": { "stats": { "$update": { "n": 1 } } } }),
            "stats",
            json!({ "n": 1 }),
        ),
        (
            "sdk, unset",
            json!({ "$set": {}, "$unset": { "test": "" } }),
            "test",
            Value::Null,
        ),
        (
            "ios, mixed",
            json!({ "test": "b", "$unset": { "stats": "" } }),
            "stats",
            Value::Null,
        ),
        (
            "fetch, unset",
            json!({ "test": { "$unset": "" }, "level": 5 }),
            "test",
            Value::Null,
        ),
        (
            "fetch, uAppend",
            json!({ "tags": { "$append_unique": ["a"] } }),
            "tags",
            json!(["a"]),
        ),
        (
            "sdk, pop",
            json!({ "$set": { "tags": { "$pop": 1 } }, "$unset": {} }),
            "tags",
            json!([]),
        ),
    ] {
        for path in [
            ONE.to_owned(),
            format!(
                "{BULK}?where={}&limit=1&offset=0",
                encoded(r#"{"id":{"$eq":70695404}}"#)
            ),
        ] {
            // An increment counts once.
            if path == ONE || !client.contains("incrementBy") {
                bench.put(&path, body.clone()).await;
            }
            assert_eq!(bench.get(ONE).await.body[field], expected, "{client}");
        }
    }
}

#[tokio::test]
async fn an_empty_change_changes_nothing() {
    let bench = Bench::new().await;
    let before = bench.get(ONE).await.body;
    for body in [
        "",
        "{}",
        r#"{"$set": {}, "$unset": {}}"#,
        r#"{"$set": {}}"#,
        "\n",
    ] {
        let one = bench.send("PUT", ONE, body).await;
        assert_eq!((one.status.as_u16(), &one.body), (200, &before), "{body}");
        let bulk = bench
            .send("PUT", &format!("{BULK}?return_total_count=1"), body)
            .await;
        let nothing = json!({ "succeed": 0, "offset": 0, "limit": 20, "next": null, "operation_result": [],
                              "total_count": 0 });
        assert_eq!(
            (bulk.status.as_u16(), &bulk.body),
            (200, &nothing),
            "{body}"
        );
    }
    for body in ["", "{}"] {
        let account = bench.send("PUT", ACCOUNT, body).await;
        assert_eq!(
            (account.status.as_u16(), &account.body["email"]),
            (200, &json!("pretty_girl@example.com"))
        );
    }
    let unknown = ACCOUNT.replace("70695404", "77");
    assert_eq!(bench.send("PUT", &unknown, "").await.status.as_u16(), 404);
    assert_eq!(bench.get(ONE).await.body, before);
}

#[tokio::test]
async fn bulk_changes_without_a_condition() {
    let bench = Bench::new().await;
    for (index, parameters) in [
        "limit=20&offset=0&where={}&enable_trigger=1&return_total_count=0",
        "where=false&limit=20&offset=0&enable_trigger=true&return_total_count=0",
        "&offset=0&where={\"$and\":[]}&enable_trigger=0&return_total_count=0",
        "where=[]&enable_trigger=false",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            bench.changes(parameters, &index.to_string()).await,
            3,
            "{parameters}"
        );
    }
    assert_eq!(bench.changes("limit=0&where={}", "none").await, 0);
    // A client that lost the value of a condition sends these.
    for lost in [
        r#"{"$and":[{}]}"#,
        r#"{"$or":[{"level":99},{}]}"#,
        r#"{"$or":[{"$and":[]}]}"#,
        r#"{"level":{"$nin":[]}}"#,
    ] {
        let path = format!("{BULK}?where={}", encoded(lost));
        let (status, body) = bench.refused("PUT", &path, json!({ "test": "lost" })).await;
        let text = body["error_msg"].as_str().unwrap();
        assert!(
            status == 400 && text.contains(" where.") && !text.contains("filter"),
            "{lost}: {text}"
        );
    }
    assert_eq!(bench.find(json!({ "test": "4" })).await.len(), 3);
}

#[tokio::test]
async fn what_is_not_served_is_an_error_in_minapps_form() {
    let bench = Bench::new().await;
    for (method, path, status) in [
        ("GET", "/oserve/v1/bulk-operation/1/".to_owned(), 404),
        ("GET", "/hserve/v2.2/user/info/".to_owned(), 404),
        ("PUT", "/userve/v2.2/miniapp/user_profile/".to_owned(), 404),
        ("GET", format!("{LIST}?aggregation=%5B%5D"), 400),
        ("GET", format!("{LIST}?where[nickname]=Tom"), 400),
        ("GET", format!("{LIST}?keys=nickname&nothing=1"), 400),
        ("GET", format!("{ONE}?nothing=1"), 400),
        (
            "GET",
            format!(
                "{LIST}?where={}",
                encoded(r#"{"_provider.wechat.openid": "x"}"#)
            ),
            400,
        ),
        (
            "GET",
            format!(
                "{LIST}?where={}",
                encoded(r#"{"_anonymous": {"$eq": false}}"#)
            ),
            400,
        ),
        ("PUT", format!("{BULK}?enable_trigger=yes"), 400),
    ] {
        assert_eq!(
            bench.refused(method, &path, json!({ "test": "x" })).await.0,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn errors_name_where_and_minapps_fields() {
    let bench = Bench::new().await;
    for (given, named) in [
        (json!({ "test": { "$regex": "^t" } }), "where.test"),
        (
            json!({ "$or": [{ "id": { "$gt": "x" } }] }),
            "where.$or[0].id",
        ),
        (json!({ "_phone": { "$lt": 5 } }), "where._phone"),
        (json!({ "levl": 3 }), "where.levl"),
        (json!({ "test": { "$in": vec!["x"; 501] } }), "where.test"),
    ] {
        let path = format!("{LIST}?where={}", encoded(&given.to_string()));
        let (_, body) = bench.refused("GET", &path, Value::Null).await;
        let text = body["error_msg"].as_str().unwrap();
        assert!(
            text.contains(named) && !text.contains("filter"),
            "{given}: {text}"
        );
    }
    let (_, body) = bench
        .refused("PUT", ONE, json!({ "level": "x", "nothing": 1 }))
        .await;
    assert!(
        !body["error_msg"]
            .as_str()
            .unwrap()
            .contains("custom_fields"),
        "{body}"
    );
    let (_, body) = bench
        .refused("PUT", ACCOUNT, json!({ "email": "nobody" }))
        .await;
    assert!(
        body["error_msg"].as_str().unwrap().contains(" email: "),
        "{body}"
    );
}

#[tokio::test]
async fn integers_inside_objects_are_kept_or_rejected() {
    let bench = Bench::new().await;
    let kept = json!({ "n": 9_007_199_254_740_991_i64, "list": [-9_007_199_254_740_992_i64] });
    let changed = bench.put(ONE, json!({ "stats": kept.clone() })).await;
    assert_eq!(changed["stats"]["n"], kept["n"]);
    for body in [
        r#"{"stats": {"n": 9007199254740993}}"#,
        r#"{"stats": {"$update": {"n": [9007199254740993]}}}"#,
        r#"{"stats": {"n": 18446744073709551617}}"#,
    ] {
        let reply = bench.send("PUT", ONE, body).await;
        assert_eq!(reply.status.as_u16(), 400, "{body}: {}", reply.body);
        assert!(
            reply.body["error_msg"]
                .as_str()
                .unwrap()
                .contains("stats: "),
            "{}",
            reply.body
        );
    }
    assert_eq!(bench.get(ONE).await.body["stats"]["n"], kept["n"]);
}

#[tokio::test]
async fn phones_may_carry_the_country_code() {
    let bench = Bench::new().await;
    for phone in ["13900139000", "8613900139000", "+8613900139000"] {
        assert_eq!(
            bench.put(ACCOUNT, json!({ "phone": phone })).await["phone"],
            "13900139000",
            "{phone}"
        );
        assert_eq!(
            bench.find(json!({ "_phone": phone })).await,
            ["你也是"],
            "{phone}"
        );
    }
}
