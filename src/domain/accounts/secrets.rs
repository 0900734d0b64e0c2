//! New secrets of a user: the rules that they share with each other and with the user's names, and
//! their hashes.

use crate::{
    domain::{caller::Caller, passwords::Passwords},
    error::{FieldError, Reason, Result, Violations},
    model::password::Secret,
};

/// The new secrets of a user, each with its path in the request.
#[derive(Clone, Copy)]
pub(crate) struct NewSecrets<'a> {
    pub password: Option<(&'static str, &'a Secret)>,
    pub wallet_password: Option<(&'static str, &'a Secret)>,
}

/// Hashes of the new secrets.
#[derive(Clone, Default)]
pub(crate) struct Hashes {
    pub password: Option<String>,
    pub wallet_password: Option<String>,
}

impl NewSecrets<'_> {
    /// Rejects a password that is easy to guess with these names of its user, and a new one that
    /// equals the current one.
    ///
    /// # Errors
    /// PASSWORD_REJECTED, with all violations.
    pub(crate) async fn check(
        &self,
        passwords: &Passwords,
        caller: &Caller,
        username: Option<&str>,
        email: Option<&str>,
    ) -> Result<()> {
        let mut violations = Violations::new();
        if let Some((path, password)) = self.password
            && passwords
                .is_rejected(caller, password, username, email)
                .await?
        {
            violations.add(
                path,
                FieldError::Format,
                "is too common, or contains the username or email",
            );
        }
        if let (Some((_, password)), Some((path, wallet_password))) =
            (self.password, self.wallet_password)
            && password == wallet_password
        {
            violations.add(path, FieldError::Format, "must differ from the password");
        }
        violations.into_result_as(Reason::PasswordRejected)
    }

    /// Hashes them.
    ///
    /// # Errors
    /// OVERLOADED.
    pub(crate) async fn hash(&self, passwords: &Passwords, caller: &Caller) -> Result<Hashes> {
        let mut hashes = Hashes::default();
        if let Some((_, password)) = self.password {
            hashes.password = Some(passwords.hash(caller, password).await?);
        }
        if let Some((_, wallet_password)) = self.wallet_password {
            hashes.wallet_password = Some(passwords.hash(caller, wallet_password).await?);
        }
        Ok(hashes)
    }
}
