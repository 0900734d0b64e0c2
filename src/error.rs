//! What can go wrong, as facts of this service; the transports turn a fact into their transport's
//! status.
//!
//! A fact has one [`Reason`], and a reason always has the same [`Kind`]. Whatever else a caller may
//! need to know (which field, how long to wait) is stored beside it. Nothing here knows of a
//! transport.

use std::{collections::BTreeMap, error::Error as StdError, fmt, sync::Arc, time::Duration};

/// A `Result` of this service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a fact; each transport gives every kind one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    ResourceExhausted,
    Unimplemented,
    DeadlineExceeded,
    Unavailable,
    Internal,
}

impl Kind {
    /// The number that google.rpc.Code gives it.
    pub fn code(self) -> i32 {
        match self {
            Kind::InvalidArgument => 3,
            Kind::DeadlineExceeded => 4,
            Kind::NotFound => 5,
            Kind::AlreadyExists => 6,
            Kind::PermissionDenied => 7,
            Kind::ResourceExhausted => 8,
            Kind::FailedPrecondition => 9,
            Kind::Aborted => 10,
            Kind::OutOfRange => 11,
            Kind::Unimplemented => 12,
            Kind::Internal => 13,
            Kind::Unavailable => 14,
            Kind::Unauthenticated => 16,
        }
    }

    /// The name that google.rpc.Code gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::InvalidArgument => "INVALID_ARGUMENT",
            Kind::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Kind::NotFound => "NOT_FOUND",
            Kind::AlreadyExists => "ALREADY_EXISTS",
            Kind::PermissionDenied => "PERMISSION_DENIED",
            Kind::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Kind::FailedPrecondition => "FAILED_PRECONDITION",
            Kind::Aborted => "ABORTED",
            Kind::OutOfRange => "OUT_OF_RANGE",
            Kind::Unimplemented => "UNIMPLEMENTED",
            Kind::Internal => "INTERNAL",
            Kind::Unavailable => "UNAVAILABLE",
            Kind::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

macro_rules! reasons {
    ($($name:ident $text:literal $kind:ident $message:literal;)*) => {
        /// What happened, by the names that `error_reason.proto` promises never to rename.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $message] $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The name on the wire, for example `ETAG_MISMATCH`.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The kind, which never changes for a reason.
            pub fn kind(self) -> Kind {
                match self { $(Reason::$name => Kind::$kind,)* }
            }

            /// The sentence that people read.
            pub fn message(self) -> &'static str {
                match self { $(Reason::$name => $message,)* }
            }
        }
    };
}

