//! CreateField, ListFields, UpdateField and DeleteField.

use super::Api;
use crate::{
    domain::caller::Caller,
    error::{Error, Fault, Result},
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
        Ok(pb::ListFieldsResponse {
            fields: fields.iter().map(field::message).collect(),
            next_page_token: String::new(),
        })
    }

    /// Changes a field's description, default and flags.
    pub async fn update_field(&self, _: &Caller, request: pb::UpdateFieldRequest) -> Result<pb::UpdateFieldResponse> {
        let (name, patch) = field::patch(request)?;
        let changed = self.0.fields.update(&name, &patch).await?;
        Ok(pb::UpdateFieldResponse { field: Some(field::message(&changed)) })
    }

    /// Deletes a field; its values are erased in the background.
    pub async fn delete_field(&self, _: &Caller, request: pb::DeleteFieldRequest) -> Result<pb::DeleteFieldResponse> {
        if request.name.is_empty() {
            return Err(Error::invalid("name", Fault::Required, "must name a field"));
        }
        self.0.fields.delete(&request.name).await?;
        Ok(pb::DeleteFieldResponse {})
    }
}
