//! The filter and change languages against a second reading of their page.
//!
//! Worlds of random fields and profiles are made in a real database, and random filters and changes
//! go through the real client; `evaluate` and `apply` say in memory what has to come of them. What
//! differs is made as small as it can be and shown. `USER_SERVICE_ORACLE_SEED` (a number) asks for
//! other worlds than the usual ones.

mod apply;
mod ask;
mod changes;
mod evaluate;
mod filters;
mod hostile;
mod make;
mod order;
mod refused;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use prost_types::{ListValue, Value as PbValue, value::Kind as PbKind};
use serde_json::{Map, Value, json};
use tokio_stream::StreamExt;
use user_service::convert::{pb, proto_struct::Struct};

use self::make::{Field, Kind, Person};
use crate::support::{Client, TestApp};

/// Fields and profiles, in a database and in memory.
struct World {
    /// Held, so that the service runs.
    _app: TestApp,
    client: Client,
    fields: Vec<Field>,
    people: Vec<Person>,
}

/// The source of all that is random in one test.
fn runner(world: u64) -> TestRunner {
    let seed: u64 =
        std::env::var("USER_SERVICE_ORACLE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    // Spread over all bits, for this source is as regular at first as its seed.
    let spread = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let bytes = [spread(seed + 1), spread(world + 0x5eed)].concat();
    TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::XorShift, &bytes),
    )
}

/// One random value.
fn draw<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// The smallest value of the tree that still fails.
async fn smallest<T: ValueTree>(mut tree: T, fails: impl AsyncFn(T::Value) -> bool) -> T::Value {
    let mut worst = tree.current();
    for _ in 0..2000 {
        let moved = if fails(tree.current()).await {
            worst = tree.current();
            tree.simplify()
        } else {
            tree.complicate()
        };
        if !moved {
            break;
        }
    }
    worst
}

impl World {
    /// Makes the fields and as many people.
    async fn new(runner: &mut TestRunner, people: i64) -> Self {
        let app = TestApp::new().await;
        let mut client = app.service().await;
        let fields = draw(&make::fields(), runner);
        for field in &fields {
            client.create_field(definition(field)).await.unwrap();
        }
        let people: Vec<Person> = (1..=people)
            .map(|id| draw(&make::person(id, &fields), runner))
            .collect();
        let requests: Vec<_> = people
            .iter()
            .map(|person| pb::ImportUsersRequest {
                user: Some(user(person)),
            })
            .collect();
        let mut answers = client
            .admin
            .import_users(tokio_stream::iter(requests))
            .await
            .unwrap()
            .into_inner();
        while let Some(answer) = answers.next().await {
            assert_eq!(answer.unwrap().failures, []);
        }
        let mut world = Self {
            _app: app,
            client,
            fields,
            people,
        };
        world.read_times().await;
        world
    }

    /// Reads when each was last written, which only the service knows.
    async fn read_times(&mut self) {
        let request = pb::ListProfilesRequest {
            page_size: 1000,
            order_by: "user_id".to_owned(),
            ..Default::default()
        };
        let page = self
            .client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner();
        for (person, profile) in self.people.iter_mut().zip(page.profiles) {
            assert_eq!(person.user_id(), profile.user_id);
            let at = profile.updated_at.unwrap();
            let at = chrono::DateTime::from_timestamp(at.seconds, at.nanos as u32).unwrap();
            person
                .builtin
                .insert("updated_at".to_owned(), json!(at.to_rfc3339()));
        }
    }

