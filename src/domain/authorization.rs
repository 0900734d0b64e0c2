//! Who may call what, on whom, and for what: one table, which every check reads.
//!
//! The call guard checks the method itself before it reads the message ([`authorize_method`]).
//! Handlers then call [`authorize`] with what the message asks for, before they look at anything
//! else.

use crate::{
    domain::caller::Caller,
    error::{Error, Reason, Result},
    model::{scope::Scope, token::Subject},
};

/// What a request asks for beyond its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the account, or finds users by it.
    ReadAccount,
    /// Changes openid or unionid.
    ChangePlatformId,
    /// Changes what only a service changes of a profile.
    ChangeServiceField,
    /// Learns that another user has an address.
    LearnOwner,
    /// Sees deliveries that another caller requested.
    SeeOthersDeliveries,
    /// Issues, lists or revokes tokens of users.
    HandleUserTokens,
    /// Issues, lists or revokes tokens of services.
    HandleServiceTokens,
}

/// What a user may do with a method, or with an action of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRule {
    /// Nothing.
    Denied,
    /// On the user's own account and profile alone.
    Own,
}

/// The rule of an action.
#[derive(Clone, Copy, Debug)]
pub struct ActionRule {
    /// What is asked for.
    pub action: Action,
    /// The scope that a service needs besides one of the method's; `None` if the method's is
    /// enough.
    pub scope: Option<Scope>,
    /// What a user may do.
    pub user: UserRule,
}

/// The rule of a method.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The name of the method, which is unique among the services.
    pub method: &'static str,
    /// A service needs one of these.
    pub scopes: &'static [Scope],
    /// What a user may do.
    pub user: UserRule,
    /// The rules of what its requests may ask for.
    pub actions: &'static [ActionRule],
}

const READ_ACCOUNT: ActionRule = own(Action::ReadAccount, Some(Scope::AccountsRead));
const TOKENS: &[ActionRule] = &[
    service(Action::HandleUserTokens, Some(Scope::SessionsWrite)),
    service(Action::HandleServiceTokens, Some(Scope::TokensWrite)),
];
const LEARN_OWNER: &[ActionRule] = &[service(Action::LearnOwner, Some(Scope::AccountsWrite))];

/// Every method of the contract. A method without a rule is rejected.
pub const TABLE: &[Rule] = &[
    of_both("GetProfile", &[Scope::ProfilesRead], &[READ_ACCOUNT]),
    of_services("BatchGetProfiles", &[Scope::ProfilesRead], &[READ_ACCOUNT]),
    of_services("ListProfiles", &[Scope::ProfilesRead], &[READ_ACCOUNT]),
    of_both(
        "UpdateProfile",
        &[Scope::ProfilesWrite],
        &[
            own(Action::ChangePlatformId, Some(Scope::AccountsWrite)),
            service(Action::ChangeServiceField, None),
        ],
    ),
    of_services("BulkUpdateFields", &[Scope::ProfilesWrite], &[READ_ACCOUNT]),
    of_both("UpdateAccount", &[Scope::AccountsWrite], &[]),
    of_both("ConfirmEmailChange", &[Scope::AccountsWrite], &[]),
    of_both("ConfirmPhoneChange", &[Scope::AccountsWrite], &[]),
    of_both("SendEmailCode", &[Scope::CodesSend], LEARN_OWNER),
    of_both("SendPhoneCode", &[Scope::CodesSend], LEARN_OWNER),
    of_services("CreateUser", &[Scope::UsersCreate], &[]),
    of_services("ImportUsers", &[Scope::UsersCreate], &[]),
    of_services("DeleteUser", &[Scope::UsersDelete], &[]),
    of_services("LinkConnection", &[Scope::AccountsWrite], &[]),
    of_services("VerifyPassword", &[Scope::PasswordsVerify], &[]),
    of_services("CreateField", &[Scope::FieldsWrite], &[]),
    of_services("UpdateField", &[Scope::FieldsWrite], &[]),
    of_services("DeleteField", &[Scope::FieldsWrite], &[]),
    of_services("ListFields", &[Scope::ProfilesRead], &[]),
    of_services(
        "GetDelivery",
        &[Scope::CodesSend],
        &[service(
            Action::SeeOthersDeliveries,
            Some(Scope::AccountsWrite),
        )],
    ),
    of_services(
        "IssueToken",
        &[Scope::SessionsWrite, Scope::TokensWrite],
        TOKENS,
    ),
    of_services(
        "ListTokens",
        &[Scope::SessionsWrite, Scope::TokensWrite],
        TOKENS,
    ),
    of_services(
        "RevokeToken",
        &[Scope::SessionsWrite, Scope::TokensWrite],
        TOKENS,
    ),
    of_services(
        "RevokeTokens",
        &[Scope::SessionsWrite, Scope::TokensWrite],
        TOKENS,
    ),
];

