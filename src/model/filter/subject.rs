//! What a filter may ask about: built-in fields, fields of the account, custom fields and what is
//! inside objects.

use std::sync::Arc;

use crate::model::field::{Field, FieldType, ItemType};

/// Where the tested value is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A column of the profile or the account.
    Column(Column),
    /// A custom field.
    Custom(Arc<Field>),
    /// A place inside a custom object, by keys; nothing is declared of it.
    Inside(Arc<Field>, Vec<String>),
}

/// A built-in field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    UserId,
    Nickname,
    AvatarUrl,
    Gender,
    Country,
    Province,
    City,
    Language,
    Openid,
    Unionid,
    IsAuthorized,
    GroupIds,
    CreatedAt,
    UpdatedAt,
    Username,
    Email,
    Phone,
    EmailVerified,
    PhoneVerified,
    LastLoginAt,
}

impl Column {
    /// The names that a filter knows.
    pub const NAMES: &[(&str, Column)] = &[
        ("user_id", Column::UserId),
        ("id", Column::UserId),
        ("created_by", Column::UserId),
        ("nickname", Column::Nickname),
        ("avatar_url", Column::AvatarUrl),
        ("gender", Column::Gender),
        ("country", Column::Country),
        ("province", Column::Province),
        ("city", Column::City),
        ("language", Column::Language),
        ("openid", Column::Openid),
        ("unionid", Column::Unionid),
        ("is_authorized", Column::IsAuthorized),
        ("group_ids", Column::GroupIds),
        ("_group", Column::GroupIds),
        ("created_at", Column::CreatedAt),
        ("updated_at", Column::UpdatedAt),
        ("username", Column::Username),
        ("email", Column::Email),
        ("phone", Column::Phone),
        ("email_verified", Column::EmailVerified),
        ("phone_verified", Column::PhoneVerified),
        ("last_login_at", Column::LastLoginAt),
    ];

    /// The field of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, column)| *column)
    }

    /// The type by which operators and operands are checked.
    pub fn field_type(self) -> FieldType {
        match self {
            Column::UserId | Column::Gender => FieldType::Integer,
            Column::IsAuthorized | Column::EmailVerified | Column::PhoneVerified => {
                FieldType::Boolean
            }
            Column::GroupIds => FieldType::Array(ItemType::Integer),
            Column::CreatedAt | Column::UpdatedAt | Column::LastLoginAt => FieldType::Date,
            Column::Nickname
            | Column::AvatarUrl
            | Column::Country
            | Column::Province
            | Column::City
            | Column::Language
            | Column::Openid
            | Column::Unionid
            | Column::Username
            | Column::Email
            | Column::Phone => FieldType::String,
        }
    }

    /// The kind under which `unique_values` holds the column, by which one user is found among all.
    pub fn unique_kind(self) -> Option<&'static str> {
        match self {
            Column::Username => Some("username"),
            Column::Email => Some("email"),
            Column::Phone => Some("phone"),
            Column::Openid => Some("openid"),
            Column::Unionid => Some("unionid"),
            _ => None,
        }
    }

    /// Whether it belongs to the account, which asks for more rights.
    pub fn is_of_account(self) -> bool {
        match self {
            Column::Username
            | Column::Email
            | Column::Phone
            | Column::EmailVerified
            | Column::PhoneVerified
            | Column::LastLoginAt => true,
            Column::UserId
            | Column::Nickname
            | Column::AvatarUrl
            | Column::Gender
            | Column::Country
            | Column::Province
            | Column::City
            | Column::Language
            | Column::Openid
            | Column::Unionid
            | Column::IsAuthorized
            | Column::GroupIds
            | Column::CreatedAt
            | Column::UpdatedAt => false,
        }
    }
}

impl Subject {
    /// The declared type; `None` inside an object, where every operator is allowed.
    pub fn field_type(&self) -> Option<FieldType> {
        match self {
            Subject::Column(column) => Some(column.field_type()),
            Subject::Custom(field) => Some(field.field_type),
            Subject::Inside(..) => None,
        }
    }
}
