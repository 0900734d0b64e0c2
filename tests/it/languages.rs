//! The examples of `proto/languages.md`.

use serde_json::{Map, Value};
use user_service::{
    convert::{pb, proto_json},
    dev::demo_data,
};

use crate::support::{Client, TestApp, json};

/// The JSON in the rows of a part's table: of each row, those of its last cells.
fn examples(part: &str) -> Vec<Vec<Value>> {
    let page = include_str!("../../proto/languages.md");
    let part = page
        .split("\n## ")
        .find(|text| text.starts_with(part))
        .unwrap();
    let json_of = |row: &str| -> Vec<Value> {
        let cells = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'));
        cells
            .filter(|cell| cell.starts_with('{'))
            .map(|cell| serde_json::from_str(cell).unwrap())
            .collect()
    };
    part.lines()
        .filter(|line| line.starts_with('|'))
        .map(json_of)
        .filter(|found| !found.is_empty())
        .collect()
}

/// The JSON in a part's blocks of code.
fn blocks(part: &str) -> Vec<Value> {
    let page = include_str!("../../proto/languages.md");
    let part = page
        .split("\n## ")
        .find(|text| text.starts_with(part))
        .unwrap();
    let code = part
        .split("```json")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    code.map(|code| serde_json::from_str(code).unwrap())
        .collect()
}

async fn dev() -> (TestApp, Client) {
    let app = TestApp::new().await;
    demo_data::fill(&app.api).await.unwrap();
    let client = app.service().await;
    (app, client)
}

#[tokio::test]
async fn every_filter_of_the_page_finds_some_and_not_all() {
    let (_app, mut client) = dev().await;
    let rows = examples("Filters");
    assert!(rows.len() >= 14, "the page has lost its examples");

    let shown = blocks("Filters");
    assert_eq!(shown.len(), 2, "the page has lost its examples");

    for filter in rows.into_iter().flatten().chain(shown) {
        let request = pb::ListProfilesRequest {
            filter: Some(json(filter.clone())),
            return_total_size: true,
            ..Default::default()
        };
        let found = client
            .users
            .list_profiles(request)
            .await
            .unwrap()
            .into_inner()
            .total_size
            .unwrap();
        assert!((1..243).contains(&found), "{filter} finds {found}");
    }
}

fn custom(profile: &pb::Profile) -> Map<String, Value> {
    let shown: Value = serde_json::from_slice(&proto_json::to_text(profile)).unwrap();
    shown["customFields"].as_object().unwrap().clone()
}

#[tokio::test]
async fn every_change_of_the_page_does_what_it_says() {
    let (_app, mut client) = dev().await;
    let rows = examples("Changes");
    assert!(rows.len() >= 9, "the page has lost its examples");

    for row in rows {
        let [before, change, after] = <[Value; 3]>::try_from(row).unwrap();
        let profile = pb::Profile {
            custom_fields: Some(json(before.clone())),
            ..Default::default()
        };
        let request = pb::CreateUserRequest {
            profile: Some(profile),
            ..Default::default()
        };
        let user_id = client.create(request).await.unwrap().user_id;

        let changed = custom(&client.change(user_id, change.clone()).await.unwrap());

        for name in before
            .as_object()
            .unwrap()
            .keys()
            .chain(after.as_object().unwrap().keys())
        {
            assert_eq!(changed.get(name), after.get(name), "{name} after {change}");
        }
    }
    let shown = blocks("Changes");
    assert_eq!(shown.len(), 1, "the page has lost its example");
    client.change(1, shown[0].clone()).await.unwrap();
}

#[tokio::test]
async fn every_sort_order_of_the_page_is_the_same_in_both_spellings() {
    let (_app, mut client) = dev().await;
    let page = include_str!("../../proto/languages.md");
    let part = page
        .split("\n## ")
        .find(|text| text.starts_with("Sort order"))
        .unwrap();
    let cells = |row: &'static str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
    };
    let rows: Vec<Vec<&str>> = part
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| cells(row).collect())
        .collect();
    assert!(rows.len() >= 3, "the page has lost its examples");

    let default = client
        .walk(pb::ListProfilesRequest {
            page_size: 100,
            ..Default::default()
        })
        .await;
    for row in rows {
        let (sign, word) = (row[0], row[1]);
        let order = |order_by: &str| pb::ListProfilesRequest {
            order_by: order_by.to_owned(),
            page_size: 100,
            ..Default::default()
        };
        let listed = client.walk(order(sign)).await;
        assert_eq!(client.walk(order(word)).await, listed, "{word}");
        assert_eq!(listed == default, sign == "-created_at", "{sign}");
    }
}
