//! CreateField, ListFields, UpdateField and DeleteField.

use super::Api;
use crate::{
    domain::caller::Caller,
    error::{Error, Reason, Result},
    wire::{field, pb},
};

impl Api {
    /// Makes a field.
    pub async fn create_field(&self, _: &Caller, request: pb::CreateFieldRequest) -> Result<pb::CreateFieldResponse> {
        let made = self.0.fields.create(field::new_field(request.field)?).await?;
        Ok(pb::CreateFieldResponse { field: Some(field::message(&made)) })
    }

    /// All fields.
    pub async fn list_fields(&self, _: &Caller, _: pb::ListFieldsRequest) -> Result<pb::ListFieldsResponse> {
        let fields = self.0.fields.list().await?;
        Ok(pb::ListFieldsResponse { fields: fields.iter().map(field::message).collect() })
    }

    /// Changes a field's description, flags and default.
    pub async fn update_field(&self, _: &Caller, _: pb::UpdateFieldRequest) -> Result<pb::UpdateFieldResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }

    /// Deletes a field and erases its values.
    pub async fn delete_field(&self, _: &Caller, _: pb::DeleteFieldRequest) -> Result<pb::DeleteFieldResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }
}