/// The built-in fields of a profile that a user may change. All others need
/// [`Action::ChangeServiceField`].
pub const USER_WRITABLE: &[&str] = &[
    "nickname",
    "avatar_url",
    "gender",
    "country",
    "province",
    "city",
    "language",
];

const fn own(action: Action, scope: Option<Scope>) -> ActionRule {
    ActionRule {
        action,
        scope,
        user: UserRule::Own,
    }
}

const fn service(action: Action, scope: Option<Scope>) -> ActionRule {
    ActionRule {
        action,
        scope,
        user: UserRule::Denied,
    }
}

const fn of_both(
    method: &'static str,
    scopes: &'static [Scope],
    actions: &'static [ActionRule],
) -> Rule {
    Rule {
        method,
        scopes,
        user: UserRule::Own,
        actions,
    }
}

const fn of_services(
    method: &'static str,
    scopes: &'static [Scope],
    actions: &'static [ActionRule],
) -> Rule {
    Rule {
        method,
        scopes,
        user: UserRule::Denied,
        actions,
    }
}

impl Action {
    /// The action on tokens of this subject.
    pub fn on_tokens_of(subject: &Subject) -> Self {
        match subject {
            Subject::Service(_) => Action::HandleServiceTokens,
            Subject::User(_) => Action::HandleUserTokens,
        }
    }
}

/// Checks whether a caller may call a method at all.
///
/// # Errors
/// METHOD_UNKNOWN; SCOPE_MISSING, with the first scope that permits it.
pub fn authorize_method(caller: &Caller, method: &str) -> Result<()> {
    let rule = find(method)?;
    let is_permitted = match caller.user() {
        Some(_) => rule.user == UserRule::Own,
        None => rule.scopes.iter().any(|scope| caller.has(*scope)),
    };
    if is_permitted {
        Ok(())
    } else {
        Err(missing(rule, None))
    }
}

/// Checks whether a caller that may call a method may do so on this user (0 and `None`: the
/// caller's own, or none) and for these actions.
///
/// # Errors
/// NOT_OWNER, then SCOPE_MISSING.
pub fn authorize(
    caller: &Caller,
    method: &str,
    user_id: Option<i64>,
    actions: &[Action],
) -> Result<()> {
    let rule = find(method)?;
    match (caller.user(), user_id) {
        (Some(own), Some(user_id)) if user_id != 0 && user_id != own => {
            return Err(Error::new(Reason::NotOwner));
        }
        _ => {}
    }
    match actions
        .iter()
        .find(|action| !permits(caller, rule, **action))
    {
        Some(denied) => Err(missing(rule, action_rule(rule, *denied))),
        None => Ok(()),
    }
}

/// Whether a caller that may call a method may ask for this action.
pub fn is_permitted(caller: &Caller, method: &str, action: Action) -> bool {
    find(method).is_ok_and(|rule| permits(caller, rule, action))
}

fn permits(caller: &Caller, rule: &Rule, action: Action) -> bool {
    let Some(action) = action_rule(rule, action) else {
        return false;
    };
    match caller.user() {
        Some(_) => action.user == UserRule::Own,
        None => action.scope.is_none_or(|scope| caller.has(scope)),
    }
}

fn find(method: &str) -> Result<&'static Rule> {
    TABLE
        .iter()
        .find(|rule| rule.method == method)
        .ok_or_else(|| Error::new(Reason::MethodUnknown))
}

fn action_rule(rule: &Rule, action: Action) -> Option<&'static ActionRule> {
    rule.actions.iter().find(|known| known.action == action)
}

