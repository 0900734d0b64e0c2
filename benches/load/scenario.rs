//! What is measured: one kind of request each, and the statement that it is compared with.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use user_service::convert::{
    json::to_struct,
    pb::{self, get_profile_request::Key},
    proto_struct::Struct,
};

use crate::pgbench::{self, Script};

/// What scenarios need to know of the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Data {
    /// The crowd's ids, without a gap.
    pub first_id: i64,
    pub last_id: i64,
    pub level_field: i64,
}

impl Data {
    /// So many users the crowd has.
    pub(crate) fn users(&self) -> u64 {
        (self.last_id - self.first_id + 1).unsigned_abs()
    }
}

/// What a scenario sends.
pub(crate) enum Requests {
    /// GetProfile of users by chance.
    Get,
    /// The same through the REST gateway.
    GetRest,
    /// GetProfile of users whose documents are so large.
    GetLarge(Size),
    /// One page of a list.
    List {
        filter: Value,
        page_size: i32,
        with_total: bool,
    },
    /// A page so far down, as a share of all; `None` for places by chance.
    Deep(Option<f64>),
    /// BatchGetProfiles of so many users by chance.
    Batch(usize),
    /// UpdateProfile of one custom field of users by chance.
    Update(Value),
    /// BulkUpdateFields of a thousand users from one on that is chosen by chance.
    Bulk(Value),
    /// UpdateAccount of users by chance, who get usernames that no one had.
    Rename,
    /// One ImportUsers of so many users, which no caller sends round and round.
    Import,
}

/// Size of a document; some of the crowd have such ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    TwoKilobytes,
    TwentyKilobytes,
}

impl Size {
    pub(crate) const ALL: [Size; 2] = [Size::TwoKilobytes, Size::TwentyKilobytes];
    /// So many users have documents of a size.
    const USERS: i64 = 1000;

    pub(crate) fn bytes(self) -> i64 {
        match self {
            Size::TwoKilobytes => 2000,
            Size::TwentyKilobytes => 20_000,
        }
    }

    /// The first and the last of those who have such documents.
    pub(crate) fn users(self, data: &Data) -> (i64, i64) {
        let first = data.first_id + Size::USERS * self as i64;
        (first, (first + Size::USERS - 1).min(data.last_id))
    }
}

pub(crate) struct Scenario {
    pub name: String,
    pub requests: Requests,
    pub in_flight: usize,
    /// What Postgres alone does for the same.
    pub script: Option<Script>,
    /// Whether a fixed reply is measured beside it.
    pub floor: bool,
    /// Services over the one database, among which the callers are spread.
    pub replicas: usize,
}

/// Different requests of one scenario, which are sent round and round.
const VARIETY: usize = 100_000;
/// Profiles of a page.
pub(crate) const PAGE: i32 = 20;

const NICKNAMES: &[(&str, &str)] = &[
    ("latin-1-common", "a"),
    ("latin-1-rare", "ø"),
    ("latin-2-common", "an"),
    ("latin-2-rare", "Xa"),
    ("latin-3-common", "nna"),
    ("latin-3-rare", "xqz"),
    ("latin-10-common", "Christophe"),
    ("latin-10-rare", "Feathersto"),
    ("chinese-1-common", "王"),
    ("chinese-1-rare", "龘"),
    ("chinese-2-common", "王伟"),
    ("chinese-2-rare", "仉龘"),
    ("chinese-3-common", "王伟芳"),
    ("chinese-3-rare", "亓官龘"),
    ("chinese-10-common", "愿所有美好都如期而至"),
    ("chinese-10-rare", "甲乙丙丁戊己庚辛壬癸"),
];

impl Scenario {
    fn new(name: impl Into<String>, in_flight: usize, requests: Requests) -> Self {
        Self {
            name: name.into(),
            requests,
            in_flight,
            script: None,
            floor: false,
            replicas: 1,
        }
    }

    fn list(name: impl Into<String>, filter: Value, script: Option<Script>) -> Self {
        Self {
            script,
            ..Self::new(
                name,
                8,
                Requests::List {
                    filter,
                    page_size: PAGE,
                    with_total: false,
                },
            )
        }
    }

    fn count(name: &str, filter: Value, script: Script) -> Self {
        // A count alone is what is measured then.
        let requests = Requests::List {
            filter,
            page_size: 1,
            with_total: true,
        };
        Self {
            script: Some(script),
            ..Self::new(name, 2, requests)
        }
    }
}

