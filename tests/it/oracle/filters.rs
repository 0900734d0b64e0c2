//! Filters: the database must find whom the oracle finds.

use futures_util::{StreamExt, stream};
use proptest::strategy::{Strategy, ValueTree};
use serde_json::{Map, Value};
use user_service::convert::pb;

use super::{World, ask, evaluate::matches, runner, smallest, to_struct};

const WORLDS: u64 = 8;
const PEOPLE: i64 = 24;
const FILTERS: usize = 2500;

/// How a filter is asked: alone, or so that the index of a value drives the statement.
type Question = (Map<String, Value>, bool);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_whom_the_page_says() {
    let mut cases = 0;
    for number in 0..WORLDS {
        let mut runner = runner(number);
        let world = World::new(&mut runner, PEOPLE).await;
        let strategy = (
            ask::filter(&world.people, &world.fields),
            proptest::bool::ANY,
        );
        cases += check(&world, &strategy, FILTERS, &mut runner).await;
    }
    assert!(cases >= 20_000, "{cases}");
}

/// Asks so many random questions, a few at a time.
pub async fn check(
    world: &World,
    strategy: &impl Strategy<Value = Question>,
    count: usize,
    runner: &mut proptest::test_runner::TestRunner,
) -> usize {
    for _ in 0..count.div_ceil(100) {
        let trees: Vec<_> = (0..100)
            .map(|_| strategy.new_tree(runner).unwrap())
            .collect();
        let asked = stream::iter(trees)
            .map(async |tree| (differs(world, &tree.current()).await.is_some(), tree));
        let failed = asked
            .buffer_unordered(4)
            .filter_map(async |(failed, tree)| failed.then_some(tree));
        let failed: Vec<_> = failed.collect().await;
        if let Some(tree) = failed.into_iter().next() {
            let question = smallest(tree, async |question| {
                differs(world, &question).await.is_some()
            })
            .await;
            let why = differs(world, &question)
                .await
                .unwrap_or_else(|| "by chance".to_owned());
            panic!(
                "{}\nby time: {}\n{why}",
                Value::from(question.0),
                question.1
            );
        }
    }
    count
}

/// What is wrong with the answer to a question.
async fn differs(world: &World, (filter, by_time): &Question) -> Option<String> {
    let request = pb::ListProfilesRequest {
        filter: Some(to_struct(filter)),
        order_by: if *by_time { "-created_at" } else { "user_id" }.to_owned(),
        page_size: 1000,
        return_total_size: *by_time,
        read_mask: Some(prost_types::FieldMask {
            paths: vec!["user_id".to_owned()],
        }),
        ..Default::default()
    };
    let page = match world.client.clone().users.list_profiles(request).await {
        Ok(page) => page.into_inner(),
        Err(status) => {
            return Some(format!(
                "{status:?} {:?}",
                tonic_types::StatusExt::get_error_details(&status)
            ));
        }
    };
    let mut found: Vec<i64> = page
        .profiles
        .iter()
        .map(|profile| profile.user_id)
        .collect();
    found.sort_unstable();
    if page
        .total_size
        .is_some_and(|total| total != found.len() as i64)
    {
        return Some(format!("total {:?} of {}", page.total_size, found.len()));
    }
    let wrong = world.people.iter().find(|person| {
        matches(filter, person, &world.fields) != found.binary_search(&person.user_id()).is_ok()
    })?;
    let text = serde_json::to_string(filter).unwrap();
    let verdict = if matches(filter, wrong, &world.fields) {
        "is not found"
    } else {
        "is found"
    };
    let shown = (
        world.named(&wrong.custom, &text),
        world.named(&wrong.builtin, &text),
    );
    let indexed: Vec<&str> = world
        .fields
        .iter()
        .filter(|field| field.indexed && text.contains(&format!("\"{}", field.name)))
        .map(|field| field.name.as_str())
        .collect();
    let shown = serde_json::to_string(&shown).unwrap();
    Some(format!(
        "user {} {verdict}: {shown}; indexed: {indexed:?}",
        wrong.user_id()
    ))
}
