//! Random well-typed filters and changes over the fields and values of a world.

use proptest::{collection::vec, prelude::*, sample::select, strategy::Union};
use serde_json::{Map, Value, json};

use super::{
    apply::shown,
    evaluate::{builtin, microseconds},
    make::{Field, KEYS, Kind, Person, value},
};

type Object = Map<String, Value>;

/// What a filter can name, with values that stand there.
#[derive(Clone, Debug)]
struct Subject {
    name: String,
    kind: Kind,
    is_builtin: bool,
    held: Vec<Value>,
}

const BUILTIN: &[&str] = &[
    "id",
    "user_id",
    "created_by",
    "gender",
    "group_ids",
    "_group",
    "is_authorized",
    "email_verified",
    "phone_verified",
    "created_at",
    "updated_at",
    "last_login_at",
    "nickname",
    "nickname",
    "avatar_url",
    "country",
    "province",
    "city",
    "language",
    "openid",
    "unionid",
    "username",
    "email",
    "phone",
];

fn subjects(people: &[Person], fields: &[Field]) -> Vec<Subject> {
    let builtin = BUILTIN.iter().map(|&name| {
        let (stored, kind) = builtin(name).unwrap();
        let held = people
            .iter()
            .map(|person| shown(kind, &person.builtin[stored]));
        Subject {
            name: name.to_owned(),
            kind,
            is_builtin: true,
            held: held.filter(|value| !value.is_null()).collect(),
        }
    });
    let custom = fields.iter().map(|field| {
        let held = people
            .iter()
            .filter_map(|person| person.custom.get(&field.name));
        let held = held
            .filter(|value| !value.is_null())
            .map(|value| shown(field.kind, value))
            .collect();
        Subject {
            name: field.name.clone(),
            kind: field.kind,
            is_builtin: false,
            held,
        }
    });
    let insides = fields
        .iter()
        .filter(|field| field.kind == Kind::Object)
        .flat_map(|field| {
            let paths = [
                "a", "b", "A", "c_1", "a.a", "a.b", "b.a", "b.A", "A.c_1", "a.a.b", "zz",
            ];
            paths.map(|path| {
                let pointer = format!("/{}", path.replace('.', "/"));
                let held = people
                    .iter()
                    .filter_map(|person| person.custom.get(&field.name)?.pointer(&pointer));
                let name = format!("{}.{path}", field.name);
                Subject {
                    name,
                    kind: Kind::Free,
                    is_builtin: false,
                    held: held.cloned().collect(),
                }
            })
        });
    builtin.chain(custom).chain(insides).collect()
}

/// A filter of a few conditions.
pub fn filter(people: &[Person], fields: &[Field]) -> BoxedStrategy<Object> {
    let conditions = subjects(people, fields).into_iter().map(|subject| {
        let name = subject.name.clone();
        condition(&subject)
            .prop_map(move |condition| (name.clone(), condition))
            .boxed()
    });
    let conditions = Union::new(conditions.collect::<Vec<_>>());
    let leaf =
        vec(conditions, 0..3).prop_map(|conditions| conditions.into_iter().collect::<Object>());
    let leaf = leaf.prop_map(Value::Object).boxed();
    let whole = leaf.prop_recursive(3, 10, 3, |inside| {
        let parts = vec(inside.clone(), 1..4);
        let joined = |name: &'static str| move |parts: Vec<Value>| json!({ name: parts });
        prop_oneof![
            parts.clone().prop_map(joined("$and")),
            parts.prop_map(joined("$or")),
            inside.clone().prop_map(|part| json!({ "$not": part })),
            (inside.clone(), inside).prop_map(|(mut left, mut right)| {
                left.as_object_mut()
                    .unwrap()
                    .append(right.as_object_mut().unwrap());
                left
            }),
        ]
    });
    whole
        .prop_map(|whole| whole.as_object().unwrap().clone())
        .boxed()
}

fn condition(subject: &Subject) -> BoxedStrategy<Value> {
    let tests = Union::new(operators(subject).into_iter().map(|operator| {
        operand(subject, operator)
            .prop_map(move |operand| (operator.to_owned(), operand))
            .boxed()
    }));
    let tests = vec(tests, 1..3).prop_map(|tests| tests.into_iter().collect::<Value>());
    if operators(subject).contains(&"$eq") {
        prop_oneof![1 => operand(subject, "$eq"), 4 => tests].boxed()
    } else {
        tests.boxed()
    }
}

