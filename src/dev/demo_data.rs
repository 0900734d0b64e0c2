//! The example users and fields of `dev`.

use serde_json::{Value, json};

use crate::{
    api::{Api, Batch},
    convert::{pb, proto_json},
    domain::caller::Caller,
    error::Reason,
};

/// The example user that the printed token speaks for.
pub const USER_ID: i64 = 1;
const USERS: i64 = 240;

/// Fields of every type.
fn fields() -> Vec<Value> {
    vec![
        json!({ "name": "level", "type": "FIELD_TYPE_INTEGER", "indexed": true, "defaultValue": 1,
                "description": "Grows as the user takes part" }),
        json!({ "name": "score", "type": "FIELD_TYPE_NUMBER", "description": "Points of the season" }),
        json!({ "name": "vip", "type": "FIELD_TYPE_BOOLEAN", "description": "Pays for the service" }),
        json!({ "name": "birthday", "type": "FIELD_TYPE_DATE", "userWritable": true,
                "description": "Midnight in UTC" }),
        json!({ "name": "motto", "type": "FIELD_TYPE_STRING", "userWritable": true,
                "description": "Shown under the nickname" }),
        json!({ "name": "tags", "type": "FIELD_TYPE_ARRAY", "itemType": "FIELD_TYPE_STRING", "indexed": true,
                "description": "What the team calls the user" }),
        json!({ "name": "stats", "type": "FIELD_TYPE_OBJECT", "description": "Counters" }),
        json!({ "name": "home", "type": "FIELD_TYPE_GEOJSON", "description": "Where the user lives" }),
        json!({ "name": "badge", "type": "FIELD_TYPE_FILE", "description": "Picture of the last badge" }),
        json!({ "name": "member_no", "type": "FIELD_TYPE_STRING", "unique": true,
                "description": "Printed on the member's card" }),
        json!({ "name": "test", "type": "FIELD_TYPE_STRING", "description": "Free to play with" }),
    ]
}

/// Two users as an older system showed them.
fn known_users() -> Vec<Value> {
    vec![
        json!({ "profile": {
            "userId": 64501217, "nickname": "你今天真好看", "gender": 1, "country": "中国", "province": "广东",
            "city": "广州", "language": "zh_CN", "openid": "o0b495YcphSE24RbTl7K9dMx_QAA", "isAuthorized": true,
            "avatarUrl": "https://media.ifanrusercontent.com/tavatar/73/b2/73b23fbd58.jpg",
            "createdAt": "2018-11-16T10:33:07Z", "customFields": { "test": "test" } } }),
        json!({ "profile": {
            "userId": 70695404, "nickname": "你也是", "gender": 1, "country": "中国", "province": "广东",
            "city": "广州", "language": "zh_CN", "openid": "o0b495agcnGojMQbCnlB9AV6OeDw", "isAuthorized": true,
            "avatarUrl": "https://media.ifanrusercontent.com/tavatar/4d/7c/4d7c5418b2.jpg",
            "createdAt": "2018-11-22T03:52:12Z", "customFields": { "test": "test" } } }),
        json!({ "profile": {
            "userId": 55019, "nickname": "Tom", "gender": 1, "country": "China", "province": "Guangdong",
            "city": "Guangzhou", "openid": "onzns0KsLKFyg3-VcW0GwTE6", "groupIds": ["137"],
            "createdAt": "2017-09-04T05:55:04Z" } }),
    ]
}

/// One of the demo users.
fn user(number: i64) -> Value {
    const NAMES: [&str; 16] = [
        "王芳",
        "李伟",
        "张敏",
        "刘洋",
        "陈静",
        "さくら",
        "민준",
        "Anna",
        "José",
        "Zoë",
        "Łukasz",
        "Nguyễn",
        "Ольга",
        "🦊 Fox",
        "Lea 🌻",
        "小明🎉",
    ];
    const CITIES: [(&str, &str, &str, &str); 4] = [
        ("中国", "广东", "广州", "zh-CN"),
        ("中国", "浙江", "杭州", "zh-CN"),
        ("Deutschland", "Berlin", "Berlin", "de"),
        ("USA", "Oregon", "Portland", "en-US"),
    ];
    const TAGS: [&str; 5] = ["vip", "early", "beta", "老用户", "press"];
    let pick = |count: usize, salt: i64| (number * 7 + salt).rem_euclid(count as i64) as usize;
    let (country, province, city, language) = CITIES[pick(CITIES.len(), 1)];
    let longitude = (number * 37 % 360 - 180) as f64;
    json!({
        "profile": {
            "userId": number,
            "nickname": if number == USER_ID { "Ann".to_owned() } else { format!("{} {number}", NAMES[pick(NAMES.len(), 0)]) },
            "gender": number % 3,
            "avatarUrl": format!("https://example.com/avatars/{number}.png"),
            "country": country, "province": province, "city": city, "language": language,
            "groupIds": if number % 2 == 0 { vec![258] } else { vec![258, 360] },
            "createdAt": format!("2024-{:02}-{:02}T08:00:00Z", number % 12 + 1, number % 28 + 1),
            "customFields": {
                "level": number % 10 + 1,
                "score": number as f64 * 1.5,
                "vip": number % 5 == 0,
                "birthday": format!("{}-03-04T00:00:00Z", 1960 + number % 50),
                "motto": "一期一会",
                "tags": [TAGS[pick(TAGS.len(), 0)], TAGS[pick(TAGS.len(), 2)]],
                "stats": { "logins": number, "week": { "posts": number % 4 } },
                "home": { "type": "Point", "coordinates": [longitude, (number % 90) as f64] },
                "badge": { "id": format!("badge-{number}"), "name": "badge.png", "mime_type": "image/png",
                           "size": 1024 + number, "url": format!("https://example.com/badges/{number}.png") },
                "member_no": format!("M{number:05}"),
            },
        },
        "account": {
            "username": format!("user_{number:04}"),
            "email": format!("user{number}@example.com"),
            "emailVerified": number % 2 == 1,
            // Two of three have logged in on the day they were made.
            "lastLoginAt": (number % 3 != 0).then(|| format!("2024-{:02}-{:02}T20:00:00Z", number % 12 + 1, number % 28 + 1)),
        },
    })
}

/// Makes the fields and the users; what is there already stays.
pub async fn fill(api: &Api) -> anyhow::Result<()> {
    let caller = Caller::operator();
    for field in fields() {
        let field = proto_json::from_json(&field.to_string())?;
        match api
            .create_field(
                &caller,
                pb::CreateFieldRequest {
                    field: Some(field),
                    request_id: String::new(),
                },
            )
            .await
        {
            Err(error) if error.reason() != Reason::FieldExists => return Err(error.into()),
            Err(_) | Ok(_) => {}
        }
    }
    let users = (1..=USERS).map(user).chain(known_users());
    let users: Vec<pb::CreateUserRequest> = users
        .map(|user| proto_json::from_json(&user.to_string()))
        .collect::<Result<_, _>>()?;
    let mut batch = Batch::default();
    users.into_iter().for_each(|user| batch.push(Ok(user), 0));
    let told = api.import_batch(&caller, 0, batch).await?;
    // A fill that was cut short left some of them.
    match told
        .failures
        .iter()
        .find(|failure| !failure.reason.ends_with("_TAKEN"))
    {
        Some(failure) => anyhow::bail!("cannot create a demo user: {}", failure.message),
        None => Ok(()),
    }
}
