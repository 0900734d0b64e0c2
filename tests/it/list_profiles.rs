//! ListProfiles: order, pages, filters, tokens and their limits.

use serde_json::json;
use tonic::Code;
use user_service::{convert::pb, model::scope::Scope};

use crate::support::{Client, TestApp, fault, json as fields};

async fn crowd(client: &mut Client, nicknames: &[&str]) -> Vec<i64> {
    let mut ids = Vec::new();
    for nickname in nicknames {
        ids.push(client.create_named(nickname).await.user_id);
    }
    ids
}

async fn list(client: &mut Client, request: pb::ListProfilesRequest) -> pb::ListProfilesResponse {
    client
        .users
        .list_profiles(request)
        .await
        .unwrap()
        .into_inner()
}

fn ids(page: &pb::ListProfilesResponse) -> Vec<i64> {
    page.profiles
        .iter()
        .map(|profile| profile.user_id)
        .collect()
}

fn field(name: &str, kind: pb::FieldType, indexed: bool) -> pb::FieldDefinition {
    pb::FieldDefinition {
        name: name.to_owned(),
        r#type: kind.into(),
        indexed,
        ..Default::default()
    }
}

#[tokio::test]
async fn p9_newest_first_without_an_order() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut made = crowd(&mut client, &["a", "b", "c"]).await;

    let page = list(&mut client, pb::ListProfilesRequest::default()).await;

    made.reverse();
    assert_eq!(ids(&page), made);
    assert_eq!(page.next_page_token, "");
    assert_eq!(page.total_size, None);
}

#[tokio::test]
async fn p9_nulls_are_last_in_both_directions() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let made = crowd(&mut client, &["b", "", "a"]).await;
    let order = |order_by: &str| pb::ListProfilesRequest {
        order_by: order_by.to_owned(),
        ..Default::default()
    };

    let up = list(&mut client, order("nickname")).await;
    let down = list(&mut client, order("-nickname")).await;

    assert_eq!(ids(&up), [made[2], made[0], made[1]]);
    assert_eq!(ids(&down), [made[0], made[2], made[1]]);
}

#[tokio::test]
async fn p9_orders_that_are_refused() {
    let app = TestApp::new().await;
    let mut client = app.service().await;

    for order_by in [
        "gender",
        "-city",
        "nope",
        "nickname,nickname",
        "-nickname,nickname desc",
        "a b",
        "email",
        "last_login_at",
        "nickname,,user_id",
        "-nickname desc",
        "nickname asc",
        "nickname DESC",
        "desc",
    ] {
        let request = pb::ListProfilesRequest {
            order_by: order_by.to_owned(),
            ..Default::default()
        };
        let refused = fault(client.users.list_profiles(request).await);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::InvalidArgument, "ORDER_BY_UNSUPPORTED"),
            "{order_by}"
        );
        assert!(
            refused.paths().iter().all(|path| *path == "order_by"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn p10_walk_by_token_meets_everybody_once_while_others_come() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let made = crowd(&mut client, &["e", "d", "", "c", "b", "", "a"]).await;
    let mut seen = Vec::new();
    let mut request = pb::ListProfilesRequest {
        order_by: "-nickname".to_owned(),
        page_size: 2,
        ..Default::default()
    };

    loop {
        let page = list(&mut client, request.clone()).await;
        seen.extend(ids(&page));
        client.create_named("zz").await;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }

    assert_eq!(
        seen,
        [
            made[0], made[1], made[3], made[4], made[6], made[5], made[2]
        ]
    );
}

#[tokio::test]
async fn p10_tokens_are_bound_to_their_query_and_expire() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    crowd(&mut client, &["a", "b", "c"]).await;
    let first = pb::ListProfilesRequest {
        page_size: 1,
        ..Default::default()
    };
    let token = list(&mut client, first.clone()).await.next_page_token;
    let mut flipped = token.clone().into_bytes();
    flipped[10] = if flipped[10] == b'A' { b'B' } else { b'A' };

    let other = pb::ListProfilesRequest {
        page_token: token.clone(),
        order_by: "nickname".to_owned(),
        ..Default::default()
    };
    let broken = pb::ListProfilesRequest {
        page_token: String::from_utf8(flipped).unwrap(),
        ..Default::default()
    };
    let mismatch = fault(client.users.list_profiles(other).await);
    let invalid = fault(client.users.list_profiles(broken).await);
    app.clock
        .advance(chrono::TimeDelta::days(3) + chrono::TimeDelta::seconds(1));
    let late = pb::ListProfilesRequest {
        page_token: token,
        ..first
    };
    let expired = fault(client.users.list_profiles(late).await);

    assert_eq!(mismatch.reason, "PAGE_TOKEN_MISMATCH");
    assert_eq!(invalid.reason, "PAGE_TOKEN_INVALID");
    assert_eq!(expired.reason, "PAGE_TOKEN_EXPIRED");
    assert_eq!(expired.paths(), ["page_token"]);
}

