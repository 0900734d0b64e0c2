//! The rules between the tables.

use serde_json::{Value, json};
use user_service::model::scope::Scope;

use super::{ACCOUNT, BULK, Bench, LIST, V1, encoded, refused};
use crate::support::{rest::Caller, start_time};

#[tokio::test]
async fn rule_where_reads_conditions_as_the_page_of_queries() {
    let bench = Bench::new().await;
    let all = ["Tom", "你今天真好看", "你也是"];
    for (given, expected) in [
        (json!({}), &all[..]),
        (json!({ "test": "test" }), &all[1..]),
        (json!({ "test": { "$eq": "test" }, "level": 3 }), &all[2..]),
        (
            json!({ "$or": [{ "nickname": "Tom" }, { "level": { "$range": [1, 3] } }] }),
            &[all[0], all[2]],
        ),
        (
            json!({ "$and": [{ "created_at": { "$gte": 1504504504 } }, { "created_at": { "$lt": 1542364387 } }] }),
            &all[..1],
        ),
        (json!({ "level": { "$isnull": true } }), &all[..2]),
        (json!({ "level": { "$exists": true } }), &all[2..]),
        (json!({ "id": { "$in": [55019, 64501217] } }), &all[..2]),
        (json!({ "_group": { "$in": [137] } }), &all[..1]),
        (json!({ "_email": "pretty_girl@example.com" }), &all[2..]),
        (json!({ "_phone": "13800138000" }), &all[2..]),
        (json!({ "nickname": { "$icontains": "tOm" } }), &all[..1]),
    ] {
        assert_eq!(bench.find(given.clone()).await, expected, "{given}");
    }
}

#[tokio::test]
async fn rule_a_change_writes_what_it_names_alone() {
    let bench = Bench::new().await;
    let path = format!("{BULK}70695404/");
    let changed = bench
        .put(
            &path,
            json!({ "level": { "$incr_by": 2 }, "tags": { "$append": ["a", "b"] } }),
        )
        .await;
    assert_eq!(
        (&changed["level"], &changed["tags"], &changed["test"]),
        (&json!(5), &json!(["a", "b"]), &json!("test"))
    );
    let changed = bench
        .put(
            &path,
            json!({ "$set": { "stats": { "n": 1 } }, "$unset": { "test": "" } }),
        )
        .await;
    assert_eq!(
        (&changed["stats"], changed.get("test")),
        (&json!({ "n": 1 }), None)
    );
    for (change, expected) in [
        (
            json!({ "$append_unique": ["b", "c"] }),
            json!(["a", "b", "c"]),
        ),
        (json!({ "$remove": ["a"] }), json!(["b", "c"])),
        (json!({ "$pop": 1 }), json!(["b"])),
    ] {
        assert_eq!(
            bench.put(&path, json!({ "tags": change })).await["tags"],
            expected,
            "{change}"
        );
    }
    let changed = bench
        .put(
            &path,
            json!({ "stats": { "$update": { "m": 2 } }, "level": 9_007_199_254_740_993_i64 }),
        )
        .await;
    assert_eq!(changed["stats"], json!({ "n": 1, "m": 2 }));
    assert_eq!(
        changed["level"], 9_007_199_254_740_993_i64,
        "whole numbers of any size are numbers"
    );
}

#[tokio::test]
async fn rule_updated_at_is_the_second_of_the_change() {
    let bench = Bench::new().await;
    bench.app.clock.advance(chrono::TimeDelta::seconds(90));
    let changed = bench
        .put(&format!("{BULK}70695404/"), json!({ "test": "later" }))
        .await;
    assert_eq!(changed["updated_at"], start_time().timestamp() + 90);
}

