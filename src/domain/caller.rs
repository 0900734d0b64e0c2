//! Who is calling, and what they may do.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    error::{FieldError, Result},
    model::{
        scope::Scope,
        token::{OPERATOR, Subject, TokenHash},
    },
};

/// What a good token is worth.
#[derive(Clone, Debug)]
pub struct Grant {
    pub caller: Arc<Caller>,
    /// When the token was made; a signed one that does not say so counts as old as can be.
    pub issued_at: DateTime<Utc>,
    /// From this moment on it counts no more; a leeway is in it.
    pub expires_at: DateTime<Utc>,
}

/// The caller of one call.
#[derive(Clone, Debug)]
pub struct Caller {
    pub subject: Subject,
    pub scopes: Vec<Scope>,
    /// The hash of the token that was shown, where it was one.
    pub token: Option<TokenHash>,
    /// When that token was issued and when it expires.
    pub validity: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Caller {
    /// A caller without a token.
    pub fn new(subject: Subject, scopes: Vec<Scope>) -> Self {
        Self {
            subject,
            scopes,
            token: None,
            validity: None,
        }
    }

    /// An operator at the command line, who may do everything.
    pub fn operator() -> Self {
        Self::new(Subject::Service(OPERATOR.to_owned()), Scope::ALL.to_vec())
    }

    /// The user, where the token is a user's.
    pub fn user(&self) -> Option<i64> {
        match self.subject {
            Subject::Service(_) => None,
            Subject::User(user_id) => Some(user_id),
        }
    }

    /// Whether a service holds the scope; a user's own rights are not by scope.
    pub fn has(&self, scope: Scope) -> bool {
        self.user().is_none() && self.scopes.contains(&scope)
    }

    /// The user that `user_id` of a request means: 0 is the token's own.
    ///
    /// # Errors
    /// The violation of the field.
    pub fn target(&self, user_id: i64) -> Result<i64, (FieldError, &'static str)> {
        match (user_id, self.user()) {
            (0, Some(own)) => Ok(own),
            (0, None) => Err((
                FieldError::Required,
                "is required: a service token has no user of its own",
            )),
            (user_id, _) if user_id < 0 => Err((FieldError::Range, "must not be negative")),
            (user_id, _) => Ok(user_id),
        }
    }
}

/// The name in records of what was done: the service or the user, not the token.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Service(name) => write!(f, "service:{name}"),
            Subject::User(user_id) => write!(f, "user:{user_id}"),
        }
    }
}