reasons! {
    TokenMissing "TOKEN_MISSING" Unauthenticated "The request has no token.";
    TokenMalformed "TOKEN_MALFORMED" Unauthenticated "The authorization metadata must contain exactly one bearer token.";
    TokenExpired "TOKEN_EXPIRED" Unauthenticated "The token has expired.";
    TokenInvalid "TOKEN_INVALID" Unauthenticated "The token is invalid.";
    TokenRevoked "TOKEN_REVOKED" Unauthenticated "The token was revoked.";
    AuthBackendUnavailable "AUTH_BACKEND_UNAVAILABLE" Unavailable "The token can't be verified right now. Retry later.";
    ScopeMissing "SCOPE_MISSING" PermissionDenied "The token doesn't have the scope that this method requires.";
    NotOwner "NOT_OWNER" PermissionDenied "A user token can access only its own user.";
    InvalidRequest "INVALID_REQUEST" InvalidArgument "The request is invalid.";
    FilterInvalid "FILTER_INVALID" InvalidArgument "The filter is invalid.";
    FilterTooComplex "FILTER_TOO_COMPLEX" InvalidArgument "The filter is too large or too deeply nested.";
    FilterRequired "FILTER_REQUIRED" InvalidArgument "An update with an empty filter requires allow_all.";
    OrderByUnsupported "ORDER_BY_UNSUPPORTED" InvalidArgument "The sort order isn't supported.";
    PageTokenInvalid "PAGE_TOKEN_INVALID" InvalidArgument "The page token is invalid.";
    PageTokenMismatch "PAGE_TOKEN_MISMATCH" InvalidArgument "The page token belongs to a different query.";
    PageTokenExpired "PAGE_TOKEN_EXPIRED" InvalidArgument "The page token has expired.";
    RequestIdReused "REQUEST_ID_REUSED" InvalidArgument "The request_id was already used with a different request body.";
    RequestInProgress "REQUEST_IN_PROGRESS" Aborted "A request with this request_id is still in progress.";
    MessageTooLarge "MESSAGE_TOO_LARGE" ResourceExhausted "The message is too large.";
    MethodUnknown "METHOD_UNKNOWN" Unimplemented "Unknown method.";
    RouteNotFound "ROUTE_NOT_FOUND" NotFound "No route matches this path.";
    MethodNotAllowed "METHOD_NOT_ALLOWED" Unimplemented "This path doesn't support this HTTP method.";
    UserNotFound "USER_NOT_FOUND" NotFound "User not found.";
    ConnectionNotFound "CONNECTION_NOT_FOUND" NotFound "Connection not found.";
    FieldNotFound "FIELD_NOT_FOUND" NotFound "Field not found.";
    TokenNotFound "TOKEN_NOT_FOUND" NotFound "Token not found.";
    DeliveryNotFound "DELIVERY_NOT_FOUND" NotFound "Delivery not found.";
    UserIdTaken "USER_ID_TAKEN" AlreadyExists "The user ID is, or was, in use.";
    UsernameTaken "USERNAME_TAKEN" AlreadyExists "The username is taken.";
    EmailTaken "EMAIL_TAKEN" AlreadyExists "The email is taken.";
    PhoneTaken "PHONE_TAKEN" AlreadyExists "The phone is taken.";
    ValueTaken "VALUE_TAKEN" AlreadyExists "The value is taken.";
    ConnectionTaken "CONNECTION_TAKEN" AlreadyExists "The connection is linked to another user.";
    FieldExists "FIELD_EXISTS" AlreadyExists "A field with this name exists, or its old values are still being erased.";
    EtagMismatch "ETAG_MISMATCH" Aborted "The etag doesn't match the current version. Read the resource again and retry.";
    WriteConflict "WRITE_CONFLICT" Aborted "The write conflicted with other writes. Retry.";
    TotalMismatch "TOTAL_MISMATCH" FailedPrecondition "The number of matching profiles differs from expected_total.";
    OpTypeMismatch "OP_TYPE_MISMATCH" InvalidArgument "The operator doesn't apply to this type of value.";
    OpOverflow "OP_OVERFLOW" OutOfRange "The result is out of range.";
    DocumentTooLarge "DOCUMENT_TOO_LARGE" InvalidArgument "The update would make custom_fields too large.";
    LastCredential "LAST_CREDENTIAL" FailedPrecondition "The last login method can't be removed.";
    PasswordMismatch "PASSWORD_MISMATCH" InvalidArgument "The password is wrong.";
    PasswordAttemptsExceeded "PASSWORD_ATTEMPTS_EXCEEDED" ResourceExhausted "Too many wrong password attempts.";
    PasswordRejected "PASSWORD_REJECTED" InvalidArgument "The password is too easy to guess.";
    ProofRequired "PROOF_REQUIRED" InvalidArgument "This change requires a verification code or the current password.";
    CodeInvalid "CODE_INVALID" InvalidArgument "The code is wrong.";
    CodeExpired "CODE_EXPIRED" FailedPrecondition "The code has expired.";
    CodeUsed "CODE_USED" FailedPrecondition "The code has already been used.";
    CodeSuperseded "CODE_SUPERSEDED" FailedPrecondition "The code was replaced by a newer one.";
    CodeNotRequested "CODE_NOT_REQUESTED" FailedPrecondition "No code was requested for this operation.";
    CodeAttemptsExhausted "CODE_ATTEMPTS_EXHAUSTED" FailedPrecondition "Too many attempts for this code. Request a new one.";
    CodeBudgetExceeded "CODE_BUDGET_EXCEEDED" ResourceExhausted "The daily limit of wrong codes is reached.";
    CodeSendCooldown "CODE_SEND_COOLDOWN" ResourceExhausted "A code was sent recently. Wait before you request another.";
    CodeSendQuota "CODE_SEND_QUOTA" ResourceExhausted "The limit of sent codes is reached.";
    CurrentCodeRequired "CURRENT_CODE_REQUIRED" FailedPrecondition "The code sent to the current address is also required.";
    AddressUnchanged "ADDRESS_UNCHANGED" FailedPrecondition "The address is already bound to this account.";
    AddressNotBound "ADDRESS_NOT_BOUND" FailedPrecondition "The account has no address to send a code to: none is bound, or it isn't verified.";
    AddressNotConfirmed "ADDRESS_NOT_CONFIRMED" FailedPrecondition "The address isn't confirmed. Use the current password or a code sent to a confirmed address.";
    DeadlineExceeded "DEADLINE_EXCEEDED" DeadlineExceeded "The deadline has passed.";
    QueryTooSlow "QUERY_TOO_SLOW" DeadlineExceeded "The query took too long.";
    Overloaded "OVERLOADED" Unavailable "The service is overloaded. Retry later.";
    ShuttingDown "SHUTTING_DOWN" Unavailable "The service is shutting down. Retry.";
    DatabaseUnavailable "DATABASE_UNAVAILABLE" Unavailable "The database is unavailable. Retry later.";
    FieldLimitReached "FIELD_LIMIT_REACHED" ResourceExhausted "The limit of field definitions is reached.";
    RateLimited "RATE_LIMITED" ResourceExhausted "The caller makes too many calls. Retry later.";
    Internal "INTERNAL" Internal "Internal error.";
}

