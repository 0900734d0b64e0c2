//! `user-service field …`.

use anyhow::Context;
use clap::{Args, Subcommand};
use diesel_async::AsyncPgConnection;

use super::output::Output;
use crate::{
    api::Api,
    convert::{field::RESERVED, json, pb},
    domain::caller::Caller,
    store::fields,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a field.
    Create(Box<Create>),
    /// Shows all fields, oldest first.
    List,
    /// Changes a field's description, default or flags.
    Update(Box<Update>),
    /// Deletes a field; its values are erased in the background.
    Delete {
        /// The field's name.
        name: String,
        /// Deletes only if the definition still has this etag.
        #[arg(long, default_value = "")]
        etag: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The field's name.
    name: String,
    #[arg(long)]
    description: Option<String>,
    /// Value of profiles that are made later without one, as JSON.
    #[arg(long, value_name = "JSON")]
    default: Option<String>,
    /// Profiles that are made later have no default.
    #[arg(long, conflicts_with = "default")]
    clear_default: bool,
    /// Whether searches and orders by it are fast.
    #[arg(long, value_name = "BOOL")]
    indexed: Option<bool>,
    /// Whether users may change it on their own profile.
    #[arg(long, value_name = "BOOL")]
    user_writable: Option<bool>,
    /// New profiles need no value any more.
    #[arg(long)]
    optional: bool,
    /// Several users may hold the same value from now on.
    #[arg(long)]
    not_unique: bool,
    /// Changes only if the definition still has this etag.
    #[arg(long, default_value = "")]
    etag: String,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// A letter, then letters, digits and `_`, at most 32 in all.
    name: String,
    /// string, integer, number, boolean, date, object, array, geojson or file.
    #[arg(long = "type", value_name = "TYPE")]
    field_type: String,
    /// Type of an array's items.
    #[arg(long, value_name = "TYPE")]
    item_type: Option<String>,
    #[arg(long, default_value = "")]
    description: String,
    /// Value of profiles that are made without one, as JSON.
    #[arg(long, value_name = "JSON")]
    default: Option<String>,
    /// Required in new profiles.
    #[arg(long)]
    required: bool,
    /// Only one user may hold a value.
    #[arg(long)]
    unique: bool,
    /// Makes filtering and sorting by this field fast.
    #[arg(long)]
    indexed: bool,
    /// Users may change it on their own profile.
    #[arg(long)]
    user_writable: bool,
}

pub(super) async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<()> {
    let caller = Caller::operator();
    match command {
        Command::Create(create) => {
            let request = pb::CreateFieldRequest {
                field: Some(definition(*create)?),
                request_id: String::new(),
            };
            output.message(
                &api.create_field(&caller, request)
                    .await?
                    .field
                    .unwrap_or_default(),
            )?;
        }
        Command::List => output.message(&pb::ListFieldsResponse {
            fields: list(api).await?,
            ..Default::default()
        })?,
        Command::Update(update) => {
            let changed = api.update_field(&caller, update_request(*update)?).await?;
            output.message(&changed.field.unwrap_or_default())?;
        }
        Command::Delete { name, etag } => {
            api.delete_field(
                &caller,
                pb::DeleteFieldRequest {
                    name: name.clone(),
                    etag,
                },
            )
            .await?;
            output.line(
                &format!("field {name} is deleted"),
                &serde_json::json!({ "name": name }),
            )?;
        }
    }
    Ok(())
}

/// A sentence for each field whose name was free when it was created and is reserved by now.
///
/// # Errors
/// The database's.
pub(super) async fn warnings(conn: &mut AsyncPgConnection) -> anyhow::Result<Vec<String>> {
    let found = fields::find_named(conn, RESERVED).await?;
    let warning = |name: String| {
        format!(
            "the custom field `{name}` has a reserved name, which means something else in filters: create a field with \
             another name, copy the values, and delete this one"
        )
    };
    Ok(found.into_iter().map(warning).collect())
}

/// All fields, page by page.
async fn list(api: &Api) -> anyhow::Result<Vec<pb::FieldDefinition>> {
    let mut fields = Vec::new();
    let mut request = pb::ListFieldsRequest {
        page_size: 500,
        ..Default::default()
    };
    loop {
        let page = api
            .list_fields(&Caller::operator(), request.clone())
            .await?;
        fields.extend(page.fields);
        if page.next_page_token.is_empty() {
            return Ok(fields);
        }
        request.page_token = page.next_page_token;
    }
}

fn update_request(update: Update) -> anyhow::Result<pb::UpdateFieldRequest> {
    let named = [
        ("description", update.description.is_some()),
        (
            "default_value",
            update.default.is_some() || update.clear_default,
        ),
        ("indexed", update.indexed.is_some()),
        ("user_writable", update.user_writable.is_some()),
        ("required", update.optional),
        ("unique", update.not_unique),
    ];
    let paths = named
        .into_iter()
        .filter(|(_, is_named)| *is_named)
        .map(|(path, _)| path.to_owned())
        .collect();
    let field = pb::FieldDefinition {
        name: update.name,
        description: update.description.unwrap_or_default(),
        default_value: default_value(update.default.as_deref())?,
        indexed: update.indexed.unwrap_or_default(),
        user_writable: update.user_writable.unwrap_or_default(),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths });
    Ok(pb::UpdateFieldRequest {
        field: Some(field),
        update_mask,
        etag: update.etag,
    })
}

fn default_value(given: Option<&str>) -> anyhow::Result<Option<prost_types::Value>> {
    let value = given
        .map(serde_json::from_str::<serde_json::Value>)
        .transpose();
    Ok(value
        .context("--default is not valid JSON")?
        .as_ref()
        .map(json::to_value))
}

fn definition(create: Create) -> anyhow::Result<pb::FieldDefinition> {
    let number = |name: &str| {
        pb::FieldType::from_str_name(&format!("FIELD_TYPE_{}", name.to_uppercase()))
            .map(i32::from)
            .with_context(|| format!("{name} is not a field type"))
    };
    Ok(pb::FieldDefinition {
        name: create.name,
        r#type: number(&create.field_type)?,
        item_type: create
            .item_type
            .as_deref()
            .map(number)
            .transpose()?
            .unwrap_or_default(),
        description: create.description,
        default_value: default_value(create.default.as_deref())?,
        required: create.required,
        unique: create.unique,
        indexed: create.indexed,
        user_writable: create.user_writable,
        ..Default::default()
    })
}