/// Texts that differ only far behind what a token can hold.
#[tokio::test]
async fn p10_a_token_is_short_whatever_the_list_is_sorted_by() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("motto", pb::FieldType::String, false))
        .await
        .unwrap();
    let mut made = Vec::new();
    for number in [3, 1, 4, 0, 2] {
        let motto = format!("{}{number}", "好".repeat(5_000));
        let profile = pb::Profile {
            custom_fields: Some(fields(json!({ "motto": motto }))),
            ..Default::default()
        };
        let request = pb::CreateUserRequest {
            profile: Some(profile),
            ..Default::default()
        };
        made.push((number, client.create(request).await.unwrap().user_id));
    }
    made.sort_unstable();
    let expected: Vec<i64> = made.into_iter().map(|(_, user_id)| user_id).collect();

    for (order_by, expected) in [
        ("motto", expected.clone()),
        ("-motto", expected.iter().rev().copied().collect()),
    ] {
        let mut request = pb::ListProfilesRequest {
            page_size: 2,
            order_by: order_by.to_owned(),
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = list(&mut client, request.clone()).await;
            assert!(
                page.next_page_token.len() < 4096,
                "{}",
                page.next_page_token.len()
            );
            seen.extend(page.profiles.iter().map(|profile| profile.user_id));
            assert!(seen.len() <= expected.len(), "{order_by}: {seen:?}");
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, expected, "{order_by}");
    }
}

#[tokio::test]
async fn p11_p12_size_skip_and_total() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let made = crowd(&mut client, &["a", "b", "c", "d"]).await;

    let request = pb::ListProfilesRequest {
        skip: 1,
        page_size: 2,
        return_total_size: true,
        ..Default::default()
    };
    let page = list(&mut client, request.clone()).await;
    let next = list(
        &mut client,
        pb::ListProfilesRequest {
            page_token: page.next_page_token.clone(),
            ..request
        },
    )
    .await;
    let bad = pb::ListProfilesRequest {
        skip: -1,
        page_size: -1,
        ..Default::default()
    };
    let refused = fault(client.users.list_profiles(bad).await);

    assert_eq!(ids(&page), [made[2], made[1]]);
    assert_eq!(page.total_size, Some(4));
    assert_eq!(ids(&next), [made[0]], "skip counts once");
    assert_eq!(refused.paths(), ["page_size", "skip"]);
}

