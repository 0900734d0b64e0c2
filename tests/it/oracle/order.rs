//! Orders: a walk by page tokens must meet everybody in the order that the page says.

use std::cmp::Ordering;

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;
use user_service::convert::pb;

use super::{
    World, draw,
    evaluate::{compare, find},
    make::{Field, Kind, Person},
    runner,
};

const WORLDS: u64 = 2;
const ORDERS: usize = 150;
const PEOPLE: i64 = 30;

/// A key and whether it is descending.
type Key = (String, bool);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn walks_meet_everybody_in_the_order_of_the_page() {
    for number in 0..WORLDS {
        let mut runner = runner(3000 + number);
        let mut world = World::new(&mut runner, PEOPLE).await;
        let mut names: Vec<String> = world
            .fields
            .iter()
            .filter(|field| is_scalar(field))
            .map(|f| f.name.clone())
            .collect();
        let builtin = [
            "user_id",
            "nickname",
            "avatar_url",
            "openid",
            "unionid",
            "is_authorized",
            "created_at",
            "updated_at",
        ];
        names.extend(builtin.map(str::to_owned));
        let keys = vec((select(names), any::<bool>()), 1..4);
        for _ in 0..ORDERS {
            let mut keys: Vec<Key> = draw(&keys, &mut runner);
            keys.sort();
            keys.dedup_by(|left, right| left.0 == right.0);
            let order_by: Vec<String> = keys
                .iter()
                .map(|(name, down)| format!("{}{name}", if *down { "-" } else { "" }))
                .collect();
            let order_by = order_by.join(",");

            let met = walk(&mut world, &order_by).await;

            assert_eq!(met, expected(&world, &keys), "{order_by}");
        }
    }
}

fn is_scalar(field: &Field) -> bool {
    matches!(
        field.kind,
        Kind::Text | Kind::Integer | Kind::Number | Kind::Flag | Kind::Date
    )
}

async fn walk(world: &mut World, order_by: &str) -> Vec<i64> {
    let mut request = pb::ListProfilesRequest {
        order_by: order_by.to_owned(),
        page_size: 7,
        read_mask: Some(prost_types::FieldMask {
            paths: vec!["user_id".to_owned()],
        }),
        ..Default::default()
    };
    let mut met = Vec::new();
    loop {
        let page = world
            .client
            .users
            .list_profiles(request.clone())
            .await
            .unwrap()
            .into_inner();
        met.extend(page.profiles.iter().map(|profile| profile.user_id));
        if page.next_page_token.is_empty() || met.len() > 2 * PEOPLE as usize {
            return met;
        }
        request.page_token = page.next_page_token;
    }
}

/// Everybody, by the keys and those that are added to them.
fn expected(world: &World, keys: &[Key]) -> Vec<i64> {
    let (last, down) = keys.last().unwrap();
    let mut keys = keys.to_vec();
    let is_total = keys.iter().any(|(name, _)| name == "user_id");
    if world
        .fields
        .iter()
        .any(|field| field.name == *last && field.indexed)
        && !is_total
    {
        keys.push(("created_at".to_owned(), *down));
    }
    keys.push(("user_id".to_owned(), *down));
    let mut people: Vec<&Person> = world.people.iter().collect();
    people.sort_by(|left, right| {
        let orders = keys
            .iter()
            .map(|(name, down)| one(world, name, *down, left, right));
        orders.fold(Ordering::Equal, Ordering::then)
    });
    people.into_iter().map(Person::user_id).collect()
}

/// The order of two by one key; what is null or missing is last either way.
fn one(world: &World, name: &str, down: bool, left: &Person, right: &Person) -> Ordering {
    let value = |person| {
        find(name, person, &world.fields)
            .1
            .filter(|value| !Value::is_null(value))
    };
    let kind = find(name, left, &world.fields).0;
    match (value(left), value(right)) {
        (Some(left), Some(right)) => {
            let order = compare(kind, left, right).unwrap();
            if down { order.reverse() } else { order }
        }
        (left, right) => left.is_none().cmp(&right.is_none()),
    }
}
