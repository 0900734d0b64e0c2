//! Random fields, profiles and values: small pools, so that values meet, and the edges of every
//! type among them.

use chrono::{DateTime, FixedOffset};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// The type of a value; `Free` inside objects, where nothing is declared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    Integer,
    Number,
    Flag,
    Date,
    Object,
    Geojson,
    File,
    List(&'static Kind),
    Free,
}

impl Kind {
    /// Every type that a field can be declared with.
    pub const DECLARED: &[Kind] = &[
        Kind::Text,
        Kind::Integer,
        Kind::Number,
        Kind::Flag,
        Kind::Date,
        Kind::Object,
        Kind::Geojson,
        Kind::File,
        Kind::List(&Kind::Text),
        Kind::List(&Kind::Integer),
        Kind::List(&Kind::Number),
        Kind::List(&Kind::Flag),
        Kind::List(&Kind::Date),
        Kind::List(&Kind::Object),
    ];

    /// The type of what stands in a list of it.
    pub fn item(self) -> Kind {
        match self {
            Kind::List(item) => *item,
            _ => Kind::Free,
        }
    }

    pub fn can_be_indexed(self) -> bool {
        match self {
            Kind::Object | Kind::Geojson | Kind::File | Kind::Free => false,
            Kind::List(item) => item.can_be_indexed(),
            _ => true,
        }
    }
}

/// A declared field.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub indexed: bool,
}

/// A profile in memory: its values as they were sent.
#[derive(Clone, Debug)]
pub struct Person {
    pub builtin: Map<String, Value>,
    pub custom: Map<String, Value>,
}

impl Person {
    pub fn user_id(&self) -> i64 {
        self.builtin["user_id"].as_i64().unwrap()
    }
}

/// Two fields of every type, so that about half can have an index and half of those do.
pub fn fields() -> BoxedStrategy<Vec<Field>> {
    vec(any::<bool>(), Kind::DECLARED.len())
        .prop_map(|indexed| {
            let kinds = Kind::DECLARED.iter().zip(indexed);
            let both = kinds
                .flat_map(|(kind, first)| [(*kind, first, "a"), (*kind, !first, "b")])
                .enumerate();
            both.map(|(number, (kind, indexed, letter))| Field {
                name: format!(
                    "{letter}{number}_{}",
                    if number % 3 == 0 { "Level" } else { "x" }
                ),
                kind,
                indexed: indexed && kind.can_be_indexed(),
            })
            .collect()
        })
        .boxed()
}

/// Texts that differ in case, script, length and normal form, and some that mean something to SQL,
/// LIKE and JSON.
pub fn text() -> BoxedStrategy<String> {
    const PIECES: &[&str] = &[
        "a",
        "A",
        "b",
        "B",
        "ab",
        "é",
        "É",
        "e\u{301}",
        "ß",
        "ẞ",
        "İ",
        "ı",
        "i",
        "I",
        "Σ",
        "σ",
        "ς",
        "Ж",
        "ж",
        "汤",
        "姆",
        "汤姆",
        "😀",
        "👨\u{200d}👩",
        "\u{ffff}",
        "\u{10ffff}",
        "%",
        "_",
        "\\",
        "'",
        "\"",
        "$",
        ".",
        "{}",
        "null",
        "1",
        "0",
        " ",
        "\n",
        "true",
        "--",
        "ｱ",
        "ﬁ",
        "Ǆ",
        "ǆ",
        "ǅ",
    ];
    prop_oneof![
        8 => select(PIECES).prop_map(str::to_owned),
        1 => Just(String::new()),
        4 => vec(select(PIECES), 2..4).prop_map(|pieces| pieces.concat()),
    ]
    .boxed()
}

/// A short line, as a nickname or a place may be.
fn line() -> BoxedStrategy<String> {
    text()
        .prop_filter("a line has no control character", |text| {
            !text.contains('\n')
        })
        .boxed()
}

