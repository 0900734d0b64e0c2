//! minapp's own pages: each line of curl as it is printed, the requests of their Node and PHP examples as those send
//! them, each parameter of their tables, and each rule.

use serde_json::{Value, json};
use user_service::model::scope::Scope;

use crate::support::{
    TestApp,
    rest::{Caller, Reply, curl},
};

const HOST: &str = "https://cloud.minapp.com";
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
            service.good("POST", "/v1/fields", json!({ "field": field })).await;
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

    /// A line of the pages, with host and token replaced; gives the body of a success.
    async fn curl(&self, line: &str, token: &str) -> Value {
        let (host, own) = (format!("http://{}", self.service.rest), self.service.header("authorization"));
        let (status, body) = curl(line, &[(HOST, &host), (&format!("Bearer {token}"), own)]).await;
        assert_eq!(status, 200, "{line}\n{body}");
        body
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
        self.found(&format!("{LIST}?order_by=created_at&where={}", encoded(&given.to_string()))).await
    }

    /// The status and body that refuse a call in this surface's form.
    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        refused(&self.service, method, path, body).await
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        self.service.good("PUT", path, body).await
    }
}

async fn refused(caller: &Caller, method: &str, path: &str, body: String) -> (u16, Value) {
    let reply = caller.send(method, path, body.clone()).await;
    assert!(!reply.status.is_success(), "{method} {path} {body} is taken: {}", reply.body);
    let keys: Vec<&str> =
        reply.body.as_object().unwrap_or_else(|| panic!("{path}: {reply:?}")).keys().map(String::as_str).collect();
    assert_eq!((keys, &reply.body["status"]), (vec!["error_msg", "status"], &json!("error")), "{path}");
    (reply.status.as_u16(), reply.body)
}

fn nicknames(list: &Value) -> Vec<String> {
    let objects = list["objects"].as_array().unwrap();
    objects.iter().map(|object| object["nickname"].as_str().unwrap().to_owned()).collect()
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn has_keys(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing in {value}");
    }
}

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

// The lines of curl.

#[tokio::test]
async fn the_line_of_one_user_in_v1() {
    let bench = Bench::new().await;
    let line = r#"curl -X GET \
-H "Authorization: Bearer 58f6cd9f84b1b0c04941fbd4d87bc5f14a785107" \
-H "Content-Type: application/json" \
https://cloud.minapp.com/oserve/v1/miniapp/user-profile/?user_id=55019"#;
    let user = bench.curl(line, "58f6cd9f84b1b0c04941fbd4d87bc5f14a785107").await;
    has_keys(&user, V1_KEYS);
    assert_eq!(user.as_object().unwrap().len(), V1_KEYS.len());
    assert_eq!((&user["user_id"], &user["created_at"]), (&json!(55019), &json!(1_504_504_504)));
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
    let list = bench.curl(line, "58f6cd9f84b1b0c04941fbd4d87bc5f14a785107").await;
    let meta = json!({ "limit": 20, "next": null, "offset": 0, "previous": null, "total_count": 1 });
    assert_eq!((&list["meta"], nicknames(&list)), (&meta, vec!["Tom".to_owned()]));
    has_keys(&list["objects"][0], V1_KEYS);
}

#[tokio::test]
async fn the_url_of_the_count_in_v2() {
    let bench = Bench::new().await;
    let line = "curl -H 'Authorization: Bearer t' \
                'https://cloud.minapp.com/oserve/v2.2/miniapp/user_profile/?limit=1&return_total_count=1'";
    let list = bench.curl(line, "t").await;
    assert_eq!((&list["meta"]["total_count"], nicknames(&list).len()), (&json!(3), 1));
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
    let meant = line.replace("-X GET", "-G").replace("'{\"test\"", "'where={\"test\"");
    let list = bench.curl(&meant, "35919068aa799eccdef160e1da4bf21381").await;
    assert_eq!(nicknames(&list).len(), 2);
    list["objects"].as_array().unwrap().iter().for_each(|object| has_keys(object, V2_KEYS));
}

#[tokio::test]
async fn the_line_of_one_user_in_v2() {
    let bench = Bench::new().await;
    let line = r#"curl -X GET \
-H "Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2" \
https://cloud.minapp.com/oserve/v2.2/miniapp/user_profile/70695404/"#;
    let user = bench.curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2").await;
    has_keys(&user, V2_KEYS);
    assert_eq!((&user["id"], &user["created_by"]), (&json!(70695404), &json!(70695404)));
    assert_eq!((&user["created_at"], &user["unionid"]), (&json!(1_542_858_732), &Value::Null));
}

