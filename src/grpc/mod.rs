//! The gRPC transport: both services over [`Api`], health and reflection, and one layer around them
//! all.
#![expect(clippy::disallowed_types, reason = "the gRPC boundary")]

pub mod codec;
pub mod error;
pub mod layer;
mod message;
mod user_admin_service;
mod user_service;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{Request, Response, body::Body, codec::CompressionEncoding, service::Routes};
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::{
    api::Api,
    config,
    convert::{
        DESCRIPTORS,
        pb::{
            user_admin_service_server::{self, UserAdminServiceServer},
            user_service_server::{self, UserServiceServer},
        },
    },
    domain::caller::Caller,
    error::{Error, Reason, Result},
};

/// All services of the port. A call of ours goes to its service at once; a router, which boxes and
/// clones for whatever may come, has the others.
#[derive(Clone)]
pub struct Services {
    users: UserServiceServer<user_service::UserService>,
    admin: UserAdminServiceServer<user_admin_service::UserAdminService>,
    others: Routes,
}

impl Services {
    /// The services over these use cases, and reflection if it is configured.
    pub fn new(api: Api, health: HealthServer<impl Health>, config: &config::Grpc) -> Self {
        let mut users = UserServiceServer::new(user_service::UserService(api.clone()));
        let mut admin = UserAdminServiceServer::new(user_admin_service::UserAdminService(api));
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
            users = users.accept_compressed(encoding);
            admin = admin.accept_compressed(encoding);
            if config.compression {
                users = users.send_compressed(encoding);
            }
        }
        Self {
            users,
            admin,
            others: others(health, config.reflection),
        }
    }
}

impl tower::Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path().split('/').nth(1) {
            Some(user_service_server::SERVICE_NAME) => self.users.call(request),
            Some(user_admin_service_server::SERVICE_NAME) => self.admin.call(request),
            _ => Box::pin(self.others.call(request)),
        }
    }
}

/// Bytes of a message without a token: the name of a service, or of a file.
const MAX_PUBLIC_MESSAGE: usize = 4 * 1024;

fn others(health: HealthServer<impl Health>, has_reflection: bool) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // By which clients that have no code of ours read the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    const VALID: &str = "valid: written by build.rs";
    let routes = Routes::new(health.max_decoding_message_size(MAX_PUBLIC_MESSAGE));
    if !has_reflection {
        return routes;
    }
    let v1 = reflection()
        .build_v1()
        .expect(VALID)
        .max_decoding_message_size(MAX_PUBLIC_MESSAGE);
    let v1alpha = reflection()
        .build_v1alpha()
        .expect(VALID)
        .max_decoding_message_size(MAX_PUBLIC_MESSAGE);
    routes.add_service(v1).add_service(v1alpha)
}

/// The header that names the encodings that a caller accepts.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// Methods whose responses may be compressed: those of the others are small.
const COMPRESSED: [&str; 2] = ["ListProfiles", "BatchGetProfiles"];
/// Bytes from which compression pays: it takes a core longer to compress a small page than to find
/// and to send it.
const MIN_COMPRESSED: usize = 16 * 1024;

/// A response that is compressed if the caller accepts that, and if it is large.
fn compressible<T: prost::Message>(message: T, is_accepted: bool) -> Response<T> {
    let is_small = is_accepted && message.encoded_len() < MIN_COMPRESSED;
    let mut response = Response::new(message);
    if is_small {
        response.disable_compression();
    }
    response
}

/// Whether the caller accepts a compressed response.
fn accepts_compressed<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(ACCEPT_ENCODING)
}

/// The caller that the layer found.
fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>> {
    request
        .extensions()
        .get::<Arc<Caller>>()
        .cloned()
        .ok_or_else(|| Error::new(Reason::TokenMissing))
}
