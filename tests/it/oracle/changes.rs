//! Changes: the document must become what the oracle makes of it.

use futures_util::future::join_all;
use proptest::{
    collection::vec,
    strategy::{Strategy, ValueTree},
};
use serde_json::{Map, Value, json};

use super::{
    World,
    apply::{apply, shown, stored},
    ask,
    evaluate::is_deeply_same,
    filters, from_struct,
    make::Field,
    runner, smallest, to_struct,
};
use crate::support::fault;
use user_service::convert::pb;

type Document = Map<String, Value>;

const WORLDS: u64 = 3;
const ROUNDS: usize = 60;
const PEOPLE: i64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_make_what_the_page_says() {
    for number in 0..WORLDS {
        let mut runner = runner(1000 + number);
        let mut world = World::new(&mut runner, PEOPLE).await;
        for person in &mut world.people {
            person.custom = kept(&person.custom, &world.fields);
        }
        let sequences = vec(ask::change(&world.fields), 1..4);
        for _ in 0..ROUNDS {
            let trees: Vec<_> = world
                .people
                .iter()
                .map(|_| sequences.new_tree(&mut runner).unwrap())
                .collect();
            let done = trees.iter().zip(&world.people).map(|(tree, person)| {
                run(
                    &world,
                    person.user_id(),
                    person.custom.clone(),
                    tree.current(),
                )
            });
            let done = join_all(done).await;
            for ((number, outcome), tree) in done.into_iter().enumerate().zip(trees) {
                match outcome {
                    Ok(document) => world.people[number].custom = document,
                    Err(_) => tell(&world, number, tree).await,
                }
            }
        }
        // The index of values must have kept up.
        world.read_times().await;
        let questions = (
            ask::filter(&world.people, &world.fields),
            proptest::bool::ANY,
        );
        filters::check(&world, &questions, 400, &mut runner).await;
    }
}

fn kept(document: &Document, fields: &[Field]) -> Document {
    let kind = |name: &str| fields.iter().find(|field| field.name == name).unwrap().kind;
    document
        .iter()
        .map(|(name, value)| (name.clone(), stored(kind(name), value)))
        .collect()
}

/// Makes the changes one by one; gives the document that both came to, or what differs.
async fn run(
    world: &World,
    user_id: i64,
    before: Document,
    changes: Vec<Document>,
) -> Result<Document, String> {
    let mut document = before;
    for change in changes {
        let answer = send(world, user_id, &change).await;
        match (apply(&change, &document, &world.fields), answer) {
            (Ok(expected), Ok(profile)) => {
                let got = from_struct(&profile.custom_fields.unwrap().into());
                compare(&expected, &got, &world.fields)?;
                document = expected;
            }
            (Err(reasons), Err(status)) => {
                let refused = fault::<()>(Err(status));
                if !reasons.contains(&refused.reason.as_str()) {
                    return Err(format!("{refused:?} instead of {reasons:?}"));
                }
            }
            (Ok(expected), Err(status)) => {
                return Err(format!(
                    "{:?} instead of {expected:?}",
                    fault::<()>(Err(status))
                ));
            }
            (Err(reasons), Ok(_)) => return Err(format!("done instead of {reasons:?}")),
        }
    }
    Ok(document)
}

async fn send(
    world: &World,
    user_id: i64,
    change: &Document,
) -> Result<pb::Profile, tonic::Status> {
    let custom_fields = Some(to_struct(change));
    let request = pb::UpdateProfileRequest {
        user_id,
        custom_fields,
        ..Default::default()
    };
    let answer = world.client.clone().users.update_profile(request).await?;
    Ok(answer.into_inner().profile.unwrap())
}

fn compare(expected: &Document, got: &Document, fields: &[Field]) -> Result<(), String> {
    for field in fields {
        let (expected, got) = (expected.get(&field.name), got.get(&field.name));
        let expected = expected.map(|value| shown(field.kind, value));
        let same = match (&expected, got) {
            (Some(expected), Some(got)) => is_deeply_same(expected, got),
            (expected, got) => expected.is_none() && got.is_none(),
        };
        if !same {
            return Err(format!("{} is {got:?} instead of {expected:?}", field.name));
        }
    }
    if expected.len() == got.len() {
        Ok(())
    } else {
        Err(format!("{got:?} has other fields"))
    }
}

/// Shows the smallest sequence that still differs, from the same document on.
async fn tell(world: &World, number: usize, tree: impl ValueTree<Value = Vec<Document>>) -> ! {
    let person = &world.people[number];
    let again = async |changes: Vec<Document>| {
        let absent = world
            .fields
            .iter()
            .filter(|field| !person.custom.contains_key(&field.name));
        let absent: Document = absent
            .map(|field| (field.name.clone(), Value::Null))
            .collect();
        let shown = world.fields.iter().filter_map(|field| {
            Some((
                field.name.clone(),
                shown(field.kind, person.custom.get(&field.name)?),
            ))
        });
        let reset = json!({ "$set": shown.collect::<Document>(), "$unset": absent });
        send(world, person.user_id(), reset.as_object().unwrap())
            .await
            .expect("the document as it was");
        run(world, person.user_id(), person.custom.clone(), changes)
            .await
            .err()
    };
    let changes = smallest(tree, async |changes| again(changes).await.is_some()).await;
    let why = again(changes.clone())
        .await
        .unwrap_or_else(|| "by chance".to_owned());
    let text = serde_json::to_string(&changes).unwrap();
    let before = Value::from(world.named(&person.custom, &text));
    panic!("{text}\nfrom {before}\n{why}");
}