#[tokio::test]
async fn rule_bulk_tells_each_row_and_goes_on_by_next() {
    let bench = Bench::new().await;
    let query = format!(
        "{BULK}?where={}&limit=1&return_total_count=1",
        encoded(r#"{"test": "test"}"#)
    );
    let told = bench.put(&query, json!({ "test": "x" })).await;
    assert_eq!(
        (&told["succeed"], &told["total_count"], &told["limit"]),
        (&json!(1), &json!(2), &json!(1))
    );
    let next = told["next"].as_str().unwrap();
    assert!(next.starts_with(BULK), "{next}");
    let told = bench.put(next, json!({ "test": "x" })).await;
    assert_eq!(
        (&told["succeed"], &told["offset"], &told["next"]),
        (&json!(1), &json!(1), &Value::Null)
    );
    assert_eq!(
        bench.find(json!({ "test": "x" })).await.len(),
        2,
        "none is missed though the first no longer matches"
    );
    let none = bench
        .put(
            &format!("{BULK}?where={}", encoded(r#"{"test": "none"}"#)),
            json!({ "test": "x" }),
        )
        .await;
    assert_eq!(
        (&none["succeed"], &none["operation_result"], &none["next"]),
        (&json!(0), &json!([]), &Value::Null)
    );
}

/// The numbers of the rows that failed.
fn failures(told: &Value) -> Vec<&Value> {
    let rows = told["operation_result"].as_array().unwrap();
    rows.iter()
        .filter_map(|row| row.get("error"))
        .map(|error| &error["code"])
        .collect()
}

#[tokio::test]
async fn rule_bulk_tells_a_row_that_fails_by_a_number() {
    let bench = Bench::new().await;
    let told = bench
        .put(
            &format!("{BULK}?enable_trigger=0"),
            json!({ "card": "one" }),
        )
        .await;
    assert_eq!(
        (
            &told["succeed"],
            told["operation_result"].as_array().unwrap().len()
        ),
        (&json!(1), 3)
    );
    assert_eq!(failures(&told), [11000, 11000]);
    bench
        .put(&format!("{BULK}70695404/"), json!({ "level": i64::MAX }))
        .await;
    let told = bench.put(BULK, json!({ "level": { "$incr_by": 1 } })).await;
    assert_eq!(failures(&told), [16837]);
}

#[tokio::test]
async fn rule_account_names_ignore_case_and_null_clears() {
    let bench = Bench::new().await;
    let account = bench
        .put(
            ACCOUNT,
            json!({ "email": "NEW@Example.com", "phone": "13900139000" }),
        )
        .await;
    assert_eq!(
        (&account["email_verified"], &account["phone_verified"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(account["phone"], "13900139000");
    let account = bench
        .put(ACCOUNT, json!({ "email": null, "phone": null }))
        .await;
    let expected = json!({ "email": null, "email_verified": false, "username": "guoch.9", "phone": null,
                           "phone_verified": false });
    assert_eq!(account, expected);
    let both = ACCOUNT.replace("70695404", "55019");
    bench
        .put(&both, json!({ "email": null, "phone": null }))
        .await;
    let changed = bench.put(ACCOUNT, json!({ "username": "guoch.9" })).await;
    assert_eq!(
        changed["username"], "guoch.9",
        "the same again is no conflict with oneself"
    );
}

#[tokio::test]
async fn rule_account_new_password_needs_no_old_one_of_a_service() {
    let bench = Bench::new().await;
    bench
        .put(ACCOUNT, json!({ "new_password": "amber-harbour-51" }))
        .await;
    let body = json!({ "userId": "70695404", "password": "amber-harbour-51", "client": "c" });
    bench
        .service
        .good("POST", "/v1/users:verifyPassword", body)
        .await;
    let token = bench.app.user_token(70695404).await;
    let own = Caller::stranger(&bench.app).with("authorization", &format!("Bearer {token}"));
    let change = |current: &str| {
        json!({ "password": current, "new_password": "violet-lantern-93" }).to_string()
    };
    assert_eq!(
        refused(&own, "PUT", ACCOUNT, change("something-else"))
            .await
            .0,
        400
    );
    assert_eq!(
        own.send("PUT", ACCOUNT, change("amber-harbour-51"))
            .await
            .status
            .as_u16(),
        200
    );
}

#[tokio::test]
async fn rule_the_account_is_shown_and_asked_for_with_its_own_scope_alone() {
    let bench = Bench::new().await;
    let user = bench.get(&format!("{LIST}70695404/")).await.body;
    assert_eq!(
        (&user["_username"], &user["_phone"]),
        (&json!("guoch.9"), &json!("13800138000"))
    );
    let reader = Caller::service_with(&bench.app, &[Scope::ProfilesRead]).await;
    let user = reader.get(&format!("{LIST}70695404/")).await.body;
    assert!(
        user["nickname"].is_string() && user.get("_username").is_none(),
        "{user}"
    );
    let path = format!(
        "{LIST}?where={}",
        encoded(r#"{"_email": "pretty_girl@example.com"}"#)
    );
    assert_eq!(refused(&reader, "GET", &path, String::new()).await.0, 403);
    assert_eq!(refused(&reader, "PUT", BULK, "{}".to_owned()).await.0, 403);
}

#[tokio::test]
async fn rule_what_differs_is_refused_and_not_ignored() {
    let bench = Bench::new().await;
    let test = bench.service.with("x-hydrogen-env-id", "e1");
    for (method, path) in [("GET", V1), ("GET", LIST), ("PUT", BULK), ("PUT", ACCOUNT)] {
        assert_eq!(
            refused(&test, method, path, json!({ "test": "t" }).to_string())
                .await
                .0,
            400,
            "{method} {path}"
        );
    }
    for given in [
        json!({ "test": { "$regex": "^t" } }),
        json!({ "home": { "$within": { "type": "Polygon", "coordinates": [] } } }),
        json!({ "home": { "$center": { "radius": 1, "coordinates": [1, 2] } } }),
    ] {
        let path = format!("{LIST}?where={}", encoded(&given.to_string()));
        assert_eq!(
            bench.refused("GET", &path, Value::Null).await.0,
            400,
            "{given}"
        );
    }
}