/// The operators that the language names for a subject.
fn operators(subject: &Subject) -> Vec<&'static str> {
    const EQUAL: &[&str] = &["$eq", "$ne"];
    const AMONG: &[&str] = &["$in", "$nin"];
    const ORDER: &[&str] = &["$lt", "$lte", "$gt", "$gte"];
    const PATTERN: &[&str] = &["$contains", "$icontains", "$starts_with"];
    let own: &[&[&str]] = match subject.kind {
        Kind::Text => &[EQUAL, AMONG, ORDER, PATTERN],
        Kind::Integer | Kind::Number | Kind::Date => &[EQUAL, AMONG, ORDER, &["$range"]],
        Kind::Flag => &[EQUAL, AMONG],
        Kind::Object => &[EQUAL, &["$has_key"]],
        Kind::Geojson | Kind::File => &[],
        Kind::List(_) => &[EQUAL, AMONG, &["$all"]],
        Kind::Free => &[
            EQUAL,
            AMONG,
            ORDER,
            PATTERN,
            &["$range", "$has_key", "$all"],
        ],
    };
    let everywhere: &[&str] = if subject.is_builtin {
        &["$isnull"]
    } else {
        &["$isnull", "$exists"]
    };
    [&own.concat(), everywhere].concat()
}

fn operand(subject: &Subject, operator: &str) -> BoxedStrategy<Value> {
    let one = || item_operand(subject);
    match operator {
        "$isnull" | "$exists" => any::<bool>().prop_map(Value::from).boxed(),
        "$has_key" => prop_oneof![4 => select(KEYS), 1 => Just(""), 1 => Just("a'b\"c")].prop_map(Value::from).boxed(),
        "$contains" | "$icontains" | "$starts_with" => pattern(subject),
        "$lt" | "$lte" | "$gt" | "$gte" => ordered(subject),
        "$range" => vec(ordered(subject), 2).prop_map(Value::from).boxed(),
        "$all" => vec(one(), 0..3).prop_map(Value::from).boxed(),
        "$in" | "$nin" => vec(prop_oneof![1 => Just(Value::Null), 6 => one()], 0..4).prop_map(Value::from).boxed(),
        _ => match subject.kind {
            Kind::List(_) => {
                prop_oneof![1 => Just(Value::Null), 4 => one(), 4 => held_or_new(subject, subject.kind)].boxed()
            }
            _ => prop_oneof![1 => Just(Value::Null), 8 => one()].boxed(),
        },
    }
}

/// A value that someone has, or a new one.
fn held_or_new(subject: &Subject, kind: Kind) -> BoxedStrategy<Value> {
    let new = match (subject.name.as_str(), kind) {
        ("gender", _) => (0..3).prop_map(Value::from).boxed(),
        (_, kind) => value(kind),
    };
    if subject.held.is_empty() {
        new
    } else {
        prop_oneof![3 => select(subject.held.clone()), 2 => new].boxed()
    }
}

/// An operand for the value, or for an item of it where the subject is a list; times in all of
/// their forms.
fn item_operand(subject: &Subject) -> BoxedStrategy<Value> {
    let (kind, held) = match subject.kind {
        Kind::List(item) => {
            let items = subject
                .held
                .iter()
                .flat_map(|value| value.as_array().unwrap().clone());
            (*item, items.collect())
        }
        kind => (kind, subject.held.clone()),
    };
    let one = held_or_new(
        &Subject {
            held,
            ..subject.clone()
        },
        kind,
    );
    match kind {
        Kind::Date => (one, 0..4)
            .prop_map(|(date, form)| match (form, microseconds(&date).unwrap()) {
                (0, moment) => json!(moment.div_euclid(1_000_000)),
                (1, moment) if moment.unsigned_abs() < 1 << 50 => json!(moment as f64 / 1e6),
                _ => date,
            })
            .boxed(),
        Kind::Free => {
            let held = subject.held.clone();
            let items: Vec<Value> = held
                .iter()
                .filter_map(Value::as_array)
                .flatten()
                .cloned()
                .collect();
            if items.is_empty() {
                one
            } else {
                prop_oneof![2 => one, 1 => select(items)].boxed()
            }
        }
        _ => one,
    }
    .prop_filter("an object of operators is none of values", |value| {
        !has_dollar(value)
    })
    .boxed()
}