impl Reason {
    /// How long a caller should wait where the fact itself does not tell.
    fn default_retry(self) -> Option<Duration> {
        match self.kind() {
            Kind::Unavailable => Some(Duration::from_secs(1)),
            Kind::Aborted if self != Reason::EtagMismatch => Some(Duration::from_millis(100)),
            _ => None,
        }
    }
}

/// Why one field of a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    Required,
    Length,
    Format,
    Range,
    Type,
    Unknown,
    Immutable,
}

impl FieldError {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldError::Required => "FIELD_REQUIRED",
            FieldError::Length => "FIELD_LENGTH",
            FieldError::Format => "FIELD_FORMAT",
            FieldError::Range => "FIELD_RANGE",
            FieldError::Type => "FIELD_TYPE",
            FieldError::Unknown => "UNKNOWN_FIELD",
            FieldError::Immutable => "IMMUTABLE_FIELD",
        }
    }
}

/// One field of a request that is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path in the request, for example `profile.nickname`.
    pub field: String,
    pub error: FieldError,
    pub description: String,
}

/// Collects the violations of a request, so that all of them are reported at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a violation of a field.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        error: FieldError,
        description: impl Into<String>,
    ) {
        self.0.push(Violation {
            field: field.into(),
            error,
            description: description.into(),
        });
    }

    /// Returns the value, or adds the violation.
    pub fn check<T>(&mut self, field: &str, parsed: Result<T, (FieldError, &str)>) -> Option<T> {
        parsed
            .map_err(|(error, description)| self.add(field, error, description))
            .ok()
    }

    /// Moves the violations of another one here.
    pub fn extend(&mut self, others: Vec<Violation>) {
        self.0.extend(others);
    }

    /// Takes over the violations of a part of the request, whose paths are relative to `path`.
    pub fn extend_at(&mut self, path: &str, others: Violations) {
        let placed = |violation: Violation| Violation {
            field: format!("{path}.{}", violation.field),
            ..violation
        };
        self.0.extend(others.0.into_iter().map(placed));
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails with INVALID_REQUEST where anything was noted.
    pub fn into_result(self) -> Result<()> {
        self.into_result_as(Reason::InvalidRequest)
    }

    /// Fails with `reason` where anything was noted.
    pub fn into_result_as(self, reason: Reason) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::new(reason).with_violations(self.0))
        }
    }
}

/// What a not-found or taken error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `user`, `connection`, `field`, `token` or `delivery`.
    pub kind: &'static str,
    /// For example `users/42`, or a field's path where a value is taken.
    pub name: String,
}

/// The cause of a rejected token whose user was deleted: the reason names the token alone.
#[derive(Debug)]
struct DeletedUser(i64);

impl fmt::Display for DeletedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} was deleted", self.0)
    }
}

impl StdError for DeletedUser {}