fn integer() -> BoxedStrategy<Value> {
    const EDGE: i64 = 1 << 53;
    let edges = vec![
        EDGE - 1,
        EDGE,
        EDGE + 1,
        -EDGE,
        -EDGE - 1,
        i64::MAX,
        i64::MAX - 1,
        i64::MIN,
        i64::MIN + 1,
        10_i64.pow(18),
    ];
    let written = |whole: i64| {
        if whole.unsigned_abs() > 1 << 53 {
            json!(whole.to_string())
        } else {
            json!(whole)
        }
    };
    prop_oneof![5 => -3..8_i64, 2 => select(edges), 1 => any::<i64>()]
        .prop_map(written)
        .boxed()
}

/// Without 1e23 and its kin: Rust and Postgres write those doubles in two ways, and a sum is
/// written by Postgres.
fn number() -> BoxedStrategy<Value> {
    let edges = vec![
        0.0,
        -0.0,
        0.1,
        0.2,
        0.30000000000000004,
        4.1,
        -0.1,
        1e-300,
        5e-324,
        f64::MAX,
        -f64::MAX,
        f64::MIN_POSITIVE,
        9007199254740992.0,
        9007199254740994.0,
        -9007199254740994.0,
        1e17,
        1152921504606846976.0,
        1e19,
        1e22,
        123456.789e-3,
    ];
    let small = (-4..12_i64).prop_map(|half| half as f64 / 2.0);
    let double = prop_oneof![6 => small, 4 => select(edges), 1 => proptest::num::f64::NORMAL];
    double.prop_map(|double| json!(double)).boxed()
}

fn date() -> BoxedStrategy<Value> {
    let seconds = prop_oneof![
        5 => -2..3_i64,
        3 => 503..506_i64,
        1 => select(vec![-62_167_219_200, 253_402_300_799, 1_483_228_800, -1_000_000_001]),
    ];
    let micros = prop_oneof![3 => Just(0), 2 => select(vec![1, 500_000, 900_000, 999_999])];
    let offset = prop_oneof![3 => Just(0), 1 => select(vec![480, -210, 845])];
    (seconds, micros, offset)
        .prop_map(|(seconds, micros, minutes)| date_text(seconds, micros, minutes))
        .boxed()
}

fn date_text(seconds: i64, micros: u32, minutes: i32) -> Value {
    let moment = DateTime::from_timestamp(seconds, micros * 1000).unwrap();
    let shifted = moment.with_timezone(&FixedOffset::east_opt(minutes * 60).unwrap());
    // An offset may carry the edges of the calendar out of the four digits of a year.
    let text = shifted.to_rfc3339();
    json!(
        if text.len() > 4 && text.as_bytes()[4] == b'-' && !text.starts_with('-') {
            text
        } else {
            moment.to_rfc3339()
        }
    )
}

/// The keys of objects.
pub const KEYS: &[&str] = &["a", "b", "A", "c_1"];

fn object(depth: u32) -> BoxedStrategy<Value> {
    let entries = vec((select(KEYS), free(depth)), 0..4);
    entries
        .prop_map(|entries| {
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()
        })
        .boxed()
}

/// Any JSON that an object may hold.
fn free(depth: u32) -> BoxedStrategy<Value> {
    let scalar = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => number(),
        3 => text().prop_map(Value::from),
        1 => date(),
    ];
    if depth == 0 {
        return scalar.boxed();
    }
    let list = vec(free(depth - 1), 0..3).prop_map(Value::from);
    prop_oneof![4 => scalar, 2 => list, 3 => object(depth - 1)].boxed()
}

fn geojson() -> BoxedStrategy<Value> {
    let ring = json!([[0, 0], [1, 0], [1, 1.5], [0, 0]]);
    prop_oneof![
        (-180..=180, -90..=90)
            .prop_map(|(lng, lat)| json!({ "type": "Point", "coordinates": [lng, lat] })),
        Just(json!({ "type": "Polygon", "coordinates": [ring] })),
    ]
    .boxed()
}

fn file() -> BoxedStrategy<Value> {
    let name = text().prop_filter("a file has a name", |name| !name.is_empty());
    (name, 0..100).prop_map(|(name, size)| {
        json!({ "id": "f1", "name": name, "mime_type": "image/png", "size": size, "url": "https://example.com/f" })
    })
    .boxed()
}

