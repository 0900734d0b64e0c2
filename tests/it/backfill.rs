//! The second steps of field definitions, while two processes write and die in the middle of them.
//!
//! What is random follows from a seed, which is told where a test fails; `USER_SERVICE_ORACLE_SEED`
//! asks for another.

use std::time::Duration;

use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Request, Status};
use tonic_health::pb::health_check_response::ServingStatus::Serving;
use user_service::{convert::pb, store::sql::Sql};

use crate::support::{
    Client, TestDatabase, eventually, fault, indexes, json as fields, person, serve::Serve,
};

/// A step has several batches of them.
const USERS: u64 = 4000;
/// A second step waits for the age of definitions and the longest write.
const VARIABLES: &[(&str, &str)] = &[
    ("FIELDS__CACHE_SECONDS", "1"),
    ("FIELDS__WAIT_SECONDS", "2"),
];
const LONGEST_WRITE: Duration = Duration::from_secs(1);

/// A source of chance: SplitMix64.
struct SeededRng(u64);

impl SeededRng {
    /// The one of a test.
    fn of(test: u64) -> Self {
        let seed = std::env::var("USER_SERVICE_ORACLE_SEED")
            .map_or(1, |seed| seed.parse().expect("a number"));
        println!("USER_SERVICE_ORACLE_SEED={seed}");
        Self(seed ^ (test << 32))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of the users from the beginning: every other time one of a few, so that writers meet.
    fn user_id(&mut self) -> i64 {
        let user_id = match self.below(2) {
            0 => self.below(40) * (USERS / 40),
            _ => self.below(USERS),
        };
        user_id as i64 + 1
    }
}

/// Two processes over one database with many users.
struct World {
    database: TestDatabase,
    conn: AsyncPgConnection,
    processes: Vec<Serve>,
    /// Of the processes that live.
    clients: watch::Sender<Vec<Client>>,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let conn = database.connect().await;
        let mut world = Self {
            database,
            conn,
            processes: Vec::new(),
            clients: watch::Sender::default(),
        };
        for _ in 0..2 {
            world.start().await;
        }
        let tags = pb::FieldDefinition {
            item_type: pb::FieldType::Integer.into(),
            ..field("tags", pb::FieldType::Array)
        };
        world
            .client()
            .create_field(field("level", pb::FieldType::Integer))
            .await
            .unwrap();
        world.client().create_field(tags).await.unwrap();
        let crowd = format!(
            "insert into users (nickname, custom_fields, created_at, updated_at, version)
                 select 'crowd', jsonb_build_object('level', n % 50, 'tags', jsonb_build_array(n % 7, n % 5)),
                     timestamptz '2026-01-01' + n * interval '1 second', now(), 1 from generate_series(1, {USERS}) n;
             insert into accounts (user_id) select user_id from users;"
        );
        world.conn.batch_execute(&crowd).await.unwrap();
        world
    }

    /// Starts one more process.
    async fn start(&mut self) {
        let process = Serve::start_with(&self.database, VARIABLES);
        process.wait_for(Serving).await;
        let client = process.client().await;
        self.clients.send_modify(|living| living.push(client));
        self.processes.push(process);
    }

    /// Kills the oldest process.
    fn kill(&mut self) {
        self.clients.send_modify(|living| drop(living.remove(0)));
        self.processes.remove(0).kill();
    }

    /// The client of the newest process.
    fn client(&self) -> Client {
        self.clients
            .borrow()
            .last()
            .expect("a process that lives")
            .clone()
    }

    async fn number(&mut self, statement: &'static str) -> i64 {
        Sql::<BigInt>::new(statement)
            .get_result(&mut self.conn)
            .await
            .expect(statement)
    }

    /// Begins to write by many hands at once.
    fn write(&self, rng: &mut SeededRng, change: fn(&mut SeededRng) -> Value) -> Writers {
        let stop = watch::Sender::new(false);
        let hands = (0..4).map(|_| {
            let (clients, stop, rng) = (
                self.clients.subscribe(),
                stop.subscribe(),
                SeededRng(rng.next()),
            );
            tokio::spawn(write(clients, stop, rng, change))
        });
        Writers {
            hands: hands.collect(),
            stop,
        }
    }

