//! The gRPC door: both services over [`Api`], health and reflection, and one layer around them all.
#![expect(clippy::disallowed_types, reason = "the gRPC boundary")]

pub mod codec;
pub mod error;
pub mod layer;
mod user_admin_service;
mod user_service;

use tonic::{Request, service::Routes};
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::{
    api::Api,
    domain::caller::Caller,
    error::{Error, Reason, Result},
    wire::{
        DESCRIPTORS,
        pb::{user_admin_service_server::UserAdminServiceServer, user_service_server::UserServiceServer},
    },
};

/// All services of the port, and reflection where it is wanted.
pub fn routes(api: Api, health: HealthServer<impl Health>, has_reflection: bool) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    const VALID: &str = "valid: written by build.rs";
    let routes = Routes::new(UserServiceServer::new(user_service::UserService(api.clone())))
        .add_service(UserAdminServiceServer::new(user_admin_service::UserAdminService(api)))
        .add_service(health);
    if !has_reflection {
        return routes;
    }
    routes.add_service(reflection().build_v1().expect(VALID)).add_service(reflection().build_v1alpha().expect(VALID))
}

/// The caller that the layer found.
fn caller<T>(request: &Request<T>) -> Result<Caller> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Error::new(Reason::TokenMissing))
}
