//! Filters that are wrong in a random place: each is FILTER_INVALID with the path of the fault, and
//! never a fault of the service. Random JSON of no sense at all may be right by chance, but breaks
//! nothing either.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use tonic::Code;
use user_service::convert::{pb, proto_struct::Struct};

use super::{
    World, draw,
    make::{Field, Kind, value},
    runner, to_struct,
};
use crate::support::fault;

const OPERATORS: &[&str] = &[
    "$eq",
    "$ne",
    "$lt",
    "$lte",
    "$gt",
    "$gte",
    "$range",
    "$in",
    "$nin",
    "$all",
    "$contains",
    "$icontains",
    "$starts_with",
    "$isnull",
    "$exists",
    "$has_key",
    "$regex",
    "$where",
    "$",
    "$and",
    "$or",
    "$not",
    "$EQ",
];

/// Operands of every shape.
fn operand() -> BoxedStrategy<Value> {
    let one = prop_oneof![
        3 => select(Kind::DECLARED).prop_flat_map(value),
        1 => select(vec![
            json!(null), json!(""), json!({}), json!([]), json!([[]]), json!([null]), json!(1e308), json!(-1e300),
            json!("9223372036854775808"), json!({ "$eq": 1 }), json!({ "a": { "$gt": "" } }), json!("2020-13-01T00:00:00Z"),
            json!("a\u{0}b"), json!({ "a\u{0}": 1 }), json!({ "": 1 }), json!("x".repeat(200)), json!(253402300800_i64),
        ]),
    ];
    prop_oneof![3 => one.clone(), 1 => vec(one, 0..3).prop_map(Value::from)].boxed()
}

/// Whether the language lets the operator stand with a field of this kind.
fn fits(operator: &str, kind: Kind) -> bool {
    match operator {
        "$eq" | "$ne" => !matches!(kind, Kind::Geojson | Kind::File),
        "$lt" | "$lte" | "$gt" | "$gte" => {
            matches!(kind, Kind::Integer | Kind::Number | Kind::Date | Kind::Text)
        }
        "$range" => matches!(kind, Kind::Integer | Kind::Number | Kind::Date),
        "$in" | "$nin" => !matches!(kind, Kind::Object | Kind::Geojson | Kind::File),
        "$all" => matches!(kind, Kind::List(_)),
        "$contains" | "$icontains" | "$starts_with" => kind == Kind::Text,
        "$isnull" | "$exists" => true,
        "$has_key" => kind == Kind::Object,
        _ => false,
    }
}

/// An operand that no operator takes with this kind: a list of lists of objects is none but inside
/// objects.
fn is_wrong(operator: &str, kind: Kind, operand: &Value) -> bool {
    let is_scalar = |value: &Value| match kind {
        Kind::Integer => {
            value.as_f64().is_some_and(|double| {
                double.fract() == 0.0 && double.abs() <= 9_007_199_254_740_992.0
            }) || value
                .as_str()
                .is_some_and(|text| text.parse::<i64>().is_ok())
        }
        Kind::Number => value.is_number(),
        Kind::Flag => value.is_boolean(),
        Kind::Text => value.is_string(),
        _ => true,
    };
    match operator {
        "$isnull" | "$exists" => !operand.is_boolean(),
        "$contains" | "$icontains" | "$starts_with" => operand.as_str().is_none_or(str::is_empty),
        "$has_key" => !operand.is_string(),
        "$in" | "$nin" | "$all" => operand
            .as_array()
            .is_none_or(|values| !values.iter().all(|v| v.is_null() || is_scalar(v))),
        "$range" => operand
            .as_array()
            .is_none_or(|values| values.len() != 2 || !values.iter().all(is_scalar)),
        "$lt" | "$lte" | "$gt" | "$gte" => !is_scalar(operand) || operand.is_null(),
        _ => !is_scalar(operand) && !operand.is_null(),
    }
}

/// Some way down into a filter, beside things that are right; gives the filter and the path of the
/// place.
fn placed(name: &str, test: Value, depth: usize) -> (Value, String) {
    let (mut whole, mut path) = (json!({ name: test, "gender": 1 }), name.to_owned());
    for level in 0..depth {
        (whole, path) = match level % 3 {
            0 => (
                json!({ "$or": [{ "user_id": 1 }, whole] }),
                format!("$or[1].{path}"),
            ),
            1 => (json!({ "$not": whole }), format!("$not.{path}")),
            _ => (
                json!({ "nickname": "x", "$and": [whole] }),
                format!("$and[0].{path}"),
            ),
        };
    }
    (whole, format!("filter.{path}"))
}