fn has_dollar(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|entries| entries.keys().any(|key| key.starts_with('$')))
}

fn ordered(subject: &Subject) -> BoxedStrategy<Value> {
    match subject.kind {
        Kind::Free => {
            let orders = |value: &&Value| value.is_number() || value.is_string();
            let held: Vec<Value> = subject.held.iter().filter(orders).cloned().collect();
            let new = prop_oneof![value(Kind::Number), value(Kind::Text)];
            if held.is_empty() {
                new.boxed()
            } else {
                prop_oneof![2 => select(held), 1 => new].boxed()
            }
        }
        _ => item_operand(subject),
    }
}

/// A part of a text that someone has, or any short text; never empty, for that is rejected.
fn pattern(subject: &Subject) -> BoxedStrategy<Value> {
    let held: Vec<String> = subject
        .held
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let new = value(Kind::Text).prop_map(|text| text.as_str().unwrap().to_owned());
    let part = |(text, start, length): (String, usize, usize)| -> String {
        text.chars().skip(start).take(length).collect()
    };
    let text = if held.is_empty() {
        new.boxed()
    } else {
        prop_oneof![3 => (select(held), 0..3_usize, 1..6_usize).prop_map(part), 1 => new].boxed()
    };
    text.prop_filter("a pattern is not empty", |text| !text.is_empty())
        .prop_map(Value::from)
        .boxed()
}

/// A change of a few fields.
pub fn change(fields: &[Field]) -> BoxedStrategy<Object> {
    let entries = fields.iter().map(|field| {
        let name = field.name.clone();
        entry(field)
            .prop_map(move |(step, change)| (name.clone(), step, change))
            .boxed()
    });
    // How a field is named: at the top, under $set, or under $unset.
    let entries = vec((Union::new(entries.collect::<Vec<_>>()), 0..6), 1..5);
    entries
        .prop_map(|entries| {
            let mut whole = Object::new();
            let mut seen = Vec::new();
            for ((name, step, change), form) in entries {
                if seen.contains(&name) {
                    continue; // A field that is named twice is a fault.
                }
                seen.push(name.clone());
                let mut under = |group: &str, name: String, value: Value| {
                    whole
                        .entry(group)
                        .or_insert_with(|| json!({}))
                        .as_object_mut()
                        .unwrap()
                        .insert(name, value);
                };
                match form {
                    0 => under("$unset", name, json!("")),
                    1 => under("$set", format!("{name}{step}"), change),
                    _ => drop(whole.insert(format!("{name}{step}"), change)),
                }
            }
            whole
        })
        .boxed()
}

/// A path into the field, mostly none, and what is done there.
fn entry(field: &Field) -> BoxedStrategy<(&'static str, Value)> {
    let kind = field.kind;
    let with = |operator: &'static str, operand: BoxedStrategy<Value>| {
        operand
            .prop_map(move |operand| ("", json!({ operator: operand })))
            .boxed()
    };
    let mut ways = vec![
        value(kind).prop_map(|value| ("", value)).boxed(),
        Just(("", Value::Null)).boxed(),
    ];
    match kind {
        Kind::Integer | Kind::Number => {
            ways.extend([with("$incr_by", value(kind)), with("$incr_by", value(kind))])
        }
        Kind::List(_) => {
            ways.extend(
                ["$append", "$append_unique", "$remove"]
                    .map(|operator| with(operator, value(kind))),
            );
            ways.push(with("$pop", select(vec![json!(1), json!(-1)]).boxed()));
        }
        Kind::Object => {
            ways.push(with("$update", value(kind)));
            let path = select(vec![".a", ".b", ".a.b", ".b.a", ".c_1.a.b.A.b"]);
            let path = (path, value(Kind::Number));
            ways.push(
                path.prop_map(|(path, number)| (path, json!({ "$incr_by": number })))
                    .boxed(),
            );
        }
        _ => {}
    }
    Union::new(ways).boxed()
}
