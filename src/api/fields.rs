//! CreateField, ListFields, UpdateField and DeleteField.

use super::Api;
use crate::{
    convert::{field, pb},
    domain::{caller::Caller, idempotency},
    error::{Result, Violations},
    model::{field::Field, page},
};

/// Definitions on a page where none is asked for.
const DEFAULT_SIZE: i64 = 100;
/// Most definitions on a page; more are cut to it.
const MAX_SIZE: i64 = 500;

impl Api {
    /// Creates a field.
    ///
    /// # Errors
    /// FIELD_EXISTS, FIELD_LIMIT_REACHED, and those of a `request_id`.
    pub async fn create_field(
        &self,
        caller: &Caller,
        request: pb::CreateFieldRequest,
    ) -> Result<pb::CreateFieldResponse> {
        let key = self.idempotency_key(caller, "CreateField", &request.request_id, &request);
        let create = async {
            self.0
                .fields
                .create(field::new_field(request)?, key.as_ref(), created)
                .await
        };
        idempotency::respond(key.as_ref(), create).await
    }

    /// Lists fields, oldest first.
    ///
    /// # Errors
    /// Those of the page token.
    pub async fn list_fields(
        &self,
        _: &Caller,
        request: pb::ListFieldsRequest,
    ) -> Result<pb::ListFieldsResponse> {
        let mut violations = Violations::new();
        let limit = page::size_within(request.page_size, DEFAULT_SIZE, MAX_SIZE, &mut violations);
        violations.into_result()?;
        let (fields, next_page_token) = self.0.fields.list(&request.page_token, limit).await?;
        Ok(pb::ListFieldsResponse {
            fields: fields.iter().map(field::message).collect(),
            next_page_token,
        })
    }

    /// Changes a field's description, default and flags.
    ///
    /// # Errors
    /// FIELD_NOT_FOUND, ETAG_MISMATCH.
    pub async fn update_field(
        &self,
        _: &Caller,
        mut request: pb::UpdateFieldRequest,
    ) -> Result<pb::UpdateFieldResponse> {
        let etag = std::mem::take(&mut request.etag);
        let (name, patch) = field::patch(request)?;
        let changed = self.0.fields.update(&name, &patch, &etag).await?;
        Ok(pb::UpdateFieldResponse {
            field: Some(field::message(&changed)),
        })
    }

    /// Deletes a field; its values are erased in the background.
    ///
    /// # Errors
    /// FIELD_NOT_FOUND, ETAG_MISMATCH, INVALID_REQUEST.
    pub async fn delete_field(
        &self,
        _: &Caller,
        request: pb::DeleteFieldRequest,
    ) -> Result<pb::DeleteFieldResponse> {
        let mut violations = Violations::new();
        let name = field::known_name("name", request.name, &mut violations);
        violations.into_result()?;
        self.0
            .fields
            .delete(
                &name.expect("valid: a bad name is a violation"),
                &request.etag,
            )
            .await?;
        Ok(pb::DeleteFieldResponse {})
    }
}

fn created(made: &Field) -> pb::CreateFieldResponse {
    pb::CreateFieldResponse {
        field: Some(field::message(made)),
    }
}
