//! `POST /api/fresns/user/edit` and `POST /api/fresns/account/edit`.

use axum::response::Response;
use chrono::{FixedOffset, NaiveDateTime, Utc};
use prost_types::FieldMask;

use super::{body::Body, check_user, done};
use crate::{
    convert::{
        pb::{self, CodeChannel},
        timestamp,
    },
    error::{Error, FieldError, Reason, Result},
    model::{account::parse_email, password, text},
    rest::{call::Call, error::RestError},
};

/// What `deleteConnectId` counts, from 1.
const PROVIDERS: [&str; 17] = [
    "other",
    "github",
    "google",
    "facebook",
    "twitter",
    "apple",
    "gitee",
    "wechat_union",
    "wechat_mp",
    "wechat_mini_program",
    "wechat_app",
    "wechat_web",
    "qq",
    "weibo",
    "alipay",
    "bytedance",
    "baidu",
];
/// The caller's zone where no header tells it, in hours.
const DEFAULT_ZONE: &str = "+8";

/// Changes how a user logs in.
pub(super) async fn edit(call: Call) -> Result<Response, RestError> {
    check_user(&call)?;
    let edit = Edit::read(&call)?;
    let account = own_account(&call).await?;
    let links = edit.links(&account)?;
    edit.check(&account)?;
    let (first, more) = links
        .split_first()
        .map_or((None, [].as_slice()), |(first, more)| (Some(*first), more));
    if let Some(request) = edit.request(first) {
        call.api()
            .update_account_and_unlink(&call.caller, request, more)
            .await?;
    }
    Ok(done())
}

async fn own_account(call: &Call) -> Result<pb::Account> {
    let mask = FieldMask {
        paths: vec!["account".to_owned()],
    };
    let request = pb::GetProfileRequest {
        read_mask: Some(mask),
        key: None,
    };
    let reply = call.api().get_profile(&call.caller, request).await?;
    Ok(reply
        .profile
        .and_then(|profile| profile.account)
        .unwrap_or_default())
}

/// The twelve parameters.
#[derive(Debug, Default)]
struct Edit {
    channel: Option<CodeChannel>,
    code: Option<String>,
    new_code: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    current_password: Option<String>,
    new_password: Option<String>,
    current_wallet_password: Option<String>,
    new_wallet_password: Option<String>,
    provider: Option<&'static str>,
    last_login_at: Option<prost_types::Timestamp>,
}

impl Edit {
    fn read(call: &Call) -> Result<Self> {
        let zone = call
            .headers
            .get("timezone")
            .map(|zone| zone.to_str().unwrap_or("?"));
        Self::of(&Body::read(&call.body)?, zone)
    }

    fn of(body: &Body, zone: Option<&str>) -> Result<Self> {
        let edit = Self {
            channel: body.channel("codeType")?,
            code: body.text("verifyCode")?,
            new_code: body.text("newVerifyCode")?,
            email: body.text("editEmail")?,
            phone: body.phone("editCountryCode", "editPhone")?,
            current_password: body.secret("password")?,
            new_password: body.secret("editPassword")?,
            current_wallet_password: body.secret("walletPassword")?,
            new_wallet_password: body.secret("editWalletPassword")?,
            provider: body.number("deleteConnectId")?.map(provider).transpose()?,
            last_login_at: match body.text("editLastLoginTime")? {
                Some(time) => Some(moment(
                    &time,
                    zone.filter(|zone| !zone.is_empty()).unwrap_or(DEFAULT_ZONE),
                )?),
                None => None,
            },
        };
        let contradicts = match edit.channel {
            Some(CodeChannel::Email) => edit.phone.is_some(),
            Some(_) => edit.email.is_some(),
            None => false,
        };
        if contradicts {
            return Err(Error::invalid(
                "codeType",
                FieldError::Format,
                "doesn't match the field that is changed",
            ));
        }
        // One that is too long must not be told as too short.
        for (name, secret) in [
            ("editPassword", &edit.new_password),
            ("editWalletPassword", &edit.new_wallet_password),
        ] {
            let length = |secret: &String| {
                text::nfc(secret.clone()).map_or(0, |secret| secret.chars().count())
            };
            if secret
                .as_ref()
                .is_some_and(|secret| length(secret) > password::MAX_LENGTH)
            {
                return Err(Error::invalid(name, FieldError::Length, "is too long"));
            }
        }
        Ok(edit)
    }

