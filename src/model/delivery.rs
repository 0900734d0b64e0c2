//! Mails and text messages: what they say, by what way they go, and what became of them.

use std::fmt;

use chrono::{DateTime, Utc};
use diesel::Queryable;

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Email,
    Phone,
}

impl Channel {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Email => "email",
            Channel::Phone => "phone",
        }
    }

    /// The other one.
    pub fn other(self) -> Channel {
        match self {
            Channel::Email => Channel::Phone,
            Channel::Phone => Channel::Email,
        }
    }

    /// The channel of that name.
    pub fn parse(name: &str) -> Option<Channel> {
        [Channel::Email, Channel::Phone]
            .into_iter()
            .find(|channel| channel.as_str() == name)
    }
}

macro_rules! templates {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// What a message says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Template { $(#[doc = $doc] $variant,)* }

        impl Template {
            /// Every template.
            pub const ALL: &[Template] = &[$(Template::$variant,)*];

            /// The name in the database: the group of texts, a dot, and the subject within it.
            pub fn as_str(self) -> &'static str {
                match self { $(Template::$variant => $name,)* }
            }
        }
    };
}

templates! {
    CodeBind "code.bind" "A code that proves an address.";
    CodeReplace "code.replace" "A code that lets the bound address be replaced.";
    CodePassword "code.password" "A code for a new password.";
    CodeWalletPassword "code.wallet_password" "A code for a new wallet password.";
    CodeUnlink "code.unlink" "A code to unlink a connection.";
    EmailChanged "notice.email_changed" "The email was bound, replaced or removed.";
    PhoneChanged "notice.phone_changed" "The phone was bound, replaced or removed.";
    PasswordChanged "notice.password_changed" "The password was set or changed.";
    WalletPasswordChanged "notice.wallet_password_changed" "The wallet password was set or changed.";
    ConnectionUnlinked "notice.connection_unlinked" "A connection was unlinked.";
    UsernameChanged "notice.username_changed" "The username was set, changed or removed.";
    ConnectionLinked "notice.connection_linked" "A connection was linked.";
    MoreChanges "notice.more_changes" "A summary of changes beyond the limit of notices.";
    AddressInUse "notice.address_in_use" "Someone tried to bind an address that is this owner's.";
}

impl Template {
    /// The template of that name.
    pub fn parse(name: &str) -> Option<Template> {
        Template::ALL
            .iter()
            .copied()
            .find(|template| template.as_str() == name)
    }

    /// The group of texts, `code` or `notice`, and the subject within it.
    pub fn parts(self) -> (&'static str, &'static str) {
        self.as_str()
            .split_once('.')
            .expect("valid: every name has a dot")
    }

    /// Whether it carries a code.
    pub fn has_code(self) -> bool {
        self.parts().0 == "code"
    }
}

macro_rules! states {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// What became of a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum State { $(#[doc = $doc] $variant,)* }

        impl State {
            /// The name in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(State::$variant => $name,)* }
            }
        }

        impl TryFrom<String> for State {
            type Error = UnknownState;

            fn try_from(name: String) -> Result<Self, UnknownState> {
                match name.as_str() { $($name => Ok(State::$variant),)* _ => Err(UnknownState(name)) }
            }
        }
    };
}

states! {
    Queued "queued" "It waits for its first try or its next.";
    Accepted "accepted" "The relay took it.";
    Failed "failed" "It was rejected permanently, or too often.";
    Expired "expired" "Its time passed before it could be sent.";
}

/// A state that this build does not know.
#[derive(Debug)]
pub struct UnknownState(String);

impl fmt::Display for UnknownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown delivery state {:?}", self.0)
    }
}

impl std::error::Error for UnknownState {}

/// What can be told of a message, without its address and its text.
#[derive(Clone, Debug, Queryable)]
pub struct Delivery {
    pub outbox_id: i64,
    pub channel: String,
    pub template: String,
    #[diesel(deserialize_as = String)]
    pub state: State,
    pub attempts: i32,
    /// The class of the last failure.
    pub last_error: Option<String>,
    pub user_id: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}