async fn ask(
    world: &World,
    filter: &Map<String, Value>,
) -> Result<pb::ListProfilesResponse, tonic::Status> {
    let request = pb::ListProfilesRequest {
        filter: Some(to_struct(filter)),
        ..Default::default()
    };
    Ok(world
        .client
        .clone()
        .users
        .list_profiles(request)
        .await?
        .into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ill_typed_operators_are_told_with_their_path() {
    let mut runner = runner(2000);
    let world = World::new(&mut runner, 5).await;
    let mut wrong = 0;
    for _ in 0..1500 {
        let field: Field = draw(&select(world.fields.clone()), &mut runner);
        let (operator, operand) = draw(&(select(OPERATORS), operand()), &mut runner);
        let (filter, path) = placed(
            &field.name,
            json!({ operator: operand }),
            draw(&(0..5_usize), &mut runner),
        );
        let answer = ask(&world, filter.as_object().unwrap()).await;

        let must_fail = !fits(operator, field.kind) || is_wrong(operator, field.kind, &operand);
        if !must_fail && answer.is_ok() {
            continue;
        }
        wrong += 1;
        assert!(answer.is_err(), "{filter} on {field:?} passes");
        let refused = fault(answer);
        assert_eq!(refused.code, Code::InvalidArgument, "{filter}: {refused:?}");
        if refused.reason == "FILTER_TOO_COMPLEX" {
            continue; // A pattern of 200 characters.
        }
        assert_eq!(refused.reason, "FILTER_INVALID", "{filter}");
        assert!(
            refused.paths().iter().all(|told| told.starts_with(&path)),
            "{filter}: {refused:?}, not {path}"
        );
    }
    assert!(wrong > 800, "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senseless_filters_break_nothing() {
    let mut runner = runner(2001);
    let world = World::new(&mut runner, 5).await;
    let mut names: Vec<String> = world
        .fields
        .iter()
        .map(|field| field.name.clone())
        .collect();
    names.extend(
        world
            .fields
            .iter()
            .filter(|field| field.kind == Kind::Object)
            .map(|field| format!("{}.a", field.name)),
    );
    let odd = [
        "$and",
        "$or",
        "$not",
        "$",
        "",
        ".",
        "a.",
        "a..b",
        "nickname.a",
        "user_id",
        "created_at",
        "group_ids",
        "a\u{0}",
    ];
    names.extend(odd.map(str::to_owned));
    let test = prop_oneof![
        operand(),
        vec((select(OPERATORS), operand()), 1..3).prop_map(|tests| {
            tests
                .into_iter()
                .map(|(name, operand)| (name.to_owned(), operand))
                .collect()
        })
    ];
    let filter = vec((select(names), test), 1..4);
    for _ in 0..1500 {
        let filter: Map<String, Value> = draw(&filter, &mut runner).into_iter().collect();
        let answer = ask(&world, &filter).await;
        if answer.is_err() {
            let refused = fault(answer);
            assert_eq!(
                refused.code,
                Code::InvalidArgument,
                "{filter:?}: {refused:?}"
            );
            assert!(
                matches!(
                    refused.reason.as_str(),
                    "FILTER_INVALID" | "FILTER_TOO_COMPLEX"
                ),
                "{refused:?}"
            );
            assert!(
                refused
                    .paths()
                    .iter()
                    .all(|path| path.starts_with("filter")),
                "{refused:?}"
            );
            assert!(!refused.fields.is_empty());
        }
    }
}

#[tokio::test]
async fn numbers_that_are_none_are_refused_everywhere() {
    let mut runner = runner(2002);
    let mut world = World::new(&mut runner, 1).await;
    let before = world.client.get(1).await.unwrap();
    for double in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for field in world.fields.clone() {
            let number = prost_types::Value {
                kind: Some(prost_types::value::Kind::NumberValue(double)),
            };
            let one: Struct = prost_types::Struct {
                fields: [(field.name.clone(), number)].into(),
            }
            .into();
            let filter = pb::ListProfilesRequest {
                filter: Some(one.clone()),
                ..Default::default()
            };
            let change = pb::UpdateProfileRequest {
                user_id: 1,
                custom_fields: Some(one),
                ..Default::default()
            };

            let refused = fault(world.client.users.list_profiles(filter).await);
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::InvalidArgument, "FILTER_INVALID"),
                "{field:?}"
            );
            let refused = fault(world.client.users.update_profile(change).await);
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::InvalidArgument, "INVALID_REQUEST"),
                "{field:?}"
            );
        }
    }
    let after = world.client.get(1).await.unwrap();
    assert_eq!(after.custom_fields, before.custom_fields);
}

#[tokio::test]
async fn faults_of_lists_are_told_with_their_places() {
    let mut runner = runner(2003);
    let world = World::new(&mut runner, 1).await;
    let integer = world
        .fields
        .iter()
        .find(|field| field.kind == Kind::Integer)
        .unwrap();

    let filter =
        json!({ &integer.name: { "$in": [null, 1, "x"] }, "user_id": { "$in": [1, true] } });
    let refused = fault(ask(&world, filter.as_object().unwrap()).await);

    let mut paths = refused.paths();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            format!("filter.{}[2]", integer.name),
            "filter.user_id[1]".to_owned()
        ]
    );
}