/// All of them.
pub(crate) fn all(data: &Data) -> Vec<Scenario> {
    let mut all: Vec<Scenario> = [128, 64, 32, 8, 1, 512]
        .into_iter()
        .map(|in_flight| Scenario {
            script: Some(pgbench::get(if in_flight == 1 { 1 } else { 8 })),
            floor: true,
            ..Scenario::new(format!("get-{in_flight}"), in_flight, Requests::Get)
        })
        .collect();
    all.push(Scenario {
        replicas: 2,
        ..Scenario::new("get-two-replicas", 128, Requests::Get)
    });
    all.push(Scenario::new("get-rest", 128, Requests::GetRest));
    for (name, size) in ["get-2kb", "get-20kb"].into_iter().zip(Size::ALL) {
        let script = Some(pgbench::get_among(size.users(data)));
        all.push(Scenario {
            script,
            ..Scenario::new(name, 32, Requests::GetLarge(size))
        });
    }
    let (first, last) = Size::TwentyKilobytes.users(data);
    let filter = json!({ "user_id": { "$gte": first, "$lte": last } });
    let requests = Requests::List {
        filter,
        page_size: 1000,
        with_total: false,
    };
    all.push(Scenario::new("list-1000-of-20kb", 8, requests));
    // As many profiles once by their ids and once as a page: the first should cost at most 1.3
    // times the second.
    all.push(Scenario::new("batch-get-100", 8, Requests::Batch(100)));
    let page = Requests::List {
        filter: json!({}),
        page_size: 100,
        with_total: false,
    };
    all.push(Scenario::new("list-newest-100", 8, page));
    all.push(Scenario::list(
        "list-newest",
        json!({}),
        Some(pgbench::newest()),
    ));
    all.push(Scenario {
        script: Some(pgbench::keyset(data)),
        ..Scenario::new("list-by-token", 8, Requests::Deep(None))
    });
    all.push(Scenario::new("page-1", 1, Requests::Deep(Some(0.0))));
    all.push(Scenario::new(
        "page-at-nine-tenths",
        1,
        Requests::Deep(Some(0.9)),
    ));
    for (name, level) in [("common", 1), ("rare", 60)] {
        let script = pgbench::indexed(data.level_field, level);
        all.push(Scenario::list(
            format!("list-indexed-{name}"),
            json!({ "level": level }),
            Some(script),
        ));
    }
    all.push(Scenario::list(
        "list-indexed-tag-rare",
        json!({ "tags": "founder" }),
        None,
    ));
    for (name, pattern) in NICKNAMES {
        let script = pgbench::nickname(pattern);
        let filter = json!({ "nickname": { "$contains": pattern } });
        all.push(Scenario::list(
            format!("nickname-{name}"),
            filter,
            Some(script),
        ));
    }
    for (name, group) in [("common", 258), ("rare", 77)] {
        let script = pgbench::group(group);
        all.push(Scenario::list(
            format!("group-{name}"),
            json!({ "group_ids": group }),
            Some(script),
        ));
    }
    all.push(Scenario::count(
        "count-all",
        json!({}),
        pgbench::count("true"),
    ));
    all.push(Scenario::count(
        "count-gender",
        json!({ "gender": 1 }),
        pgbench::count("gender = 1::smallint"),
    ));
    all.push(Scenario::count(
        "count-group",
        json!({ "group_ids": 258 }),
        pgbench::count("group_ids @> '{258}'"),
    ));
    all.extend(writes(data));
    all
}

fn writes(data: &Data) -> [Scenario; 7] {
    let more = |field: &str| json!({ field: { "$incr_by": 1 } });
    let (plain, indexed) = (pgbench::update(), pgbench::update_indexed(data.level_field));
    let (bulk, bulk_indexed) = (pgbench::bulk(), pgbench::bulk_indexed(data.level_field));
    [
        Scenario {
            script: Some(plain),
            ..Scenario::new("update-plain", 32, Requests::Update(more("score")))
        },
        Scenario::new("update-one", 1, Requests::Update(more("score"))),
        Scenario {
            script: Some(indexed),
            ..Scenario::new("update-indexed", 32, Requests::Update(more("level")))
        },
        Scenario {
            script: Some(bulk),
            ..Scenario::new("bulk-1000-plain", 1, Requests::Bulk(more("score")))
        },
        Scenario {
            script: Some(bulk_indexed),
            ..Scenario::new("bulk-1000-indexed", 1, Requests::Bulk(more("level")))
        },
        Scenario {
            script: Some(pgbench::rename()),
            ..Scenario::new("account-username", 32, Requests::Rename)
        },
        Scenario::new("import", 1, Requests::Import),
    ]
}

