//! What a token may do, and the one table from method to scope.

/// A right of a service's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    ProfilesRead,
    ProfilesWrite,
    AccountsRead,
    AccountsWrite,
    CodesSend,
    UsersCreate,
    UsersDelete,
    FieldsWrite,
    TokensWrite,
    SessionsWrite,
    PasswordsVerify,
}

impl Scope {
    /// Every scope.
    pub const ALL: &[Scope] = &[
        Scope::ProfilesRead,
        Scope::ProfilesWrite,
        Scope::AccountsRead,
        Scope::AccountsWrite,
        Scope::CodesSend,
        Scope::UsersCreate,
        Scope::UsersDelete,
        Scope::FieldsWrite,
        Scope::TokensWrite,
        Scope::SessionsWrite,
        Scope::PasswordsVerify,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::ProfilesRead => "profiles.read",
            Scope::ProfilesWrite => "profiles.write",
            Scope::AccountsRead => "accounts.read",
            Scope::AccountsWrite => "accounts.write",
            Scope::CodesSend => "codes.send",
            Scope::UsersCreate => "users.create",
            Scope::UsersDelete => "users.delete",
            Scope::FieldsWrite => "fields.write",
            Scope::TokensWrite => "tokens.write",
            Scope::SessionsWrite => "sessions.write",
            Scope::PasswordsVerify => "passwords.verify",
        }
    }

    /// The scope of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == name)
    }
}

/// What a method asks of its caller before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A service needs one of these; which one its request asks for is looked at later.
    pub service: &'static [Scope],
    /// Whether a user's token may call it, for its own user.
    pub user: bool,
}

/// The rule of a method, by its full name. A method that has none here is rejected to everyone.
pub fn rule(service: &str, method: &str) -> Option<Rule> {
    let (scopes, user): (&[Scope], bool) = match (service, method) {
        ("userservice.v1.UserService", method) => match method {
            "GetProfile" => (&[Scope::ProfilesRead], true),
            "BatchGetProfiles" | "ListProfiles" => (&[Scope::ProfilesRead], false),
            "UpdateProfile" => (&[Scope::ProfilesWrite], true),
            "BulkUpdateFields" => (&[Scope::ProfilesWrite], false),
            "UpdateAccount" | "ConfirmEmailChange" | "ConfirmPhoneChange" => (&[Scope::AccountsWrite], true),
            "SendEmailCode" | "SendPhoneCode" => (&[Scope::CodesSend], true),
            _ => return None,
        },
        ("userservice.v1.UserAdminService", method) => match method {
            "CreateUser" | "ImportUsers" => (&[Scope::UsersCreate], false),
            "DeleteUser" => (&[Scope::UsersDelete], false),
            "LinkConnection" => (&[Scope::AccountsWrite], false),
            "VerifyPassword" => (&[Scope::PasswordsVerify], false),
            "CreateField" | "UpdateField" | "DeleteField" => (&[Scope::FieldsWrite], false),
            "ListFields" => (&[Scope::ProfilesRead], false),
            "GetDelivery" => (&[Scope::CodesSend], false),
            "IssueToken" | "ListTokens" | "RevokeToken" | "RevokeTokens" => {
                (&[Scope::SessionsWrite, Scope::TokensWrite], false)
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(Rule { service: scopes, user })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::POOL;

    #[test]
    fn the_readme_names_every_scope_with_its_methods() {
        let readme = include_str!("../../README.md");
        let row = |scope: Scope| {
            let name = format!("`{}`", scope.as_str());
            readme.lines().find(|line| line.starts_with("| `") && line.contains(&name)).expect(&name)
        };
        Scope::ALL.iter().for_each(|scope| assert!(row(*scope).len() > 20));
        for service in ["UserService", "UserAdminService"] {
            let full_name = format!("userservice.v1.{service}");
            for method in POOL.get_service_by_name(&full_name).unwrap().methods() {
                for scope in rule(&full_name, method.name()).unwrap().service {
                    assert!(row(*scope).contains(&format!("`{}`", method.name())), "{} by {scope:?}", method.name());
                }
            }
        }
    }
}
