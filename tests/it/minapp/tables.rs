//! The tables of parameters and of states.

use serde_json::{Value, json};

use super::{ACCOUNT, BULK, Bench, LIST, V1, encoded, nicknames, refused};
use crate::support::rest::Caller;

// The tables of parameters.

#[tokio::test]
async fn each_parameter_of_the_list_in_v1() {
    let bench = Bench::new().await;
    let all = ["你也是", "你今天真好看", "Tom"];
    for (query, expected) in [
        ("created_at__gte=1483228800", &all[..]),
        ("created_at__lte=1483228800", &[]),
        ("created_at__gt=1504504504", &all[..2]),
        ("created_at__lt=1504504505", &all[2..]),
        ("created_at=1504504504", &all[2..]),
        ("gender=1", &all[1..]),
        ("gender=2", &[]),
        ("group__in=258,360", &all[2..]),
        ("group__in=1", &[]),
        ("limit=1", &all[..1]),
        ("limit=1000", &all),
        ("nickname=Tom", &all[2..]),
        ("nickname=tom", &[]),
        ("nickname__contains=om", &all[2..]),
        ("offset=1", &all[1..]),
        ("openid=onzns0KsLKFyg3-VcW0GwTE6", &all[2..]),
        ("unionid=unzns0KsLKFyg3-VcW0GwTE6", &all[2..]),
        ("user_id=55019&limit=5", &all[2..]),
        ("order_by=-created_at", &all),
    ] {
        assert_eq!(
            bench.found(&format!("{V1}?{query}")).await,
            expected,
            "{query}"
        );
    }
    let oldest = bench
        .found(&format!("{V1}?order_by=created_at&limit=1"))
        .await;
    assert_eq!(oldest, ["Tom"]);
    for query in [
        "order_by=nickname",
        "group=137",
        "gender=x",
        "limit=-1",
        "offset=x",
        "group__in=a",
    ] {
        assert_eq!(
            bench
                .refused("GET", &format!("{V1}?{query}"), Value::Null)
                .await
                .0,
            400,
            "{query}"
        );
    }
}

#[tokio::test]
async fn each_parameter_of_the_list_in_v2() {
    let bench = Bench::new().await;
    let page = bench
        .get(&format!(
            "{LIST}?order_by=created_at&limit=1&offset=1&return_total_count=1"
        ))
        .await
        .body;
    assert_eq!(nicknames(&page), ["你今天真好看"]);
    let meta = &page["meta"];
    assert_eq!(
        (&meta["limit"], &meta["offset"], &meta["total_count"]),
        (&json!(1), &json!(1), &json!(3))
    );
    for link in ["next", "previous"] {
        assert!(meta[link].as_str().unwrap().starts_with(LIST), "{meta}");
    }
    assert_eq!(
        bench.found(meta["next"].as_str().unwrap()).await,
        ["你也是"]
    );
    assert_eq!(
        bench.found(meta["previous"].as_str().unwrap()).await,
        ["Tom"]
    );
    assert!(
        bench
            .get(&format!("{LIST}?return_total_count=0"))
            .await
            .body["meta"]
            .get("total_count")
            .is_none()
    );
    for query in [
        "limit=x",
        "offset=-1",
        "return_total_count=2",
        "wehre=%7B%7D",
        "limit=1&limit=2",
    ] {
        assert_eq!(
            bench
                .refused("GET", &format!("{LIST}?{query}"), Value::Null)
                .await
                .0,
            400,
            "{query}"
        );
    }
}

#[tokio::test]
async fn fields_that_the_page_says_give_no_order() {
    let bench = Bench::new().await;
    for field in [
        "gender", "country", "province", "city", "language", "nothing", "tags", "stats",
    ] {
        let told = bench
            .refused("GET", &format!("{LIST}?order_by={field}"), Value::Null)
            .await;
        assert_eq!(told.0, 400, "{field}");
    }
    for field in [
        "created_at",
        "-updated_at",
        "nickname",
        "id",
        "-level,created_at",
    ] {
        assert_eq!(
            bench.found(&format!("{LIST}?order_by={field}")).await.len(),
            3,
            "{field}"
        );
    }
}

