//! BulkUpdateFields.

use super::Api;
use crate::{
    domain::caller::Caller,
    error::{Error, Reason, Result},
    wire::pb,
};

impl Api {
    /// Changes custom fields of all profiles that a filter finds.
    pub async fn bulk_update_fields(
        &self,
        _: &Caller,
        _: pb::BulkUpdateFieldsRequest,
    ) -> Result<pb::BulkUpdateFieldsResponse> {
        Err(Error::new(Reason::MethodUnknown))
    }
}