#[tokio::test]
async fn p11_page_of_large_profiles_ends_early() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let story = pb::FieldDefinition {
        item_type: pb::FieldType::String.into(),
        ..field("story", pb::FieldType::Array, false)
    };
    client.create_field(story).await.unwrap();
    client
        .create_field(field("level", pb::FieldType::Integer, true))
        .await
        .unwrap();
    let story: Vec<String> = (0..3).map(|_| "x".repeat(16 * 1024)).collect();
    let mut made = Vec::new();
    for number in 0..80 {
        let mut person = crate::support::person("long");
        let profile = person.profile.as_mut().unwrap();
        let custom = match number {
            ..70 => serde_json::json!({ "story": story, "level": number % 7 }),
            _ => serde_json::json!({ "story": story }),
        };
        profile.custom_fields = Some(crate::support::json(custom));
        made.push(client.create(person).await.unwrap().user_id);
    }

    let page = list(
        &mut client,
        pb::ListProfilesRequest {
            page_size: 1000,
            ..Default::default()
        },
    )
    .await;

    let size: usize = page.profiles.iter().map(prost::Message::encoded_len).sum();
    assert!(
        page.profiles.len() < 80 && size <= 3 * 1024 * 1024,
        "{} profiles, {size} bytes",
        page.profiles.len()
    );
    let rest = pb::ListProfilesRequest {
        page_size: 1000,
        page_token: page.next_page_token,
        ..Default::default()
    };
    assert_eq!(
        list(&mut client, rest).await.profiles.len(),
        80 - page.profiles.len()
    );
    // Also where the page ends among those with a value, and another statement brings those without
    // one.
    let by_level = pb::ListProfilesRequest {
        order_by: "level".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    assert!(
        !list(&mut client, by_level.clone())
            .await
            .next_page_token
            .is_empty()
    );
    let mut walked = client.walk(by_level).await;
    walked.sort_unstable();
    assert_eq!(walked, made);
}

#[tokio::test]
async fn p9_order_by_an_indexed_field_puts_those_without_a_value_last() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("level", pb::FieldType::Integer, true))
        .await
        .unwrap();
    let mut made = Vec::new();
    for level in [Some(3), None, Some(1), Some(3), None, Some(-2)] {
        let mut person = crate::support::person("ordered");
        let custom = level.map(|level| crate::support::json(serde_json::json!({ "level": level })));
        person.profile.as_mut().unwrap().custom_fields = custom;
        made.push(client.create(person).await.unwrap().user_id);
    }
    let up = [5, 2, 0, 3, 1, 4].map(|place: usize| made[place]);
    let down = [3, 0, 2, 5, 4, 1].map(|place: usize| made[place]);

    for (order_by, expected) in [("level", up), ("-level", down)] {
        for page_size in 1..=7 {
            let mut request = pb::ListProfilesRequest {
                order_by: order_by.to_owned(),
                page_size,
                ..Default::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = list(&mut client, request.clone()).await;
                seen.extend(ids(&page));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            assert_eq!(seen, expected, "{order_by} by {page_size}");
        }
        for skip in 0..=6 {
            let request = pb::ListProfilesRequest {
                order_by: order_by.to_owned(),
                skip,
                ..Default::default()
            };
            assert_eq!(
                ids(&list(&mut client, request).await),
                expected[skip as usize..],
                "{order_by} after {skip}"
            );
        }
    }
}

/// Declares or removes the index of a field, and waits until that is done.
async fn set_indexed(app: &TestApp, client: &mut Client, name: &str, indexed: bool) {
    let request = pb::UpdateFieldRequest {
        field: Some(field(name, pb::FieldType::Number, indexed)),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["indexed".to_owned()],
        }),
        ..Default::default()
    };
    client.admin.update_field(request).await.unwrap();
    app.clock.advance(chrono::TimeDelta::seconds(31));
    while app.app.field_worker.step().await.unwrap() {}
}