    async fn set_indexed(&self, indexed: bool) {
        for (name, kind) in [
            ("level", pb::FieldType::Integer),
            ("tags", pb::FieldType::Array),
        ] {
            let request = pb::UpdateFieldRequest {
                field: Some(pb::FieldDefinition {
                    indexed,
                    ..field(name, kind)
                }),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["indexed".to_owned()],
                }),
                ..Default::default()
            };
            self.client().admin.update_field(request).await.unwrap();
        }
    }

    /// Waits until a second step is in the middle of its work.
    async fn in_the_middle(&mut self) {
        eventually("the middle of a step", async || {
            const BEGUN: &str =
                "select count(*) from field_definitions where fill_from is not null";
            (self.number(BEGUN).await > 0).then_some(())
        })
        .await;
    }

    /// Waits until all indexes are ready.
    async fn indexes_are_ready(&self) {
        let mut client = self.client();
        eventually("indexes that are ready", async || {
            let listed = client
                .admin
                .list_fields(pb::ListFieldsRequest {
                    ..Default::default()
                })
                .await
                .unwrap()
                .into_inner()
                .fields;
            listed.iter().all(|field| field.index_ready).then_some(())
        })
        .await;
    }
}

/// Hands that write until they are stopped.
struct Writers {
    hands: Vec<JoinHandle<usize>>,
    stop: watch::Sender<bool>,
}

impl Writers {
    /// Stops them when what is under way has ended; gives how many writes were done.
    async fn stop(self) -> usize {
        self.stop.send_replace(true);
        let mut done = 0;
        for hand in self.hands {
            done += hand.await.unwrap();
        }
        done
    }
}

async fn write(
    mut clients: watch::Receiver<Vec<Client>>,
    stop: watch::Receiver<bool>,
    mut rng: SeededRng,
    change: fn(&mut SeededRng) -> Value,
) -> usize {
    let mut done = 0;
    while !*stop.borrow() {
        let client = {
            let living = clients.wait_for(|living| !living.is_empty()).await.unwrap();
            living[rng.below(living.len() as u64) as usize].clone()
        };
        // A write may be rejected, or die with its process: the database alone tells what became of
        // it.
        done += usize::from(write_one(client, &mut rng, change).await.is_ok());
    }
    done
}

async fn write_one(
    mut client: Client,
    rng: &mut SeededRng,
    change: fn(&mut SeededRng) -> Value,
) -> Result<(), Status> {
    let user_id = rng.user_id();
    match rng.below(20) {
        0 => client
            .admin
            .delete_user(within(pb::DeleteUserRequest {
                user_id,
                ..Default::default()
            }))
            .await
            .map(drop),
        1 | 2 => {
            let mut new = person("new");
            let values = json!({ "level": rng.below(50), "tags": [rng.below(7)] });
            new.profile.get_or_insert_default().custom_fields = Some(fields(values));
            client.admin.create_user(within(new)).await.map(drop)
        }
        3 => {
            let user_ids = [user_id, rng.user_id(), rng.user_id()];
            let request = pb::BulkUpdateFieldsRequest {
                filter: Some(fields(json!({ "user_id": { "$in": user_ids } }))),
                custom_fields: Some(fields(change(rng))),
                ..Default::default()
            };
            client
                .users
                .bulk_update_fields(within(request))
                .await
                .map(drop)
        }
        _ => {
            let custom_fields = Some(fields(change(rng)));
            let request = pb::UpdateProfileRequest {
                user_id,
                custom_fields,
                ..Default::default()
            };
            client.users.update_profile(within(request)).await.map(drop)
        }
    }
}

/// A request that takes no longer than second steps wait for.
fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(LONGEST_WRITE);
    request
}

fn field(name: &str, kind: pb::FieldType) -> pb::FieldDefinition {
    pb::FieldDefinition {
        name: name.to_owned(),
        r#type: kind.into(),
        ..Default::default()
    }
}

