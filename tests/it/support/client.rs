//! The generated clients, with one token, and short ways to write requests.

use std::net::SocketAddr;

use serde_json::Value;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use user_service::convert::{
    json as wire_json,
    pb::{
        self, user_admin_service_client::UserAdminServiceClient,
        user_service_client::UserServiceClient,
    },
    proto_struct::Struct,
};

/// Adds the token.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

type Intercepted = InterceptedService<Channel, Bearer>;

/// Both services, as one caller.
#[derive(Clone)]
pub struct Client {
    pub users: UserServiceClient<Intercepted>,
    pub admin: UserAdminServiceClient<Intercepted>,
}

impl Client {
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self::over(
            Endpoint::from_shared(format!("http://{address}"))
                .unwrap()
                .connect_lazy(),
            token,
        )
    }

    /// A client over this channel.
    pub fn over(channel: Channel, token: Option<&str>) -> Self {
        let bearer = Bearer(token.map(|token| format!("Bearer {token}").parse().unwrap()));
        Self {
            users: UserServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            admin: UserAdminServiceClient::with_interceptor(channel, bearer),
        }
    }

    /// Makes a user.
    pub async fn create(&mut self, request: pb::CreateUserRequest) -> Result<pb::Profile, Status> {
        Ok(self
            .admin
            .create_user(request)
            .await?
            .into_inner()
            .profile
            .unwrap())
    }

    /// Makes a user with this nickname.
    pub async fn create_named(&mut self, nickname: &str) -> pb::Profile {
        self.create(person(nickname)).await.unwrap()
    }

    /// The ids of everybody whom the request lists, page by page.
    pub async fn walk(&mut self, mut request: pb::ListProfilesRequest) -> Vec<i64> {
        let mut seen = Vec::new();
        loop {
            let page = self
                .users
                .list_profiles(request.clone())
                .await
                .unwrap()
                .into_inner();
            seen.extend(page.profiles.iter().map(|profile| profile.user_id));
            if page.next_page_token.is_empty() {
                return seen;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Reads a user whole.
    pub async fn get(&mut self, user_id: i64) -> Result<pb::Profile, Status> {
        self.get_by(pb::get_profile_request::Key::UserId(user_id))
            .await
    }

    /// Reads the token's own user whole.
    pub async fn get_own(&mut self) -> pb::Profile {
        let reply = self
            .users
            .get_profile(pb::GetProfileRequest::default())
            .await
            .unwrap();
        reply.into_inner().profile.unwrap()
    }

    /// Reads a user by a key.
    pub async fn get_by(
        &mut self,
        key: pb::get_profile_request::Key,
    ) -> Result<pb::Profile, Status> {
        let request = pb::GetProfileRequest {
            key: Some(key),
            read_mask: None,
        };
        Ok(self
            .users
            .get_profile(request)
            .await?
            .into_inner()
            .profile
            .unwrap())
    }

    /// Makes a field.
    pub async fn create_field(
        &mut self,
        field: pb::FieldDefinition,
    ) -> Result<pb::FieldDefinition, Status> {
        let request = pb::CreateFieldRequest {
            field: Some(field),
            ..Default::default()
        };
        Ok(self
            .admin
            .create_field(request)
            .await?
            .into_inner()
            .field
            .unwrap())
    }

    /// Gives a user another nickname.
    pub async fn rename(&mut self, user_id: i64, nickname: &str) -> Result<pb::Profile, Status> {
        let profile = person(nickname).profile;
        let update_mask = Some(prost_types::FieldMask {
            paths: vec!["nickname".to_owned()],
        });
        let request = pb::UpdateProfileRequest {
            user_id,
            profile,
            update_mask,
            ..Default::default()
        };
        Ok(self
            .users
            .update_profile(request)
            .await?
            .into_inner()
            .profile
            .unwrap())
    }

    /// Changes custom fields.
    pub async fn change(&mut self, user_id: i64, change: Value) -> Result<pb::Profile, Status> {
        let request = pb::UpdateProfileRequest {
            user_id,
            custom_fields: Some(json(change)),
            ..Default::default()
        };
        Ok(self
            .users
            .update_profile(request)
            .await?
            .into_inner()
            .profile
            .unwrap())
    }
}

/// A new user with a nickname alone.
pub fn person(nickname: &str) -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        profile: Some(pb::Profile {
            nickname: nickname.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// JSON as a Struct.
pub fn json(value: Value) -> Struct {
    wire_json::to_struct(value.as_object().expect("an object").iter())
}
