//! One generated user, as a service would create it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::{
    names::{self, Name},
    rng::SeededRng,
};
use crate::{
    convert::{json::to_struct, pb},
    model::field::Fields,
};

/// How far back the first ones go.
const YEARS: i64 = 5;
const GROUPS: usize = 400;
/// Everybody's first group, as that of the example users.
const MEMBERS: i64 = 258;
/// A group of very few.
const RARE_GROUP: i64 = 77;

const PLACES: &[(&str, &str, &str, &str)] = &[
    ("中国", "广东", "广州", "zh-CN"),
    ("中国", "浙江", "杭州", "zh-CN"),
    ("中国", "北京", "北京", "zh_CN"),
    ("中国", "四川", "成都", "zh-CN"),
    ("中国", "台湾", "台北", "zh-TW"),
    ("USA", "Oregon", "Portland", "en-US"),
    ("Deutschland", "Berlin", "Berlin", "de"),
    ("Brasil", "São Paulo", "São Paulo", "pt-BR"),
    ("日本", "東京都", "東京", "ja"),
];
const TAGS: &[&str] = &[
    "vip",
    "early",
    "beta",
    "老用户",
    "press",
    "team",
    "student",
    "校园",
    "partner",
    "lurker",
];
const MOTTOS: &[&str] = &[
    "一期一会",
    "Carpe diem",
    "天道酬勤",
    "Stay hungry",
    "海内存知己，天涯若比邻",
    "¯\\_(ツ)_/¯",
];

/// The user of that number; `share` is its position among all generated users, from 0 to 1.
pub fn fake_user(
    number: u64,
    share: f64,
    now: DateTime<Utc>,
    fields: &Fields,
) -> pb::CreateUserRequest {
    let mut rng = SeededRng::new(number);
    let Name { nickname, latin } = names::name(&mut rng);
    let (country, province, city, language) = *rng.pick(PLACES);
    let has_platform = rng.percent(40);
    let profile = pb::Profile {
        nickname: if rng.percent(98) {
            nickname
        } else {
            String::new()
        },
        avatar_url: if rng.percent(60) {
            format!("https://example.com/avatars/{number}.png")
        } else {
            String::new()
        },
        gender: rng.below(3) as i32,
        country: country.to_owned(),
        province: province.to_owned(),
        city: city.to_owned(),
        language: language.to_owned(),
        openid: has_platform.then(|| format!("o{}", rng.letters(27))),
        unionid: (has_platform && rng.percent(50)).then(|| format!("u{}", rng.letters(27))),
        is_authorized: has_platform && rng.percent(80),
        group_ids: groups(number, &mut rng),
        custom_fields: Some(to_struct(custom_fields(number, &mut rng, fields).iter())),
        created_at: Some(created_at(share, now, &mut rng)),
        ..Default::default()
    };
    let username = rng.percent(60).then(|| format!("{latin}_{number:04}"));
    let email = rng.percent(70).then(|| {
        format!(
            "{latin}.{number}@example.{}",
            rng.pick(&["com", "org", "net"])
        )
    });
    let email_verified = rng.percent(80) && email.is_some();
    // A range that no telephone has.
    let phone = rng.percent(50).then(|| format!("+8612{number:09}"));
    let phone_verified = rng.percent(90) && phone.is_some();
    let account = pb::Account {
        username,
        email,
        email_verified,
        phone,
        phone_verified,
        ..Default::default()
    };
    pb::CreateUserRequest {
        profile: Some(profile),
        account: Some(account),
        ..Default::default()
    }
}

/// The later the more: growth is what a service's years look like.
fn created_at(share: f64, now: DateTime<Utc>, rng: &mut SeededRng) -> prost_types::Timestamp {
    let span = TimeDelta::days(YEARS * 365).num_seconds() as f64;
    let day = TimeDelta::days(1).num_seconds() as f64;
    let age = span * (1.0 - share.sqrt()) + day * rng.fraction();
    let at = now - TimeDelta::microseconds((age * 1e6) as i64);
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos: at.timestamp_subsec_micros() as i32 * 1000,
    }
}

fn groups(number: u64, rng: &mut SeededRng) -> Vec<i64> {
    let mut groups = Vec::new();
    if rng.percent(30) {
        groups.push(MEMBERS);
    }
    for _ in 0..rng.below(3) {
        groups.push(1000 + rng.rank(GROUPS) as i64);
    }
    if number % 20_000 == 11 {
        groups.push(RARE_GROUP);
    }
    groups
}

/// Values of the example fields that there still are.
fn custom_fields(number: u64, rng: &mut SeededRng, fields: &Fields) -> Map<String, Value> {
    let mut tags: Vec<&str> = (0..rng.below(4)).map(|_| *rng.pick(TAGS)).collect();
    tags.dedup();
    if number % 10_000 == 3 {
        tags.push("founder");
    }
    let mut values = Map::new();
    let mut add = |name: &str, value: Value| {
        if fields.get(name).is_some() {
            values.insert(name.to_owned(), value);
        }
    };
    add("level", json!(1 + rng.rank(60)));
    add("score", json!(rng.below(200_000) as f64 / 2.0));
    add("vip", json!(rng.percent(5)));
    add("tags", json!(tags));
    add(
        "stats",
        json!({ "logins": rng.below(2000), "week": { "posts": rng.below(20) } }),
    );
    if rng.percent(50) {
        add("member_no", json!(format!("M{number:08}")));
    }
    if rng.percent(60) {
        let (year, month, day) = (1950 + rng.below(60), 1 + rng.below(12), 1 + rng.below(28));
        add(
            "birthday",
            json!(format!("{year}-{month:02}-{day:02}T00:00:00Z")),
        );
    }
    if rng.percent(30) {
        add("motto", json!(rng.pick(MOTTOS)));
    }
    if rng.percent(20) {
        let (longitude, latitude) = (
            rng.fraction() * 360.0 - 180.0,
            rng.fraction() * 180.0 - 90.0,
        );
        add(
            "home",
            json!({ "type": "Point", "coordinates": [longitude, latitude] }),
        );
    }
    if rng.percent(5) {
        add(
            "badge",
            json!({
                "id": format!("badge-{number}"), "name": "badge.png", "mime_type": "image/png", "size": 1024 + number,
                "url": format!("https://example.com/badges/{number}.png"),
            }),
        );
    }
    values
}