#[tokio::test]
async fn p10_a_list_goes_on_in_its_own_order_when_an_index_comes_or_goes() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("score", pb::FieldType::Number, false))
        .await
        .unwrap();
    let mut made = Vec::new();
    // The higher the ID the older, so that the order of the index is another one.
    for seconds in [300, 200, 100] {
        let mut person = crate::support::person("tied");
        let profile = person.profile.as_mut().unwrap();
        profile.created_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        profile.custom_fields = Some(fields(json!({ "score": 1 })));
        made.push(client.create(person).await.unwrap().user_id);
    }
    let by_time: Vec<i64> = made.iter().rev().copied().collect();

    for order_by in ["score", "nickname,score"] {
        // The first list begins without an index, the second with one.
        for (expected, changes) in [
            (&made, [true, false, true]),
            (&by_time, [false, true, false]),
        ] {
            let mut request = pb::ListProfilesRequest {
                page_size: 1,
                order_by: order_by.to_owned(),
                ..Default::default()
            };
            let mut seen = Vec::new();
            for indexed in changes {
                let page = list(&mut client, request.clone()).await;
                seen.extend(ids(&page));
                request.page_token = page.next_page_token;
                set_indexed(&app, &mut client, "score", indexed).await;
            }
            assert_eq!(
                (&seen, request.page_token.as_str()),
                (expected, ""),
                "{order_by}"
            );
        }
    }
}

#[tokio::test]
async fn p6_p9_a_double_is_one_value_however_it_was_written() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    for indexed in [false, true] {
        let name = if indexed { "indexed" } else { "plain" };
        client
            .create_field(field(name, pb::FieldType::Number, indexed))
            .await
            .unwrap();
        // The database writes what a sum came to, and the service what is set.
        for number in [18_014_398_509_481_992_f64, 1e23] {
            let made = crowd(&mut client, &["a", "b", "c"]).await;
            client
                .change(made[0], json!({ name: { "$incr_by": number } }))
                .await
                .unwrap();
            client
                .change(made[1], json!({ name: number }))
                .await
                .unwrap();
            client
                .change(made[2], json!({ name: { "$incr_by": number } }))
                .await
                .unwrap();

            for filter in [
                json!({ name: number }),
                json!({ name: { "$gte": number, "$lte": number } }),
            ] {
                let request = pb::ListProfilesRequest {
                    filter: Some(fields(filter.clone())),
                    ..Default::default()
                };
                assert_eq!(
                    list(&mut client, request).await.profiles.len(),
                    3,
                    "{filter}"
                );
            }
            let filter = Some(fields(json!({ name: { "$in": [number] } })));
            for order_by in [name.to_owned(), format!("-{name}")] {
                let request = pb::ListProfilesRequest {
                    filter: filter.clone(),
                    page_size: 1,
                    order_by,
                    ..Default::default()
                };
                let mut walked = client.walk(request).await;
                walked.sort_unstable();
                assert_eq!(walked, made);
            }
        }
    }
}

#[tokio::test]
async fn p9_created_by_is_an_order_too() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let made = crowd(&mut client, &["a", "b", "c"]).await;
    let request = pb::ListProfilesRequest {
        order_by: "created_by".to_owned(),
        page_size: 2,
        ..Default::default()
    };
    assert_eq!(client.walk(request).await, made);
}

#[tokio::test]
async fn p9_p10_both_spellings_of_a_direction_are_one_order_with_one_token() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    client
        .create_field(field("level", pb::FieldType::Integer, true))
        .await
        .unwrap();
    let made = crowd(&mut client, &["b", "a", "b", "a", "c"]).await;
    for (user_id, level) in made.iter().zip([1, 2, 1, 3, 2]) {
        client
            .change(*user_id, json!({ "level": level }))
            .await
            .unwrap();
    }

    for (sign, word) in [
        ("-created_at", "created_at desc"),
        ("", " created_at\t desc "),
        ("-nickname,user_id", "nickname  desc , user_id"),
        ("nickname,-user_id", "nickname,user_id desc"),
        ("-level", "level desc"),
    ] {
        let request = |order_by: &str, page_token: &str| pb::ListProfilesRequest {
            order_by: order_by.to_owned(),
            page_token: page_token.to_owned(),
            page_size: 2,
            ..Default::default()
        };
        let expected = client.walk(request(sign, "")).await;
        assert_eq!(client.walk(request(word, "")).await, expected, "{word}");
        let (mut seen, mut token) = (Vec::new(), String::new());
        for order_by in [sign, word, sign] {
            let page = list(&mut client, request(order_by, &token)).await;
            seen.extend(ids(&page));
            token = page.next_page_token;
        }
        assert_eq!(seen, expected, "{sign} by turns with {word}");
    }
    let first = list(
        &mut client,
        pb::ListProfilesRequest {
            page_size: 1,
            ..Default::default()
        },
    )
    .await;
    for order_by in ["created_at", "nickname desc"] {
        let page_token = first.next_page_token.clone();
        let other = pb::ListProfilesRequest {
            order_by: order_by.to_owned(),
            page_token,
            ..Default::default()
        };
        assert_eq!(
            fault(client.users.list_profiles(other).await).reason,
            "PAGE_TOKEN_MISMATCH"
        );
    }
}