/// A change of what is indexed.
fn of_indexed(rng: &mut SeededRng) -> Value {
    match rng.below(8) {
        0 => json!({ "level": rng.below(50) }),
        1 => json!({ "level": null, "tags": null }),
        2 => json!({ "$unset": { "level": "", "tags": "" } }),
        3 => json!({ "tags": [rng.below(7), rng.below(7)] }),
        4 => json!({ "tags": { "$append_unique": [rng.below(7)] }, "level": rng.below(50) }),
        5 => json!({ "tags": { "$remove": [rng.below(7)] } }),
        _ => json!({ "level": { "$incr_by": 1 } }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_indexes_are_what_the_documents_say_though_processes_die_while_they_are_filled() {
    let mut rng = SeededRng::of(1);
    let mut world = World::new().await;
    let writers = world.write(&mut rng, of_indexed);

    world.set_indexed(true).await;
    world.in_the_middle().await;
    world.kill();
    world.start().await;
    for _ in 0..=rng.below(3) {
        world.set_indexed(false).await;
        world.set_indexed(true).await;
    }
    world.in_the_middle().await;
    world.kill();
    world.kill();
    world.start().await;
    world.start().await;
    world.indexes_are_ready().await;
    let written = writers.stop().await;

    assert!(written > 100, "{written}");
    indexes::assert_whole(&world.database).await;
    let by_level = pb::ListProfilesRequest {
        order_by: "level".to_owned(),
        page_size: 1000,
        ..Default::default()
    };
    assert_eq!(
        world.client().walk(by_level).await,
        by_level_of_documents(&mut world.conn).await
    );
}

async fn by_level_of_documents(conn: &mut AsyncPgConnection) -> Vec<i64> {
    const SORTED: &str = "select user_id from users \
        order by (custom_fields ->> 'level')::numeric nulls last, created_at, user_id";
    Sql::<BigInt>::new(SORTED).load(conn).await.unwrap()
}

/// A change of a field that is being deleted, or of another of the same user.
fn of_deleted(rng: &mut SeededRng) -> Value {
    match rng.below(2) {
        0 => json!({ "card": format!("w{}", rng.below(100)) }),
        _ => json!({ "level": { "$incr_by": 1 } }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_field_is_erased_though_processes_die_and_its_name_begins_anew() {
    let mut rng = SeededRng::of(2);
    let mut world = World::new().await;
    let card = |kind| pb::FieldDefinition {
        unique: true,
        indexed: true,
        ..field("card", kind)
    };
    world
        .client()
        .create_field(card(pb::FieldType::String))
        .await
        .unwrap();
    world.conn.batch_execute(CARDS).await.unwrap();
    let writers = world.write(&mut rng, of_deleted);

    let mut client = world.client();
    client
        .admin
        .delete_field(pb::DeleteFieldRequest {
            name: "card".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    world.in_the_middle().await;
    world.kill();
    world.start().await;
    eventually("a name that is free", async || {
        let made = client.create_field(card(pb::FieldType::Integer)).await;
        made.map_err(|refused| assert_eq!(fault::<()>(Err(refused)).reason, "FIELD_EXISTS"))
            .ok()
    })
    .await;
    let written = writers.stop().await;
    let erased = world
        .number("select count(*) from users where custom_fields ? 'card'")
        .await;
    let freed = world
        .number("select count(*) from unique_values where kind like 'field:%'")
        .await;
    // Each process takes the name for the new field.
    let [ann, ben] = [
        world.client().create_named("Ann").await,
        world.client().create_named("Ben").await,
    ];
    let clients = world.clients.borrow().clone();
    for (number, mut client) in clients.into_iter().enumerate() {
        client
            .change(ann.user_id, json!({ "card": number }))
            .await
            .unwrap();
        assert_eq!(
            fault(client.change(ben.user_id, json!({ "card": number })).await).reason,
            "VALUE_TAKEN"
        );
    }

    assert!(written > 100, "{written}");
    assert_eq!((erased, freed), (0, 0));
    indexes::assert_whole(&world.database).await;
}

/// Everybody has a card.
const CARDS: &str = "
    update users set custom_fields = custom_fields || jsonb_build_object('card', 'c' || user_id);
    insert into unique_values (kind, value, user_id)
        select 'field:' || field_id, 'c' || user_id, user_id from users, field_definitions where name = 'card';
    insert into field_values (field_id, value, created_at, user_id)
        select field_id, convert_to('c' || user_id, 'UTF8'), u.created_at, user_id
        from users u, field_definitions where name = 'card';";
