//! The numbers of Fresns' errors since v1.4, and their messages.

use axum::http::HeaderMap;

use crate::error::{Error, FieldError, Kind, Reason, Violation};

/// Invalid parameters.
pub(super) const PARAMETER: u32 = 30014;
/// The service cannot answer.
pub(super) const UNANSWERED: u32 = 30000;
const CODE: u32 = 30008;
const EMPTY: u32 = 30015;
const UID_MISSING: u32 = 30107;
const TOKEN_MISSING: u32 = 30109;
const USER_UNKNOWN: u32 = 30111;
const TOKEN_WRONG: u32 = 30113;
const TOKEN_REVOKED: u32 = 30115;
const PASSWORD_SHORT: u32 = 30204;
const EMAIL_TAKEN: u32 = 30220;
const EMAIL_FORM: u32 = 30221;
const EMAIL_BOUND: u32 = 30223;
const PHONE_TAKEN: u32 = 30224;
const PHONE_FORM: u32 = 30225;
const PHONE_BOUND: u32 = 30227;
const COUNTRY_CODE: u32 = 30228;
const PASSWORD_WRONG: u32 = 30242;
const WALLET_MISSING: u32 = 30262;

/// The language of a caller's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Chinese,
}

impl Language {
    /// The language that `langTag` asks for.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let tag = headers
            .get("langTag")
            .and_then(|tag| tag.to_str().ok())
            .unwrap_or_default();
        match tag.get(..2) {
            Some(base) if base.eq_ignore_ascii_case("zh") => Language::Chinese,
            _ => Language::English,
        }
    }
}

/// The number of a fact.
pub(super) fn number(error: &Error) -> u32 {
    match error.reason() {
        Reason::TokenMissing => TOKEN_MISSING,
        Reason::TokenRevoked => TOKEN_REVOKED,
        reason
            if matches!(
                reason.kind(),
                Kind::Unauthenticated | Kind::PermissionDenied
            ) =>
        {
            TOKEN_WRONG
        }
        Reason::UserNotFound => USER_UNKNOWN,
        Reason::CodeInvalid
        | Reason::CodeExpired
        | Reason::CodeUsed
        | Reason::CodeSuperseded
        | Reason::CodeNotRequested
        | Reason::CodeAttemptsExhausted
        | Reason::CodeBudgetExceeded
        | Reason::CodeSendCooldown
        | Reason::CodeSendQuota => CODE,
        Reason::ProofRequired | Reason::CurrentCodeRequired => EMPTY,
        Reason::PasswordMismatch | Reason::PasswordAttemptsExceeded => PASSWORD_WRONG,
        Reason::EmailTaken => EMAIL_TAKEN,
        Reason::PhoneTaken => PHONE_TAKEN,
        Reason::AddressUnchanged
            if error
                .preconditions()
                .iter()
                .any(|path| path.contains("phone")) =>
        {
            PHONE_BOUND
        }
        Reason::AddressUnchanged => EMAIL_BOUND,
        Reason::InvalidRequest => error.violations().first().map_or(PARAMETER, of_violation),
        _ => PARAMETER,
    }
}

fn of_violation(violation: &Violation) -> u32 {
    match (violation.field.as_str(), violation.error) {
        ("uid", FieldError::Required) => UID_MISSING,
        ("uid", _) => USER_UNKNOWN,
        ("wallet", _) => WALLET_MISSING,
        ("new_password" | "new_wallet_password", FieldError::Length) => PASSWORD_SHORT,
        ("editEmail" | "account.email" | "email", _) => EMAIL_FORM,
        ("editPhone" | "account.phone" | "phone", _) => PHONE_FORM,
        ("editCountryCode" | "countryCode", _) => COUNTRY_CODE,
        ("proof.code" | "proof.new_code", FieldError::Format) => CODE,
        _ => PARAMETER,
    }
}

/// The message of a number.
pub(super) fn message(number: u32, language: Language) -> &'static str {
    let (english, chinese) = match number {
        UNANSWERED => ("The service is unavailable", "服务暂时无法响应"),
        CODE => (
            "The verification code is wrong or has expired",
            "验证码错误或已过期",
        ),
        EMPTY => ("A required parameter is empty", "必填参数不能为空"),
        UID_MISSING => ("The uid header is missing", "缺少 uid 参数"),
        TOKEN_MISSING => ("The token header is missing", "缺少 token 参数"),
        USER_UNKNOWN => ("User not found", "用户不存在"),
        TOKEN_WRONG => (
            "The token is wrong or has expired",
            "用户 token 错误或已过期",
        ),
        TOKEN_REVOKED => ("The token has been revoked", "用户 token 已被停用"),
        PASSWORD_SHORT => ("The password is too short", "密码长度不足"),
        EMAIL_TAKEN => ("The email is already registered", "邮箱已被注册"),
        EMAIL_FORM => ("The email address is invalid", "邮箱格式错误"),
        EMAIL_BOUND => ("The email is already bound", "邮箱已绑定"),
        PHONE_TAKEN => ("The phone number is already registered", "手机号已被注册"),
        PHONE_FORM => ("The phone number is invalid", "手机号格式错误"),
        PHONE_BOUND => ("The phone number is already bound", "手机号已绑定"),
        COUNTRY_CODE => ("The country code is invalid", "国际区号错误"),
        PASSWORD_WRONG => ("The password is wrong", "密码错误"),
        WALLET_MISSING => ("The wallet doesn't exist", "钱包不存在"),
        _ => ("A parameter is invalid", "参数错误"),
    };
    match language {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_numbers() {
        let told = |reason| number(&Error::new(reason));
        assert_eq!(told(Reason::TokenExpired), 30113);
        assert_eq!(told(Reason::ScopeMissing), 30113);
        assert_eq!(told(Reason::CodeSendCooldown), 30008);
        assert_eq!(told(Reason::AddressNotConfirmed), 30014);
        assert_eq!(told(Reason::LastCredential), 30014);
        let unchanged =
            |path: &str| number(&Error::new(Reason::AddressUnchanged).with_precondition(path));
        assert_eq!(
            (unchanged("account.phone"), unchanged("account.email")),
            (30227, 30223)
        );
    }

    #[test]
    fn faults_have_the_numbers_of_their_parameters() {
        let told = |field: &str, error| number(&Error::invalid(field, error, ""));
        assert_eq!(told("account.email", FieldError::Format), 30221);
        assert_eq!(told("new_password", FieldError::Length), 30204);
        assert_eq!(told("proof.new_code", FieldError::Format), 30008);
        assert_eq!(told("uid", FieldError::Required), 30107);
        assert_eq!(told("codeType", FieldError::Range), 30014);
    }

    #[test]
    fn messages_come_in_the_callers_language() {
        let of = |tag: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("langTag", tag.parse().unwrap());
            Language::of(&headers)
        };
        assert_eq!(
            (of("zh-Hans"), of("ZH"), of("en"), of("")),
            (
                Language::Chinese,
                Language::Chinese,
                Language::English,
                Language::English
            )
        );
        assert_ne!(
            message(PASSWORD_WRONG, Language::Chinese),
            message(PASSWORD_WRONG, Language::English)
        );
    }
}
