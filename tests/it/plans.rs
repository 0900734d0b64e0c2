//! Each way of reading that promise 8 names is driven by an index: the plans of the very statements
//! that are sent.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use diesel::connection::InstrumentationEvent;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use user_service::{
    dev::{demo_data, seed_data},
    model::{field::Fields, filter, order},
    store::{
        accounts,
        batched_reads::Statements,
        bulk, fields,
        listing::{self, Selection},
        profiles,
        schema::{self, DevMarker},
        tokens, unique_values,
    },
};

use crate::support::{
    TestApp, start_time,
    statements::{prepared, text_of},
};

/// A database with a crowd, a connection whose statements are written down, and one that asks for
/// their plans.
struct Planner {
    _app: TestApp,
    fields: Fields,
    conn: AsyncPgConnection,
    sent: Arc<Mutex<Vec<String>>>,
    client: Client,
}

/// What a plan rests on.
#[derive(Debug, Default)]
struct Plan {
    indexes: BTreeSet<String>,
    whole_tables: BTreeSet<String>,
    sorts: bool,
}

impl Planner {
    async fn new() -> Self {
        let app = TestApp::new().await;
        demo_data::fill(&app.api).await.unwrap();
        let mut conn = app.database.connect().await;
        schema::set_mark(&mut conn, DevMarker::Filled { users: 0 })
            .await
            .unwrap();
        seed_data::fill(&app.database.url(), None, 1000, start_time(), |_| {})
            .await
            .unwrap();
        let fields = Fields::new(fields::list(&mut conn).await.unwrap(), Vec::new());
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                seen.lock().unwrap().push(text_of(query));
            }
        });
        let (client, connection) = tokio_postgres::connect(&app.database.url(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        // A sort of few rows is cheap; what counts is that a plan without one is there.
        let settings = "set enable_seqscan = off; set enable_sort = off; set plan_cache_mode = force_generic_plan";
        client.batch_execute(settings).await.unwrap();
        Self {
            _app: app,
            fields,
            conn,
            sent,
            client,
        }
    }

    /// The plan of the one statement that was sent since the last look.
    async fn plan(&self) -> Plan {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        let [statement] = sent.as_slice() else {
            panic!("not one statement: {sent:#?}")
        };
        let count = (1..)
            .take_while(|number| statement.contains(&format!("${number}")))
            .count();
        self.explain(
            &format!("deallocate all; prepare asked as {statement};"),
            "asked",
            count,
        )
        .await
    }

    /// The plan of a prepared statement with so many parameters.
    async fn explain(&self, before: &str, name: &str, count: usize) -> Plan {
        let nulls = if count == 0 {
            String::new()
        } else {
            format!("({})", vec!["null"; count].join(", "))
        };
        let asked = format!("{before} explain (format json, costs off) execute {name}{nulls}");
        let answer = self
            .client
            .simple_query(&asked)
            .await
            .unwrap_or_else(|error| panic!("{error:?}: {asked}"));
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let told: Value = serde_json::from_str(&rows.collect::<String>()).unwrap();
        let mut plan = Plan::default();
        plan.read(&told[0]["Plan"]);
        plan
    }

    async fn list(&mut self, filter: Value, order: &str, after: Option<Vec<Value>>) -> Plan {
        let Value::Object(filter) = filter else {
            panic!("a filter is an object")
        };
        let filter = filter::parse(filter, &self.fields).unwrap();
        let order = order::parse(order, &self.fields).unwrap();
        let selection = Selection {
            filter,
            order,
            after,
            skip: 0,
            limit: 21,
            with_document: true,
        };
        listing::list(&mut self.conn, &selection, &mut |_| {
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
        self.plan().await
    }

    /// With sorts again: those of the one row that a key finds.
    async fn allow_sorts(&self) {
        self.client
            .batch_execute("set enable_sort = on")
            .await
            .unwrap();
    }

    /// Without walks along an index, so that a condition has to find its rows by its own.
    async fn only_bitmaps(&self) {
        let settings =
            "set enable_indexscan = off; set enable_indexonlyscan = off; set enable_sort = on";
        self.client.batch_execute(settings).await.unwrap();
    }
}

impl Plan {
    fn read(&mut self, node: &Value) {
        if let Some(index) = node["Index Name"].as_str() {
            self.indexes.insert(index.to_owned());
        }
        match node["Node Type"].as_str().unwrap() {
            "Seq Scan" => self
                .whole_tables
                .extend(node["Relation Name"].as_str().map(str::to_owned)),
            "Sort" | "Incremental Sort" => self.sorts = true,
            _ => {}
        }
        node["Plans"]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|node| self.read(node));
    }

    #[track_caller]
    fn rests_on(&self, indexes: &[&str]) {
        assert_eq!(self.whole_tables, BTreeSet::new(), "{self:?}");
        for index in indexes {
            assert!(self.indexes.contains(*index), "{index} is not in {self:?}");
        }
    }

    /// Rests on these, and reads no more rows than it gives.
    #[track_caller]
    fn walks(&self, indexes: &[&str]) {
        self.rests_on(indexes);
        assert!(!self.sorts, "{self:?}");
    }
}

#[tokio::test]
async fn a_plan_that_reads_everything_is_known() {
    let mut planner = Planner::new().await;
    planner.only_bitmaps().await;

    let plan = planner
        .list(json!({ "motto": "一期一会" }), "nickname", None)
        .await;

    assert_eq!(plan.whole_tables, BTreeSet::from(["users".to_owned()]));
    assert!(plan.sorts);
}

#[tokio::test]
async fn p8_look_ups_by_key() {
    let mut planner = Planner::new().await;

    profiles::find_version(&mut planner.conn, 1).await.unwrap();
    planner.plan().await.walks(&["users_pkey"]);
    unique_values::find(&mut planner.conn, "email", "a@example.com")
        .await
        .unwrap();
    planner.plan().await.walks(&["unique_values_pkey"]);
    // Those that are gathered are prepared on connections of their own.
    let gathered = Statements::prepare(&planner.client).await.unwrap();
    for (name, text) in prepared(&planner.client).await {
        let count = text.matches('$').count();
        let index = if text.contains("unique_values") {
            "unique_values_pkey"
        } else {
            "users_pkey"
        };
        planner.explain("", &name, count).await.walks(&[index]);
    }
    drop(gathered);
    accounts::find_login(&mut planner.conn, 1).await.unwrap();
    planner.plan().await.walks(&["accounts_pkey"]);
    accounts::list(&mut planner.conn, vec![1, 2]).await.unwrap();
    planner.plan().await.rests_on(&["accounts_pkey"]);
    tokens::find_by_hash(&mut planner.conn, vec![0; 32])
        .await
        .unwrap();
    planner.plan().await.walks(&["tokens_pkey"]);
    planner.allow_sorts().await;
    // A filter by a username and so on becomes one by the IDs of the holders.
    planner
        .list(json!({ "user_id": 1 }), "", None)
        .await
        .rests_on(&["users_pkey"]);
    planner
        .list(json!({ "user_id": { "$in": [1, 2] } }), "", None)
        .await
        .rests_on(&["users_pkey"]);
}

#[tokio::test]
async fn p8_p10_newest_first_at_any_depth() {
    let mut planner = Planner::new().await;
    let place = || Some(vec![json!(1_700_000_000_000_000_i64), json!(77)]);

    for order in ["", "-created_at", "created_at"] {
        planner
            .list(json!({}), order, None)
            .await
            .walks(&["users_created_at"]);
        planner
            .list(json!({}), order, place())
            .await
            .walks(&["users_created_at"]);
    }
    let span = json!({ "created_at": { "$gte": 1_600_000_000, "$lt": 1_700_000_000 } });
    planner
        .list(span, "", None)
        .await
        .walks(&["users_created_at"]);
    planner
        .list(json!({ "user_id": { "$gte": 5 } }), "user_id", None)
        .await
        .walks(&["users_pkey"]);
}

#[tokio::test]
async fn p8_nicknames_and_groups() {
    let mut planner = Planner::new().await;
    planner.only_bitmaps().await;

    for pattern in [
        "a",
        "王",
        "ex",
        "王伟",
        "Ann",
        "🌸",
        "Christophe",
        "愿所有美好都如期而至",
    ] {
        for operator in ["$contains", "$icontains", "$starts_with"] {
            let plan = planner
                .list(json!({ "nickname": { operator: pattern } }), "", None)
                .await;
            plan.rests_on(&["users_nickname_pieces"]);
        }
    }
    for groups in [
        json!(258),
        json!({ "$in": [258, 77] }),
        json!({ "$all": [258, 1000] }),
    ] {
        planner
            .list(json!({ "group_ids": groups }), "", None)
            .await
            .rests_on(&["users_group_ids"]);
    }
}

#[tokio::test]
async fn p8_indexed_custom_fields() {
    let mut planner = Planner::new().await;
    let place = || Some(vec![json!(1_700_000_000_000_000_i64), json!(77)]);

    for filter in [
        json!({ "level": 3 }),
        json!({ "tags": "vip" }),
        json!({ "tags": { "$all": ["vip", "early"] } }),
    ] {
        planner
            .list(filter.clone(), "", None)
            .await
            .walks(&["field_values_pkey", "users_pkey"]);
        planner
            .list(filter.clone(), "", place())
            .await
            .walks(&["field_values_pkey", "users_pkey"]);
        planner
            .list(filter.clone(), "created_at", None)
            .await
            .walks(&["field_values_pkey", "users_pkey"]);
        planner
            .list(filter, "nickname", None)
            .await
            .rests_on(&["field_values_pkey", "users_pkey"]);
    }
    let place = || Some(vec![json!(5), json!(1_700_000_000_000_000_i64), json!(77)]);
    for order in ["level", "-level"] {
        planner
            .list(json!({}), order, None)
            .await
            .walks(&["field_values_pkey", "users_pkey"]);
        planner
            .list(json!({}), order, place())
            .await
            .walks(&["field_values_pkey", "users_pkey"]);
    }
    planner.only_bitmaps().await;
    for test in [
        json!({ "$in": [3, 4] }),
        json!({ "$gt": 50 }),
        json!({ "$lte": 2 }),
        json!({ "$range": [5, 6] }),
    ] {
        planner
            .list(json!({ "level": test }), "", None)
            .await
            .rests_on(&["field_values_pkey"]);
    }
}

#[tokio::test]
async fn p8_bulk_changes_pick_by_the_same_indexes() {
    let mut planner = Planner::new().await;
    planner.only_bitmaps().await;

    for (given, index) in [
        (json!({ "level": 3 }), "field_values_pkey"),
        (json!({ "group_ids": 258 }), "users_group_ids"),
        (
            json!({ "nickname": { "$contains": "王" } }),
            "users_nickname_pieces",
        ),
        (json!({ "user_id": 1 }), "users_pkey"),
    ] {
        let Value::Object(given) = given else {
            unreachable!("written as an object")
        };
        let filter = filter::parse(given, &planner.fields).unwrap();
        bulk::pick(&mut planner.conn, &filter, None, 0, 1000)
            .await
            .unwrap();
        planner.plan().await.rests_on(&[index]);
    }
}