    /// The part of a document that is named in the text of a filter or change, to be shown.
    fn named(&self, document: &Map<String, Value>, text: &str) -> Map<String, Value> {
        let named = document
            .iter()
            .filter(|(name, _)| text.contains(&format!("\"{name}")));
        named
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

fn definition(field: &Field) -> pb::FieldDefinition {
    let item = match field.kind {
        Kind::List(item) => wire_type(*item),
        _ => pb::FieldType::Unspecified,
    };
    pb::FieldDefinition {
        name: field.name.clone(),
        r#type: wire_type(field.kind).into(),
        item_type: item.into(),
        indexed: field.indexed,
        ..Default::default()
    }
}

fn wire_type(kind: Kind) -> pb::FieldType {
    match kind {
        Kind::Text => pb::FieldType::String,
        Kind::Integer => pb::FieldType::Integer,
        Kind::Number => pb::FieldType::Number,
        Kind::Flag => pb::FieldType::Boolean,
        Kind::Date => pb::FieldType::Date,
        Kind::Object | Kind::Free => pb::FieldType::Object,
        Kind::Geojson => pb::FieldType::Geojson,
        Kind::File => pb::FieldType::File,
        Kind::List(_) => pb::FieldType::Array,
    }
}

fn user(person: &Person) -> pb::CreateUserRequest {
    let text = |name: &str| person.builtin[name].as_str().map(str::to_owned);
    let flag = |name: &str| person.builtin[name].as_bool().unwrap();
    let plain = |name: &str| text(name).unwrap_or_default();
    let time = |name: &str| {
        let micros = evaluate::microseconds(&person.builtin[name])?;
        let (seconds, nanos) = (
            micros.div_euclid(1_000_000),
            micros.rem_euclid(1_000_000) as i32 * 1000,
        );
        Some(prost_types::Timestamp { seconds, nanos })
    };
    let profile = pb::Profile {
        user_id: person.user_id(),
        nickname: plain("nickname"),
        avatar_url: plain("avatar_url"),
        gender: person.builtin["gender"].as_i64().unwrap() as i32,
        country: plain("country"),
        province: plain("province"),
        city: plain("city"),
        language: plain("language"),
        openid: text("openid"),
        unionid: text("unionid"),
        is_authorized: flag("is_authorized"),
        group_ids: serde_json::from_value(person.builtin["group_ids"].clone()).unwrap(),
        custom_fields: Some(to_struct(&person.custom)),
        created_at: time("created_at"),
        ..Default::default()
    };
    let account = pb::Account {
        username: text("username"),
        email: text("email").map(|email| email.to_uppercase()),
        phone: text("phone"),
        email_verified: flag("email_verified"),
        phone_verified: flag("phone_verified"),
        last_login_at: time("last_login_at"),
        ..Default::default()
    };
    pb::CreateUserRequest {
        profile: Some(profile),
        account: Some(account),
        ..Default::default()
    }
}

/// JSON as a client writes it, each number as a double.
fn to_struct(entries: &Map<String, Value>) -> Struct {
    prost_struct(entries).into()
}

fn prost_struct(entries: &Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct {
        fields: entries
            .iter()
            .map(|(key, value)| (key.clone(), to_value(value)))
            .collect(),
    }
}

fn to_value(value: &Value) -> PbValue {
    let kind = match value {
        Value::Null => PbKind::NullValue(0),
        Value::Bool(flag) => PbKind::BoolValue(*flag),
        Value::Number(number) => PbKind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => PbKind::StringValue(text.clone()),
        Value::Array(items) => PbKind::ListValue(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Value::Object(entries) => PbKind::StructValue(prost_struct(entries)),
    };
    PbValue { kind: Some(kind) }
}

/// What a client reads, each number as a double.
fn from_struct(given: &prost_types::Struct) -> Map<String, Value> {
    given
        .fields
        .iter()
        .map(|(key, value)| (key.clone(), from_value(value)))
        .collect()
}

fn from_value(given: &PbValue) -> Value {
    match given.kind.as_ref().unwrap() {
        PbKind::NullValue(_) => Value::Null,
        PbKind::BoolValue(flag) => json!(flag),
        PbKind::NumberValue(number) => json!(number),
        PbKind::StringValue(text) => json!(text),
        PbKind::ListValue(list) => list.values.iter().map(from_value).collect(),
        PbKind::StructValue(object) => Value::Object(from_struct(object)),
    }
}