#[tokio::test]
async fn the_line_of_a_change() {
    let bench = Bench::new().await;
    let line = r#"curl -X PUT \
https://cloud.minapp.com/oserve/v2.6/miniapp/user_profile/70695404/ \
-H 'Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2' \
-H 'Content-Type: application/json' \
-d '{"test": "test"}'"#;
    let user = bench.curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2").await;
    has_keys(&user, V2_KEYS);
    assert_eq!((&user["test"], &user["level"], &user["nickname"]), (&json!("test"), &json!(3), &json!("你也是")));
}

#[tokio::test]
async fn the_line_of_a_bulk_change() {
    let bench = Bench::new().await;
    let line = r#"curl -X PUT \
https://cloud.minapp.com/oserve/v2.6/miniapp/user_profile/ \
-H 'Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2' \
-H 'Content-Type: application/json' \
-d '{"test": "test"}'"#;
    let told = bench.curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2").await;
    assert_eq!((&told["succeed"], &told["offset"], &told["limit"]), (&json!(3), &json!(0), &json!(20)));
    assert_eq!((&told["next"], told.get("total_count")), (&Value::Null, None));
    let first = &told["operation_result"][0]["success"];
    assert!(first["id"].is_string() && first["updated_at"].is_i64(), "{told}");
}

#[tokio::test]
async fn the_line_of_an_account() {
    let bench = Bench::new().await;
    let line = r#"curl -X PUT \
https://cloud.minapp.com/oserve/v2.1/miniapp/user/account/70695404/ \
-H 'Authorization: Bearer 35919068aa799eccdef19160e1da4bf21381d2a2' \
-H 'Content-Type: application/json' \
-d '{"username": "pretty_girl"}'"#;
    let account = bench.curl(line, "35919068aa799eccdef19160e1da4bf21381d2a2").await;
    let expected = json!({ "email": "pretty_girl@example.com", "email_verified": true, "username": "pretty_girl",
                           "phone": "13800138000", "phone_verified": true });
    assert_eq!(account, expected);
}

// The requests of the Node and PHP examples, encoded as their libraries do.

#[tokio::test]
async fn the_requests_of_the_other_examples() {
    let bench = Bench::new().await;
    let php = bench.service.with("content-type", "application/json; charset=utf-8");
    let filter = "where=%7B%22test%22%3A%7B%22%24eq%22%3A%22test%22%7D%7D&return_total_count=1";
    for (path, key, expected) in
        [(format!("{V1}?user_id=55019"), "user_id", json!(55019)), (format!("{LIST}70695404/"), "id", json!(70695404))]
    {
        for caller in [&bench.service, &php] {
            assert_eq!(caller.get(&path).await.body[key], expected, "{path}");
        }
    }
    for (query, expected) in [
        ("nickname__contains=Tom&gender=1&created_at__gte=1483228800&order_by=-created_at", 1),
        ("nickname__contains=username&gender=1&created_at__gte=1483228800&user_id=36395300&order_by=-created_at", 0),
    ] {
        assert_eq!(php.get(&format!("{V1}?{query}")).await.body["meta"]["total_count"], expected, "{query}");
    }
    assert_eq!(php.get(&format!("{LIST}?{filter}")).await.body["meta"]["total_count"], 2);
    for path in [format!("{BULK}70695404/"), BULK.to_owned()] {
        php.good("PUT", &path, json!({ "test": "test" })).await;
    }
    let account = php.good("PUT", ACCOUNT, json!({ "username": "pretty_girl_php" })).await;
    assert_eq!(account["username"], "pretty_girl_php");
}

