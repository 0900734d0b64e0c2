//! `user-service field …`.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::output::Output;
use crate::{
    api::Api,
    domain::caller::Caller,
    wire::{json, pb},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a field.
    Create(Box<Create>),
    /// Shows all fields.
    List,
}

#[derive(Debug, Args)]
pub struct Create {
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
    /// New profiles need a value.
    #[arg(long)]
    required: bool,
    /// Only one user may hold a value.
    #[arg(long)]
    unique: bool,
    /// Searches and orders by it are fast.
    #[arg(long)]
    indexed: bool,
    /// Users may change it on their own profile.
    #[arg(long)]
    user_writable: bool,
}

pub async fn run(command: Command, api: &Api, output: &Output) -> anyhow::Result<()> {
    let caller = Caller::operator();
    match command {
        Command::Create(create) => {
            let request = pb::CreateFieldRequest { field: Some(definition(*create)?), request_id: String::new() };
            output.message(&api.create_field(&caller, request).await?.field.unwrap_or_default())?;
        }
        Command::List => output.message(&api.list_fields(&caller, pb::ListFieldsRequest::default()).await?)?,
    }
    Ok(())
}

fn definition(create: Create) -> anyhow::Result<pb::FieldDefinition> {
    let number = |name: &str| {
        pb::FieldType::from_str_name(&format!("FIELD_TYPE_{}", name.to_uppercase()))
            .map(i32::from)
            .with_context(|| format!("{name} is no type of fields"))
    };
    let default_value = create.default.as_deref().map(serde_json::from_str::<serde_json::Value>).transpose();
    Ok(pb::FieldDefinition {
        name: create.name,
        r#type: number(&create.field_type)?,
        item_type: create.item_type.as_deref().map(number).transpose()?.unwrap_or_default(),
        description: create.description,
        default_value: default_value.context("--default is no JSON")?.as_ref().map(json::to_value),
        required: create.required,
        unique: create.unique,
        indexed: create.indexed,
        user_writable: create.user_writable,
        ..Default::default()
    })
}