/// A value of this type, as a client sends it.
pub fn value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Text => text().prop_map(Value::from).boxed(),
        Kind::Integer => integer(),
        Kind::Number => number(),
        Kind::Flag => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Date => date(),
        Kind::Object => object(2),
        Kind::Geojson => geojson(),
        Kind::File => file(),
        Kind::List(Kind::Object) => vec(object(1), 0..3).prop_map(Value::from).boxed(),
        Kind::List(item) => vec(value(*item), 0..4).prop_map(Value::from).boxed(),
        Kind::Free => free(1),
    }
}

/// A document: of each field a value, null, or nothing.
pub fn document(fields: &[Field]) -> BoxedStrategy<Map<String, Value>> {
    let entries: Vec<_> = fields
        .iter()
        .map(|field| {
            let name = field.name.clone();
            let held =
                prop_oneof![4 => Just(None), 1 => Just(Some(Value::Null)), 6 => value(field.kind).prop_map(Some)];
            held.prop_map(move |held| held.map(|value| (name.clone(), value)))
        })
        .collect();
    entries
        .prop_map(|entries| entries.into_iter().flatten().collect())
        .boxed()
}

/// A whole profile with this id, which also keeps its unique texts apart from others'.
pub fn person(user_id: i64, fields: &[Field]) -> BoxedStrategy<Person> {
    let texts = vec(
        prop_oneof![1 => Just(None), 3 => line().prop_map(|text| Some(text).filter(|text| !text.is_empty()))],
        4,
    );
    let unique = vec(any::<bool>(), 5);
    let language = option::of(select(vec!["zh_CN", "en", "zh", "de-CH"]));
    let groups = vec(select(vec![1, 2, 3, (1_i64 << 53) + 1]), 0..3);
    let plain = (0..3, any::<bool>(), any::<bool>(), any::<bool>(), groups);
    let past = || {
        date().prop_filter("from year 1 to now", |date| {
            !date.as_str().unwrap().starts_with(['0', '9'])
        })
    };
    let times = (past(), option::of(past()));
    (texts, unique, language, plain, times, document(fields))
        .prop_map(
            move |(texts, unique, language, plain, (created, logged_in), custom)| {
                let (gender, is_authorized, mailed, called, groups) = plain;
                let mut builtin = Map::new();
                let mut put =
                    |name: &str, value: Value| drop(builtin.insert(name.to_owned(), value));
                for (name, text) in ["nickname", "country", "province", "city"]
                    .into_iter()
                    .zip(texts)
                {
                    // A nickname shows something.
                    let text = text.filter(|text| name != "nickname" || !text.trim().is_empty());
                    put(name, json!(text));
                }
                let numbered = [
                    ("openid", format!("Open%{user_id}")),
                    ("unionid", format!("u_{user_id}")),
                    ("username", format!("user.{user_id:04}")),
                    ("email", format!("mail{user_id}@example.com")),
                    ("phone", format!("+8613800{user_id:06}")),
                ];
                let (has_mail, has_phone) = (unique[3], unique[4]);
                for ((name, text), has) in numbered.into_iter().zip(unique) {
                    put(name, if has { json!(text) } else { Value::Null });
                }
                put("user_id", json!(user_id));
                put(
                    "avatar_url",
                    if mailed {
                        json!(format!("https://example.com/{gender}"))
                    } else {
                        Value::Null
                    },
                );
                put("language", json!(language));
                put("gender", json!(gender));
                put("is_authorized", json!(is_authorized));
                put("email_verified", json!(mailed && has_mail));
                put("phone_verified", json!(called && has_phone));
                let mut kept: Vec<i64> = Vec::new();
                groups.into_iter().for_each(|group| {
                    if !kept.contains(&group) {
                        kept.push(group)
                    }
                });
                put("group_ids", json!(kept));
                put("created_at", created);
                put("last_login_at", logged_in.unwrap_or_default());
                Person { builtin, custom }
            },
        )
        .boxed()
}