    /// What this flavor asks for beyond the service itself: a wallet, and the code of a verified
    /// address whatever the deployment's policy.
    fn check(&self, account: &pb::Account) -> Result<()> {
        if self.new_wallet_password.is_some() && !account.has_wallet_password {
            return Err(Error::invalid(
                "wallet",
                FieldError::Required,
                "doesn't exist",
            ));
        }
        if let Some(email) = &self.email
            && let Err((error, why)) = parse_email(email.clone())
        {
            return Err(Error::invalid("editEmail", error, why));
        }
        // One that is not confirmed gives way to the password.
        let protects = |is_verified, is_confirmed: bool| {
            is_verified && (is_confirmed || self.current_password.is_none())
        };
        let replaces_email =
            self.email.is_some() && protects(account.email_verified, account.email_confirmed);
        let replaces_phone =
            self.phone.is_some() && protects(account.phone_verified, account.phone_confirmed);
        if (replaces_email || replaces_phone) && self.code.is_none() {
            return Err(Error::new(Reason::CurrentCodeRequired));
        }
        Ok(())
    }

    /// The links that go: all of the provider.
    fn links(&self, account: &pb::Account) -> Result<Vec<i64>> {
        let Some(provider) = self.provider else {
            return Ok(Vec::new());
        };
        let gone = account
            .connections
            .iter()
            .filter(|connection| connection.provider == provider);
        let gone: Vec<i64> = gone.map(|connection| connection.connection_id).collect();
        if gone.is_empty() {
            Err(Error::new(Reason::ConnectionNotFound))
        } else {
            Ok(gone)
        }
    }

    /// The change, where there is any.
    fn request(self, link: Option<i64>) -> Option<pb::UpdateAccountRequest> {
        let mut paths = Vec::new();
        for (path, is_given) in [
            ("email", self.email.is_some()),
            ("phone", self.phone.is_some()),
            ("last_login_at", self.last_login_at.is_some()),
        ] {
            if is_given {
                paths.push(path.to_owned());
            }
        }
        let has_password = self.new_password.is_some() || self.new_wallet_password.is_some();
        if paths.is_empty() && !has_password && link.is_none() {
            return None;
        }
        let channel = self.channel.unwrap_or_default();
        let has_proof = self.code.is_some()
            || self.new_code.is_some()
            || self.current_password.is_some()
            || self.current_wallet_password.is_some();
        let proof = pb::Proof {
            channel: channel.into(),
            code: self.code.unwrap_or_default(),
            new_code: self.new_code.unwrap_or_default(),
            current_password: self.current_password.unwrap_or_default(),
            current_wallet_password: self.current_wallet_password.unwrap_or_default(),
        };
        Some(pb::UpdateAccountRequest {
            account: (!paths.is_empty()).then_some(pb::Account {
                email: self.email,
                phone: self.phone,
                last_login_at: self.last_login_at,
                ..Default::default()
            }),
            update_mask: (!paths.is_empty()).then_some(FieldMask { paths }),
            new_password: self.new_password.unwrap_or_default(),
            new_wallet_password: self.new_wallet_password.unwrap_or_default(),
            unlink_connection_id: link.unwrap_or_default(),
            proof: has_proof.then_some(proof),
            ..Default::default()
        })
    }
}

fn provider(number: i64) -> Result<&'static str> {
    let index = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1));
    let found = index.and_then(|index| PROVIDERS.get(index).copied());
    found.ok_or_else(|| {
        Error::invalid(
            "deleteConnectId",
            FieldError::Range,
            "must be between 1 and 17",
        )
    })
}

/// The moment that a clock in this zone shows.
fn moment(given: &str, zone: &str) -> Result<prost_types::Timestamp> {
    let error = |why| move || Error::invalid("editLastLoginTime", FieldError::Format, why);
    let form = error("must be YYYY-MM-DD HH:MM:SS");
    if given.len() != "YYYY-MM-DD HH:MM:SS".len() {
        return Err(form());
    }
    let local = NaiveDateTime::parse_from_str(given, "%Y-%m-%d %H:%M:%S").map_err(|_| form())?;
    let offset = offset(zone).ok_or_else(error("the timezone header must be a UTC offset"))?;
    let time = local.and_local_timezone(offset).single().ok_or_else(form)?;
    Ok(timestamp(time.with_timezone(&Utc)))
}