#[tokio::test]
async fn p5_the_last_login_is_a_field_of_filters_for_who_may_read_accounts() {
    let app = TestApp::new().await;
    let mut client = app.service().await;
    let mut made = Vec::new();
    for last_login_at in ["2020-02-03T04:05:06Z", "2021-01-01T00:00:00.5Z", ""] {
        let time = chrono::DateTime::parse_from_rfc3339(last_login_at).ok();
        let last_login_at = time.map(|time| prost_types::Timestamp {
            seconds: time.timestamp(),
            nanos: time.timestamp_subsec_nanos() as i32,
        });
        let account = pb::Account {
            last_login_at,
            ..Default::default()
        };
        let request = pb::CreateUserRequest {
            account: Some(account),
            ..crate::support::person("someone")
        };
        made.push(client.create(request).await.unwrap().user_id);
    }
    let request = |test: serde_json::Value| pb::ListProfilesRequest {
        filter: Some(fields(json!({ "last_login_at": test }))),
        order_by: "user_id".to_owned(),
        ..Default::default()
    };

    for (test, expected) in [
        (json!({ "$lte": "2020-02-03T04:05:06Z" }), vec![made[0]]),
        (json!({ "$lt": "2020-02-03T04:05:06Z" }), vec![]),
        (json!({ "$gt": 1_580_702_706 }), vec![made[1]]),
        (json!(1_609_459_200), vec![made[1]]),
        (
            json!({ "$in": [1_580_702_706, 1_609_459_200] }),
            vec![made[0], made[1]],
        ),
        (json!({ "$nin": [1_580_702_706] }), vec![made[1], made[2]]),
        (
            json!({ "$range": ["2020-01-01T00:00:00Z", "2020-12-31T00:00:00Z"] }),
            vec![made[0]],
        ),
        (json!({ "$isnull": true }), vec![made[2]]),
        (json!(null), vec![made[2]]),
        (
            json!({ "$ne": "2020-02-03T04:05:06Z" }),
            vec![made[1], made[2]],
        ),
    ] {
        assert_eq!(
            ids(&list(&mut client, request(test.clone())).await),
            expected,
            "{test}"
        );
    }
    let wrong = fault(
        client
            .users
            .list_profiles(request(json!({ "$contains": "2020" })))
            .await,
    );
    let mut reader = app
        .service_with(&[Scope::ProfilesRead, Scope::ProfilesWrite])
        .await;
    let refused = fault(
        reader
            .users
            .list_profiles(request(json!({ "$gte": 0 })))
            .await,
    );
    let bulk = pb::BulkUpdateFieldsRequest {
        filter: request(json!({ "$gte": 0 })).filter,
        add_group_ids: vec![1],
        ..Default::default()
    };
    let bulk = fault(reader.users.bulk_update_fields(bulk).await);

    assert_eq!(
        wrong.told(),
        ("FILTER_INVALID", vec!["filter.last_login_at"])
    );
    for refused in [refused, bulk] {
        assert_eq!(refused.metadata["requiredScope"], "accounts.read");
    }
}