// The tables of states.

#[tokio::test]
async fn state_400_of_a_where_is_a_wrong_operator_or_value() {
    let bench = Bench::new().await;
    for given in [
        "{",
        "[{}]",
        "7",
        "",
        r#"{"test": {"$like": "t"}}"#,
        r#"{"test": {"$in": "t"}}"#,
        r#"{"level": {"$gt": "a"}}"#,
        r#"{"level": "3"}"#,
        r#"{"nothing": 1}"#,
        r#"{"$or": []}"#,
        r#"{"$nor": [{"test": "t"}]}"#,
        r#"{"test": {"$contains": ""}}"#,
        r#"{"level": {"$range": [1]}}"#,
    ] {
        assert_eq!(
            bench
                .refused(
                    "GET",
                    &format!("{LIST}?where={}", encoded(given)),
                    Value::Null
                )
                .await
                .0,
            400,
            "{given}"
        );
    }
}

#[tokio::test]
async fn state_401_is_a_token_that_is_missing_or_wrong() {
    let bench = Bench::new().await;
    let stranger = Caller::stranger(&bench.app);
    let wrong = stranger.with(
        "authorization",
        "Bearer 35919068aa799eccdef19160e1da4bf21381d2a2",
    );
    for caller in [stranger, wrong] {
        for (method, path) in [
            ("GET", V1),
            ("GET", LIST),
            ("PUT", BULK),
            ("PUT", ACCOUNT),
            ("GET", "/oserve/v1/user/info/1/"),
        ] {
            assert_eq!(
                refused(&caller, method, path, "{}".to_owned()).await.0,
                401,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn state_404_is_a_user_who_is_not_there() {
    let bench = Bench::new().await;
    let body = json!({ "test": "t" });
    for path in [
        format!("{V1}77/"),
        format!("{V1}?user_id=77"),
        format!("{LIST}77/"),
        format!("{LIST}abc/"),
    ] {
        assert_eq!(
            bench.refused("GET", &path, Value::Null).await.0,
            404,
            "{path}"
        );
    }
    assert_eq!(
        bench.refused("PUT", &format!("{BULK}77/"), body).await.0,
        404
    );
    let account = ACCOUNT.replace("70695404", "77");
    assert_eq!(
        bench
            .refused("PUT", &account, json!({ "username": "pretty_girl" }))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn state_400_of_a_change_is_another_type_or_no_custom_field() {
    let bench = Bench::new().await;
    for body in [
        json!({ "test": 7 }),
        json!({ "level": 1.5 }),
        json!({ "level": "7" }),
        json!({ "nickname": "Tom" }),
        json!({ "_group": [1] }),
        json!({ "created_at": 1 }),
        json!({ "nothing": 1 }),
        json!({ "test": "fine", "nothing": 1 }),
        json!({ "level": { "$incr_by": "1" } }),
        json!({ "level": { "$multiply": 2 } }),
        json!({ "$set": { "test": "a" }, "$unset": { "test": "" } }),
    ] {
        for path in [format!("{BULK}70695404/"), BULK.to_owned()] {
            assert_eq!(
                bench.refused("PUT", &path, body.clone()).await.0,
                400,
                "{path} {body}"
            );
        }
    }
    assert_eq!(
        bench.get(&format!("{LIST}70695404/")).await.body["test"],
        "test",
        "all or nothing"
    );
}

#[tokio::test]
async fn state_400_of_an_account_is_what_is_wrong_or_taken() {
    let bench = Bench::new().await;
    let other = ACCOUNT.replace("70695404", "55019");
    for body in [
        json!({ "username": "GUOCH.9" }),
        json!({ "email": "Pretty_Girl@example.com" }),
        json!({ "phone": "13800138000" }),
        json!({ "email": "nobody" }),
        json!({ "username": "" }),
        json!({ "username": 7 }),
        json!({ "new_password": null }),
        json!({ "nickname": "x" }),
    ] {
        assert_eq!(
            bench.refused("PUT", &other, body.clone()).await.0,
            400,
            "{body}"
        );
    }
}
