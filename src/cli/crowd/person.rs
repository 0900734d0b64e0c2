//! One made-up user, as a service would create it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::{
    dice::Dice,
    names::{self, Name},
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
const TAGS: &[&str] = &["vip", "early", "beta", "老用户", "press", "team", "student", "校园", "partner", "lurker"];
const MOTTOS: &[&str] = &["一期一会", "Carpe diem", "天道酬勤", "Stay hungry", "海内存知己，天涯若比邻", "¯\\_(ツ)_/¯"];

/// The person of that number; `share` is how many of its crowd come before it, from 0 to 1.
pub fn person(number: u64, share: f64, now: DateTime<Utc>, fields: &Fields) -> pb::CreateUserRequest {
    let mut dice = Dice::new(number);
    let Name { nickname, latin } = names::name(&mut dice);
    let (country, province, city, language) = *dice.pick(PLACES);
    let has_platform = dice.percent(40);
    let profile = pb::Profile {
        nickname: if dice.percent(98) { nickname } else { String::new() },
        avatar_url: if dice.percent(60) { format!("https://example.com/avatars/{number}.png") } else { String::new() },
        gender: dice.below(3) as i32,
        country: country.to_owned(),
        province: province.to_owned(),
        city: city.to_owned(),
        language: language.to_owned(),
        openid: has_platform.then(|| format!("o{}", dice.letters(27))),
        unionid: (has_platform && dice.percent(50)).then(|| format!("u{}", dice.letters(27))),
        is_authorized: has_platform && dice.percent(80),
        group_ids: groups(number, &mut dice),
        custom_fields: Some(to_struct(custom_fields(number, &mut dice, fields).iter())),
        created_at: Some(created_at(share, now, &mut dice)),
        ..Default::default()
    };
    let username = dice.percent(60).then(|| format!("{latin}_{number:04}"));
    let email = dice.percent(70).then(|| format!("{latin}.{number}@example.{}", dice.pick(&["com", "org", "net"])));
    let email_verified = dice.percent(80) && email.is_some();
    // A range that no telephone has.
    let phone = dice.percent(50).then(|| format!("+8612{number:09}"));
    let phone_verified = dice.percent(90) && phone.is_some();
    let account = pb::Account { username, email, email_verified, phone, phone_verified, ..Default::default() };
    pb::CreateUserRequest { profile: Some(profile), account: Some(account), ..Default::default() }
}

/// The later the more: growth is what a service's years look like.
fn created_at(share: f64, now: DateTime<Utc>, dice: &mut Dice) -> prost_types::Timestamp {
    let span = TimeDelta::days(YEARS * 365).num_seconds() as f64;
    let day = TimeDelta::days(1).num_seconds() as f64;
    let age = span * (1.0 - share.sqrt()) + day * dice.fraction();
    let at = now - TimeDelta::microseconds((age * 1e6) as i64);
    prost_types::Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_micros() as i32 * 1000 }
}

fn groups(number: u64, dice: &mut Dice) -> Vec<i64> {
    let mut groups = Vec::new();
    if dice.percent(30) {
        groups.push(MEMBERS);
    }
    for _ in 0..dice.below(3) {
        groups.push(1000 + dice.rank(GROUPS) as i64);
    }
    if number % 20_000 == 11 {
        groups.push(RARE_GROUP);
    }
    groups
}

/// Values of the example fields that there still are.
fn custom_fields(number: u64, dice: &mut Dice, fields: &Fields) -> Map<String, Value> {
    let mut tags: Vec<&str> = (0..dice.below(4)).map(|_| *dice.pick(TAGS)).collect();
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
    add("level", json!(1 + dice.rank(60)));
    add("score", json!(dice.below(200_000) as f64 / 2.0));
    add("vip", json!(dice.percent(5)));
    add("tags", json!(tags));
    add("stats", json!({ "logins": dice.below(2000), "week": { "posts": dice.below(20) } }));
    if dice.percent(50) {
        add("member_no", json!(format!("M{number:08}")));
    }
    if dice.percent(60) {
        let (year, month, day) = (1950 + dice.below(60), 1 + dice.below(12), 1 + dice.below(28));
        add("birthday", json!(format!("{year}-{month:02}-{day:02}T00:00:00Z")));
    }
    if dice.percent(30) {
        add("motto", json!(dice.pick(MOTTOS)));
    }
    if dice.percent(20) {
        let (longitude, latitude) = (dice.fraction() * 360.0 - 180.0, dice.fraction() * 180.0 - 90.0);
        add("home", json!({ "type": "Point", "coordinates": [longitude, latitude] }));
    }
    if dice.percent(5) {
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
