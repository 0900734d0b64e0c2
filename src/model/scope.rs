//! The rights of a service's token. `domain::authorization` has what each of them permits.

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
        Self::ALL
            .iter()
            .copied()
            .find(|scope| scope.as_str() == name)
    }
}
