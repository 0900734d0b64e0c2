//! The contract in Rust: the generated messages, and how they are read into the model and written
//! from it.

pub mod account;
pub mod annotations;
pub mod budget;
pub mod bulk;
pub mod details;
pub mod field;
pub mod fingerprint;
pub mod json;
pub mod json_lines;
pub mod key;
pub mod mask;
pub mod profile;
pub mod proto_json;
pub mod proto_struct;
pub mod redact;
pub mod size;
pub mod token;
pub mod user;

use std::{collections::HashMap, sync::LazyLock};

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// The messages and services of `userservice.v1`.
#[expect(clippy::all, reason = "generated; the comments are in proto/")]
#[expect(
    rustdoc::invalid_html_tags,
    reason = "comments of the contract, which are no HTML"
)]
#[expect(
    clippy::disallowed_types,
    reason = "generated service traits answer with a status"
)]
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated, with its own"
)]
pub mod pb {
    tonic::include_proto!("userservice.v1");
    include!(concat!(env!("OUT_DIR"), "/userservice.v1.debug.rs"));
}

/// The services of the contract.
pub const SERVICES: &[&str] = &[
    "userservice.v1.UserService",
    "userservice.v1.UserAdminService",
];

/// All descriptors with their comments, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/userservice.v1.binpb"));

/// The same, to be looked into.
pub static POOL: LazyLock<prost_reflect::DescriptorPool> = LazyLock::new(|| {
    prost_reflect::DescriptorPool::decode(DESCRIPTORS).expect("valid: written by build.rs")
});

/// The names of every RPC by its path, `service/method`.
static RPCS: LazyLock<HashMap<String, (&'static str, String)>> = LazyLock::new(|| {
    let services = SERVICES
        .iter()
        .filter_map(|name| Some((*name, POOL.get_service_by_name(name)?)));
    services
        .flat_map(|(name, service)| {
            let methods: Vec<String> = service
                .methods()
                .map(|method| method.name().to_owned())
                .collect();
            methods
                .into_iter()
                .map(move |method| (format!("{name}/{method}"), (name, method)))
        })
        .collect()
});

/// The service and the method of this path, `service/method`, where there is such an RPC.
pub fn rpc(path: &str) -> Option<(&'static str, &'static str)> {
    RPCS.get(path)
        .map(|(service, method)| (*service, method.as_str()))
}

/// A time as protobuf has it.
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        nanos: time.timestamp_subsec_nanos() as i32,
    }
}

/// A time of a request, in the microseconds that are kept; `None` where it is none.
pub fn time(given: &Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(given.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    let time = DateTime::from_timestamp(given.seconds, nanos - nanos % 1000)?;
    (1..=9999)
        .contains(&chrono::Datelike::year(&time))
        .then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[test]
    fn a_time_is_within_the_years_of_protobuf() {
        let read = |seconds, nanos| time(&Timestamp { seconds, nanos });
        let (first, last) = (-62_135_596_800, 253_402_300_799);

        assert!(read(first, 0).is_some() && read(last, 999_999_999).is_some());
        assert_eq!(
            [
                read(first - 1, 999_999_999),
                read(last + 1, 0),
                read(0, -1),
                read(0, 1_000_000_000)
            ],
            [None; 4]
        );
    }

    #[test]
    fn reasons_are_those_of_the_contract() {
        let contract = POOL.get_enum_by_name("userservice.v1.ErrorReason").unwrap();
        let mut names: Vec<String> = contract
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| value.name().trim_start_matches("ERROR_REASON_").to_owned())
            .collect();
        let mut ours: Vec<String> = Reason::ALL
            .iter()
            .map(|reason| reason.as_str().to_owned())
            .collect();
        names.sort();
        ours.sort();
        assert_eq!(names, ours);
    }
}