#[tokio::test]
async fn the_older_paths_answer_too() {
    let bench = Bench::new().await;
    has_keys(&bench.get(&format!("{V1}55019/")).await.body, V1_KEYS);
    let list = bench.get("/oserve/v1/user/info/").await.body;
    assert_eq!(list["meta"]["total_count"], 3, "it counts without being asked");
    has_keys(&bench.get("/oserve/v1/user/info/70695404/").await.body, V2_KEYS);
    assert_eq!(bench.put("/oserve/v1/user/info/70695404/", json!({ "test": "older" })).await["test"], "older");
    for path in [V1, LIST, "/oserve/v1/user/info/"] {
        assert_eq!(bench.get(path.trim_end_matches('/')).await.status.as_u16(), 200, "{path} without its last slash");
    }
}

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
        assert_eq!(bench.found(&format!("{V1}?{query}")).await, expected, "{query}");
    }
    let oldest = bench.found(&format!("{V1}?order_by=created_at&limit=1")).await;
    assert_eq!(oldest, ["Tom"]);
    for query in ["order_by=nickname", "group=137", "gender=x", "limit=0", "limit=-1", "offset=x", "group__in=a"] {
        assert_eq!(bench.refused("GET", &format!("{V1}?{query}"), Value::Null).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn each_parameter_of_the_list_in_v2() {
    let bench = Bench::new().await;
    let page = bench.get(&format!("{LIST}?order_by=created_at&limit=1&offset=1&return_total_count=1")).await.body;
    assert_eq!(nicknames(&page), ["你今天真好看"]);
    let meta = &page["meta"];
    assert_eq!((&meta["limit"], &meta["offset"], &meta["total_count"]), (&json!(1), &json!(1), &json!(3)));
    for link in ["next", "previous"] {
        assert!(meta[link].as_str().unwrap().starts_with(LIST), "{meta}");
    }
    assert_eq!(bench.found(meta["next"].as_str().unwrap()).await, ["你也是"]);
    assert_eq!(bench.found(meta["previous"].as_str().unwrap()).await, ["Tom"]);
    assert!(bench.get(&format!("{LIST}?return_total_count=0")).await.body["meta"].get("total_count").is_none());
    for query in ["limit=0", "limit=x", "offset=-1", "return_total_count=2", "wehre=%7B%7D", "limit=1&limit=2"] {
        assert_eq!(bench.refused("GET", &format!("{LIST}?{query}"), Value::Null).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn fields_that_the_page_says_give_no_order() {
    let bench = Bench::new().await;
    for field in ["gender", "country", "province", "city", "language", "nothing", "tags", "stats"] {
        let told = bench.refused("GET", &format!("{LIST}?order_by={field}"), Value::Null).await;
        assert_eq!(told.0, 400, "{field}");
    }
    for field in ["created_at", "-updated_at", "nickname", "id", "-level,created_at"] {
        assert_eq!(bench.found(&format!("{LIST}?order_by={field}")).await.len(), 3, "{field}");
    }
}

// The tables of states.

#[tokio::test]
async fn state_400_of_a_where_is_a_wrong_operator_or_value() {
    let bench = Bench::new().await;
    for given in [
        "{",
        "[]",
        "7",
        "",
        r#"{"test": {"$like": "t"}}"#,
        r#"{"test": {"$in": "t"}}"#,
        r#"{"level": {"$gt": "a"}}"#,
        r#"{"level": "3"}"#,
        r#"{"nothing": 1}"#,
        r#"{"$and": []}"#,
        r#"{"$nor": [{"test": "t"}]}"#,
        r#"{"test": {"$contains": ""}}"#,
        r#"{"level": {"$range": [1]}}"#,
    ] {
        assert_eq!(
            bench.refused("GET", &format!("{LIST}?where={}", encoded(given)), Value::Null).await.0,
            400,
            "{given}"
        );
    }
}

#[tokio::test]
async fn state_401_is_a_token_that_is_missing_or_wrong() {
    let bench = Bench::new().await;
    let stranger = Caller::stranger(&bench.app);
    let wrong = stranger.with("authorization", "Bearer 35919068aa799eccdef19160e1da4bf21381d2a2");
    for caller in [stranger, wrong] {
        for (method, path) in
            [("GET", V1), ("GET", LIST), ("PUT", BULK), ("PUT", ACCOUNT), ("GET", "/oserve/v1/user/info/1/")]
        {
            assert_eq!(refused(&caller, method, path, "{}".to_owned()).await.0, 401, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn state_404_is_a_user_who_is_not_there() {
    let bench = Bench::new().await;
    let body = json!({ "test": "t" });
    for path in [format!("{V1}77/"), format!("{V1}?user_id=77"), format!("{LIST}77/"), format!("{LIST}abc/")] {
        assert_eq!(bench.refused("GET", &path, Value::Null).await.0, 404, "{path}");
    }
    assert_eq!(bench.refused("PUT", &format!("{BULK}77/"), body).await.0, 404);
    let account = ACCOUNT.replace("70695404", "77");
    assert_eq!(bench.refused("PUT", &account, json!({ "username": "pretty_girl" })).await.0, 404);
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
        json!({}),
    ] {
        for path in [format!("{BULK}70695404/"), BULK.to_owned()] {
            assert_eq!(bench.refused("PUT", &path, body.clone()).await.0, 400, "{path} {body}");
        }
    }
    assert_eq!(bench.get(&format!("{LIST}70695404/")).await.body["test"], "test", "all or nothing");
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
        json!({}),
    ] {
        assert_eq!(bench.refused("PUT", &other, body.clone()).await.0, 400, "{body}");
    }
}

// Rules.

#[tokio::test]
async fn rule_where_reads_conditions_as_the_page_of_queries() {
    let bench = Bench::new().await;
    let all = ["Tom", "你今天真好看", "你也是"];
    for (given, expected) in [
        (json!({}), &all[..]),
        (json!({ "test": "test" }), &all[1..]),
        (json!({ "test": { "$eq": "test" }, "level": 3 }), &all[2..]),
        (json!({ "$or": [{ "nickname": "Tom" }, { "level": { "$range": [1, 3] } }] }), &[all[0], all[2]]),
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
    let changed = bench.put(&path, json!({ "level": { "$incr_by": 2 }, "tags": { "$append": ["a", "b"] } })).await;
    assert_eq!(
        (&changed["level"], &changed["tags"], &changed["test"]),
        (&json!(5), &json!(["a", "b"]), &json!("test"))
    );
    let changed = bench.put(&path, json!({ "$set": { "stats": { "n": 1 } }, "$unset": { "test": "" } })).await;
    assert_eq!((&changed["stats"], changed.get("test")), (&json!({ "n": 1 }), None));
    for (change, expected) in [
        (json!({ "$append_unique": ["b", "c"] }), json!(["a", "b", "c"])),
        (json!({ "$remove": ["a"] }), json!(["b", "c"])),
        (json!({ "$pop": 1 }), json!(["b"])),
    ] {
        assert_eq!(bench.put(&path, json!({ "tags": change })).await["tags"], expected, "{change}");
    }
    let changed =
        bench.put(&path, json!({ "stats": { "$update": { "m": 2 } }, "level": 9_007_199_254_740_993_i64 })).await;
    assert_eq!(changed["stats"], json!({ "n": 1, "m": 2 }));
    assert_eq!(changed["level"], 9_007_199_254_740_993_i64, "whole numbers of any size are numbers");
}

#[tokio::test]
async fn rule_updated_at_is_the_second_of_the_change() {
    let bench = Bench::new().await;
    bench.app.clock.advance(chrono::TimeDelta::seconds(90));
    let changed = bench.put(&format!("{BULK}70695404/"), json!({ "test": "later" })).await;
    assert_eq!(changed["updated_at"], crate::support::start_time().timestamp() + 90);
}

#[tokio::test]
async fn rule_bulk_tells_each_row_and_goes_on_by_next() {
    let bench = Bench::new().await;
    let query = format!("{BULK}?where={}&limit=1&return_total_count=1", encoded(r#"{"test": "test"}"#));
    let told = bench.put(&query, json!({ "test": "x" })).await;
    assert_eq!((&told["succeed"], &told["total_count"], &told["limit"]), (&json!(1), &json!(2), &json!(1)));
    let next = told["next"].as_str().unwrap();
    assert!(next.starts_with(BULK), "{next}");
    let told = bench.put(next, json!({ "test": "x" })).await;
    assert_eq!((&told["succeed"], &told["offset"], &told["next"]), (&json!(1), &json!(1), &Value::Null));
    assert_eq!(bench.find(json!({ "test": "x" })).await.len(), 2, "none is missed though the first no longer matches");
    let none = bench.put(&format!("{BULK}?where={}", encoded(r#"{"test": "none"}"#)), json!({ "test": "x" })).await;
    assert_eq!((&none["succeed"], &none["operation_result"], &none["next"]), (&json!(0), &json!([]), &Value::Null));
}

#[tokio::test]
async fn rule_bulk_tells_a_row_that_fails_by_a_number() {
    let bench = Bench::new().await;
    let told = bench.put(&format!("{BULK}?enable_trigger=0"), json!({ "card": "one" })).await;
    assert_eq!((&told["succeed"], told["operation_result"].as_array().unwrap().len()), (&json!(1), 3));
    let numbers: Vec<&Value> = told["operation_result"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row.get("error"))
        .map(|e| &e["code"])
        .collect();
    assert_eq!(numbers, [11000, 11000]);
    bench.put(&format!("{BULK}70695404/"), json!({ "level": i64::MAX })).await;
    let told = bench.put(BULK, json!({ "level": { "$incr_by": 1 } })).await;
    let numbers: Vec<&Value> = told["operation_result"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row.get("error"))
        .map(|e| &e["code"])
        .collect();
    assert_eq!(numbers, [16837]);
}

#[tokio::test]
async fn rule_account_names_ignore_case_and_null_clears() {
    let bench = Bench::new().await;
    let account = bench.put(ACCOUNT, json!({ "email": "NEW@Example.com", "phone": "13900139000" })).await;
    assert_eq!((&account["email_verified"], &account["phone_verified"]), (&json!(false), &json!(false)));
    assert_eq!(account["phone"], "13900139000");
    let account = bench.put(ACCOUNT, json!({ "email": null, "phone": null })).await;
    let expected = json!({ "email": null, "email_verified": false, "username": "guoch.9", "phone": null,
                           "phone_verified": false });
    assert_eq!(account, expected);
    let both = ACCOUNT.replace("70695404", "55019");
    bench.put(&both, json!({ "email": null, "phone": null })).await;
    let changed = bench.put(ACCOUNT, json!({ "username": "guoch.9" })).await;
    assert_eq!(changed["username"], "guoch.9", "the same again is no conflict with oneself");
}

#[tokio::test]
async fn rule_account_new_password_needs_no_old_one_of_a_service() {
    let bench = Bench::new().await;
    bench.put(ACCOUNT, json!({ "new_password": "amber-harbour-51" })).await;
    let body = json!({ "userId": "70695404", "password": "amber-harbour-51", "client": "c" });
    bench.service.good("POST", "/v1/users:verifyPassword", body).await;
    let token = bench.app.user_token(70695404).await;
    let own = Caller::stranger(&bench.app).with("authorization", &format!("Bearer {token}"));
    let change = |current: &str| json!({ "password": current, "new_password": "violet-lantern-93" }).to_string();
    assert_eq!(refused(&own, "PUT", ACCOUNT, change("something-else")).await.0, 400);
    assert_eq!(own.send("PUT", ACCOUNT, change("amber-harbour-51")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn rule_the_account_is_shown_and_asked_for_with_its_own_scope_alone() {
    let bench = Bench::new().await;
    let user = bench.get(&format!("{LIST}70695404/")).await.body;
    assert_eq!((&user["_username"], &user["_phone"]), (&json!("guoch.9"), &json!("13800138000")));
    let reader = Caller::service_with(&bench.app, &[Scope::ProfilesRead]).await;
    let user = reader.get(&format!("{LIST}70695404/")).await.body;
    assert!(user["nickname"].is_string() && user.get("_username").is_none(), "{user}");
    let path = format!("{LIST}?where={}", encoded(r#"{"_email": "pretty_girl@example.com"}"#));
    assert_eq!(refused(&reader, "GET", &path, String::new()).await.0, 403);
    assert_eq!(refused(&reader, "PUT", BULK, "{}".to_owned()).await.0, 403);
}

#[tokio::test]
async fn rule_what_differs_is_refused_and_not_ignored() {
    let bench = Bench::new().await;
    let test = bench.service.with("x-hydrogen-env-id", "e1");
    for (method, path) in [("GET", V1), ("GET", LIST), ("PUT", BULK), ("PUT", ACCOUNT)] {
        assert_eq!(refused(&test, method, path, json!({ "test": "t" }).to_string()).await.0, 400, "{method} {path}");
    }
    for given in [
        json!({ "test": { "$regex": "^t" } }),
        json!({ "home": { "$within": { "type": "Polygon", "coordinates": [] } } }),
        json!({ "home": { "$center": { "radius": 1, "coordinates": [1, 2] } } }),
    ] {
        let path = format!("{LIST}?where={}", encoded(&given.to_string()));
        assert_eq!(bench.refused("GET", &path, Value::Null).await.0, 400, "{given}");
    }
}