/// A fact that ends a call.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    reason: Reason,
    violations: Vec<Violation>,
    metadata: BTreeMap<&'static str, String>,
    resource: Option<Resource>,
    /// Paths that a precondition failed on.
    preconditions: Vec<String>,
    /// The limit that was hit.
    quota: Option<&'static str>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// The bare fact.
    pub fn new(reason: Reason) -> Self {
        Self(Box::new(Inner {
            reason,
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            resource: None,
            preconditions: Vec::new(),
            quota: None,
            retry_after: reason.default_retry(),
            source: None,
        }))
    }

    /// A bug or a broken part of ours; the source goes to the log alone.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let mut error = Self::new(Reason::Internal);
        error.0.source = Some(source.into().into());
        error
    }

    /// INVALID_REQUEST for one field.
    pub fn invalid(
        field: impl Into<String>,
        error: FieldError,
        description: impl Into<String>,
    ) -> Self {
        Self::new(Reason::InvalidRequest).with_violation(field, error, description)
    }

    /// The user is not there.
    pub fn user_not_found(user_id: i64) -> Self {
        Self::new(Reason::UserNotFound).with_resource("user", format!("users/{user_id}"))
    }

    /// The token lacks this scope.
    pub fn scope_missing(scope: &'static str) -> Self {
        Self::new(Reason::ScopeMissing).with_metadata("requiredScope", scope)
    }

    /// A value that someone else holds; `field` is its path in the request.
    pub fn taken(reason: Reason, field: &str) -> Self {
        Self::new(reason)
            .with_resource("user", field)
            .with_violation(field, FieldError::Format, "is already in use")
    }

    /// An address that was bound without the proof of an older factor, and so cannot authorize a
    /// change.
    pub fn address_not_confirmed(path: &str) -> Self {
        Self::new(Reason::AddressNotConfirmed).with_precondition(path)
    }

    /// Adds what is wrong with a field of the request, by its path.
    pub fn with_violation(
        mut self,
        field: impl Into<String>,
        error: FieldError,
        description: impl Into<String>,
    ) -> Self {
        self.0.violations.push(Violation {
            field: field.into(),
            error,
            description: description.into(),
        });
        self
    }

    /// Adds violations of several fields.
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.violations.extend(violations);
        self
    }

    /// Adds a variable fact; keys are lowerCamel.
    pub fn with_metadata(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.metadata.insert(key, value.to_string());
        self
    }

    /// Says what it is about.
    pub fn with_resource(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.0.resource = Some(Resource {
            kind,
            name: name.into(),
        });
        self
    }

    /// Adds the path of what is not in the state that the call needs.
    pub fn with_precondition(mut self, path: impl Into<String>) -> Self {
        self.0.preconditions.push(path.into());
        self
    }

    /// Says which limit was hit, and how long until it gives way.
    pub fn with_quota(mut self, limit: &'static str, retry_after: Duration) -> Self {
        self.0.quota = Some(limit);
        self.with_retry(retry_after)
    }

    /// Says which limit was hit, where time alone does not help.
    pub fn with_limit(mut self, limit: &'static str) -> Self {
        self.0.quota = Some(limit);
        self
    }

    /// Says after how long it may go well.
    pub fn with_retry(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Keeps the cause, for the log alone.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into().into());
        self
    }

    /// Marks the error of a token whose user was deleted; some legacy APIs report that.
    pub fn with_deleted_user(self, user_id: i64) -> Self {
        self.with_source(DeletedUser(user_id))
    }

    /// The deleted user whose token was rejected.
    pub fn deleted_user(&self) -> Option<i64> {
        self.0
            .source
            .as_deref()?
            .downcast_ref::<DeletedUser>()
            .map(|deleted| deleted.0)
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The kind of the reason, by which each transport chooses its status.
    pub fn kind(&self) -> Kind {
        self.0.reason.kind()
    }

    /// What is wrong with fields of the request.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// The variable facts.
    pub fn metadata(&self) -> &BTreeMap<&'static str, String> {
        &self.0.metadata
    }

    /// What it is about.
    pub fn resource(&self) -> Option<&Resource> {
        self.0.resource.as_ref()
    }

    /// Paths of what is not in the state that the call needs.
    pub fn preconditions(&self) -> &[String] {
        &self.0.preconditions
    }

    /// The name of the limit that was hit.
    pub fn quota(&self) -> Option<&'static str> {
        self.0.quota
    }

    /// After how long it may go well.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("reason", &self.0.reason)
            .field("violations", &self.0.violations)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.reason.message())?;
        for violation in &self.0.violations {
            match violation.field.as_str() {
                "" => write!(f, " It {}.", violation.description)?,
                field => write!(f, " {field}: {}.", violation.description)?,
            }
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