impl Requests {
    /// The path of the RPC.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Requests::Get | Requests::GetLarge(_) => "/userservice.v1.UserService/GetProfile",
            Requests::GetRest => "",
            Requests::Rename => "/userservice.v1.UserService/UpdateAccount",
            Requests::Import => "/userservice.v1.UserAdminService/ImportUsers",
            Requests::List { .. } | Requests::Deep(_) => "/userservice.v1.UserService/ListProfiles",
            Requests::Batch(_) => "/userservice.v1.UserService/BatchGetProfiles",
            Requests::Update(_) => "/userservice.v1.UserService/UpdateProfile",
            Requests::Bulk(_) => "/userservice.v1.UserService/BulkUpdateFields",
        }
    }

    /// Whether each request is a path of the REST gateway.
    pub(crate) fn is_rest(&self) -> bool {
        matches!(self, Requests::GetRest)
    }

    /// The requests; `tokens` are those of pages at even distances, the first page's not among
    /// them.
    pub(crate) fn bodies(&self, data: &Data, tokens: &[String]) -> Vec<Bytes> {
        match self {
            Requests::Get => ids(data, 0, VARIETY).map(|id| frame(&get(id))).collect(),
            Requests::GetRest => ids(data, 0, VARIETY)
                .map(|id| format!("/v1/users/{id}/profile").into())
                .collect(),
            Requests::GetLarge(size) => {
                let (first, last) = size.users(data);
                (first..=last).map(|id| frame(&get(id))).collect()
            }
            Requests::Rename => ids(data, 0, VARIETY)
                .zip(1..)
                .map(|(id, turn)| frame(&rename(id, turn)))
                .collect(),
            Requests::Import => Vec::new(),
            Requests::List {
                filter,
                page_size,
                with_total,
            } => vec![frame(&pb::ListProfilesRequest {
                filter: Some(object(filter)),
                return_total_size: *with_total,
                page_size: *page_size,
                ..Default::default()
            })],
            Requests::Deep(share) => pages(*share, tokens),
            Requests::Batch(size) => {
                let wanted: Vec<i64> = ids(data, 0, VARIETY).collect();
                wanted
                    .chunks(*size)
                    .map(|user_ids| frame(&batch(user_ids)))
                    .collect()
            }
            Requests::Update(change) => ids(data, 0, VARIETY)
                .map(|id| frame(&update(id, change)))
                .collect(),
            Requests::Bulk(change) => ids(data, 1000, 1000)
                .map(|id| frame(&bulk(id, change)))
                .collect(),
        }
    }
}

fn pages(share: Option<f64>, tokens: &[String]) -> Vec<Bytes> {
    let page = |token: &str| {
        frame(&pb::ListProfilesRequest {
            page_token: token.to_owned(),
            page_size: PAGE,
            ..Default::default()
        })
    };
    match share {
        None => tokens.iter().map(|token| page(token)).collect(),
        Some(0.0) => vec![page("")],
        Some(share) => {
            let place = (tokens.len() as f64 * share) as usize;
            tokens
                .get(place)
                .or(tokens.last())
                .map(|token| page(token))
                .into_iter()
                .collect()
        }
    }
}

/// Ids of the crowd by chance, each with so many after it.
fn ids(data: &Data, after: i64, count: usize) -> impl Iterator<Item = i64> {
    let (first, span) = (
        data.first_id,
        (data.last_id - after - data.first_id).max(1) as u64,
    );
    // A step that shares no factor with the span visits it all in an order that no cache foresees.
    (0..count as u64)
        .map(move |place| first + (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) % span) as i64)
}

fn get(user_id: i64) -> pb::GetProfileRequest {
    pb::GetProfileRequest {
        key: Some(Key::UserId(user_id)),
        read_mask: None,
    }
}

fn batch(user_ids: &[i64]) -> pb::BatchGetProfilesRequest {
    let key = |user_id: &i64| pb::ProfileKey {
        key: Some(pb::profile_key::Key::UserId(*user_id)),
    };
    pb::BatchGetProfilesRequest {
        keys: user_ids.iter().map(key).collect(),
        read_mask: None,
    }
}

fn update(user_id: i64, change: &Value) -> pb::UpdateProfileRequest {
    pb::UpdateProfileRequest {
        user_id,
        custom_fields: Some(object(change)),
        ..Default::default()
    }
}

fn rename(user_id: i64, turn: usize) -> pb::UpdateAccountRequest {
    pb::UpdateAccountRequest {
        user_id,
        account: Some(pb::Account {
            username: Some(format!("load.{turn}.{user_id}")),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["username".to_owned()],
        }),
        ..Default::default()
    }
}

fn bulk(from: i64, change: &Value) -> pb::BulkUpdateFieldsRequest {
    pb::BulkUpdateFieldsRequest {
        filter: Some(object(&json!({ "user_id": { "$gte": from } }))),
        custom_fields: Some(object(change)),
        limit: 1000,
        ..Default::default()
    }
}

fn object(value: &Value) -> Struct {
    to_struct(
        value
            .as_object()
            .expect("valid: written as an object")
            .iter(),
    )
}

/// A message as gRPC sends it: no compression, the length, the bytes.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let size = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + size);
    frame.put_u8(0);
    frame.put_u32(size as u32);
    message.encode(&mut frame).expect("valid: there is room");
    frame.freeze()
}