/// An offset such as `+8`, `-3.5` or `+05:30`.
fn offset(zone: &str) -> Option<FixedOffset> {
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let digits = |text: &str| {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<i32>().ok())?
    };
    let minutes: i32 = match (rest.split_once(':'), rest.split_once('.')) {
        (Some((hours, minutes)), _) => digits(hours)?
            .checked_mul(60)?
            .checked_add(digits(minutes)?)?,
        (None, Some((hours, part))) => digits(hours)?.checked_mul(60)?.checked_add(match part {
            "0" | "00" => 0,
            "25" => 15,
            "5" | "50" => 30,
            "75" => 45,
            _ => return None,
        })?,
        (None, None) => digits(rest)?.checked_mul(60)?,
    };
    (minutes <= 14 * 60).then(|| FixedOffset::east_opt(sign * minutes * 60))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Edit> {
        Edit::of(&Body::read(text.as_bytes()).unwrap(), None)
    }

    #[test]
    fn nothing_given_changes_nothing() {
        assert!(
            read(r#"{"editEmail": "", "password": "YWJj"}"#)
                .unwrap()
                .request(None)
                .is_none()
        );
    }

    #[test]
    fn a_code_type_that_contradicts_the_field_is_refused() {
        assert!(read(r#"{"codeType": 2, "editEmail": "a@b.example"}"#).is_err());
        assert!(read(r#"{"codeType": 1, "editCountryCode": 86, "editPhone": "138"}"#).is_err());
        assert!(read(r#"{"codeType": 3}"#).is_err());
        let request =
            read(r#"{"codeType": 1, "editEmail": "a@b.example", "newVerifyCode": "123456"}"#);
        let request = request.unwrap().request(None).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["email"]);
        assert_eq!(request.proof.unwrap().new_code, "123456");
    }

    #[test]
    fn a_verified_address_needs_its_code_and_an_unverified_one_does_not() {
        let edit = read(r#"{"editEmail": "a@b.example", "newVerifyCode": "123456"}"#).unwrap();
        let account = |email_verified| pb::Account {
            email: Some("old@b.example".to_owned()),
            email_verified,
            ..Default::default()
        };
        assert!(edit.check(&account(false)).is_ok());
        assert_eq!(
            edit.check(&account(true)).unwrap_err().reason(),
            Reason::CurrentCodeRequired
        );
    }

    #[test]
    fn all_links_of_a_provider_go() {
        let edit = read(r#"{"deleteConnectId": 2}"#).unwrap();
        let link = |connection_id, provider: &str| pb::Connection {
            connection_id,
            provider: provider.to_owned(),
            ..Default::default()
        };
        let account = |connections| pb::Account {
            connections,
            ..Default::default()
        };
        let several = vec![link(1, "github"), link(2, "google"), link(3, "github")];
        assert_eq!(edit.links(&account(several)).unwrap(), [1, 3]);
        assert_eq!(
            edit.links(&account(Vec::new())).unwrap_err().reason(),
            Reason::ConnectionNotFound
        );
        assert!(provider(0).is_err() && provider(18).is_err());
    }

    #[test]
    fn times_are_read_in_the_callers_zone() {
        let at =
            |zone| moment("2024-01-01 08:00:00", zone).map(|time| time.seconds - 1_704_067_200);
        assert_eq!(at("+8").unwrap(), 0);
        assert_eq!(at("0").unwrap(), 8 * 3600);
        assert_eq!(at("-5").unwrap(), 13 * 3600);
        assert_eq!(at("+05:30").unwrap(), 9000);
        assert_eq!(at("5.5").unwrap(), 9000);
        assert!(at("x").is_err() && at("+99").is_err() && at("").is_err());
        assert!(
            moment("2024-1-1 08:00:00", "0").is_err()
                && moment("2024-02-30 08:00:00", "0").is_err()
        );
    }
}