/// The error that names the scope which would permit it.
fn missing(rule: &Rule, action: Option<&ActionRule>) -> Error {
    let scope = action
        .and_then(|action| action.scope)
        .or_else(|| rule.scopes.first().copied());
    Error::scope_missing(scope.map_or("", Scope::as_str))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write};

    use super::*;
    use crate::convert::{POOL, SERVICES};

    fn methods() -> impl Iterator<Item = String> {
        let methods = |name: &&str| {
            POOL.get_service_by_name(name)
                .unwrap()
                .methods()
                .collect::<Vec<_>>()
        };
        SERVICES
            .iter()
            .flat_map(methods)
            .map(|method| method.name().to_owned())
    }

    #[test]
    fn p51_every_method_of_the_contract_has_one_rule() {
        let ruled: Vec<&str> = TABLE.iter().map(|rule| rule.method).collect();
        let unique: BTreeSet<String> = methods().collect();
        assert_eq!(
            unique.len(),
            methods().count(),
            "a method's name is unique among the services"
        );
        assert_eq!(ruled.len(), unique.len());
        assert_eq!(
            ruled
                .into_iter()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>(),
            unique
        );
    }

    #[test]
    fn p51_the_readme_names_every_scope_with_its_methods() {
        let readme = include_str!("../../README.md");
        let row = |scope: Scope| {
            let name = format!("`{}`", scope.as_str());
            readme
                .lines()
                .find(|line| line.starts_with("| `") && line.contains(&name))
                .expect(&name)
        };
        Scope::ALL
            .iter()
            .for_each(|scope| assert!(row(*scope).len() > 20));
        for rule in TABLE {
            for scope in rule.scopes {
                assert!(
                    row(*scope).contains(&format!("`{}`", rule.method)),
                    "{} by {scope:?}",
                    rule.method
                );
            }
        }
    }

    fn described(action: Action) -> &'static str {
        match action {
            Action::ReadAccount => "`account`, or a user found by an account field",
            Action::ChangePlatformId => "openid and unionid",
            Action::ChangeServiceField => "all other fields and groups",
            Action::LearnOwner => "EMAIL_TAKEN and PHONE_TAKEN",
            Action::SeeOthersDeliveries => "deliveries that others requested",
            Action::HandleUserTokens => "tokens of users",
            Action::HandleServiceTokens => "tokens of services",
        }
    }

    /// The table of docs/promises.md.
    fn markdown() -> String {
        let mut text = String::from("| RPC | service token | user token |\n|---|---|---|\n");
        for rule in TABLE {
            let scopes: Vec<String> = rule
                .scopes
                .iter()
                .map(|scope| format!("`{}`", scope.as_str()))
                .collect();
            let mut service = scopes.join(" or ");
            let mut denied = Vec::new();
            for ActionRule {
                action,
                scope,
                user,
            } in rule.actions
            {
                if let Some(scope) = scope {
                    write!(
                        service,
                        "; for {}, `{}`",
                        described(*action),
                        scope.as_str()
                    )
                    .unwrap();
                }
                if rule.user == UserRule::Own && *user == UserRule::Denied {
                    denied.push(described(*action));
                }
            }
            let mut user = if rule.user == UserRule::Own {
                "own user".to_owned()
            } else {
                "no".to_owned()
            };
            if rule.method == "UpdateProfile" {
                write!(
                    user,
                    ": {}, and custom fields that are `user_writable`",
                    USER_WRITABLE.join(", ")
                )
                .unwrap();
                denied.clear();
            }
            if !denied.is_empty() {
                write!(user, ", without {}", denied.join(", ")).unwrap();
            }
            writeln!(text, "| {} | {service} | {user} |", rule.method).unwrap();
        }
        text
    }

    #[test]
    fn p51_the_documents_have_this_table() {
        let promises = include_str!("../../docs/promises.md");
        assert!(
            promises.contains(&markdown()),
            "docs/promises.md needs this table:\n\n{}",
            markdown()
        );
    }

    #[test]
    fn p51_a_user_acts_on_itself_and_a_service_by_its_scopes() {
        let user = Caller::new(Subject::User(7), Vec::new());
        let service =
            |scopes: &[Scope]| Caller::new(Subject::Service("orders".to_owned()), scopes.to_vec());
        let reason = |done: Result<()>| done.map_err(|error| error.reason());

        assert_eq!(
            reason(authorize_method(&user, "ListProfiles")),
            Err(Reason::ScopeMissing)
        );
        assert_eq!(reason(authorize_method(&user, "GetProfile")), Ok(()));
        assert_eq!(
            reason(authorize_method(&user, "NoSuch")),
            Err(Reason::MethodUnknown)
        );
        assert_eq!(
            reason(authorize(
                &user,
                "GetProfile",
                Some(7),
                &[Action::ReadAccount]
            )),
            Ok(())
        );
        assert_eq!(reason(authorize(&user, "GetProfile", Some(0), &[])), Ok(()));
        assert_eq!(
            reason(authorize(&user, "GetProfile", Some(8), &[])),
            Err(Reason::NotOwner)
        );
        assert_eq!(
            reason(authorize(
                &user,
                "UpdateProfile",
                Some(7),
                &[Action::ChangePlatformId]
            )),
            Ok(())
        );
        let changed =
            authorize(&user, "UpdateProfile", None, &[Action::ChangeServiceField]).unwrap_err();
        assert_eq!(changed.metadata()["requiredScope"], "profiles.write");
        let reader = service(&[Scope::ProfilesRead]);
        assert_eq!(
            reason(authorize(&reader, "GetProfile", Some(8), &[])),
            Ok(())
        );
        let denied = authorize(&reader, "GetProfile", Some(8), &[Action::ReadAccount]).unwrap_err();
        assert_eq!(denied.metadata()["requiredScope"], "accounts.read");
        let issuer = service(&[Scope::SessionsWrite]);
        assert_eq!(reason(authorize_method(&issuer, "IssueToken")), Ok(()));
        assert_eq!(
            reason(authorize(
                &issuer,
                "IssueToken",
                None,
                &[Action::HandleUserTokens]
            )),
            Ok(())
        );
        assert!(!is_permitted(
            &issuer,
            "IssueToken",
            Action::HandleServiceTokens
        ));
    }
}
