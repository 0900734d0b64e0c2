//! The parameters of a body; an absent one, null and empty text are one and the same.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::{
    convert::{pb::CodeChannel, proto_json::JsonValue},
    error::{Error, FieldError, Result},
    rest::config::is_country_code,
};

/// What a body holds.
pub(super) struct Body(Map<String, Value>);

impl Body {
    /// Reads a body; an empty one holds nothing.
    ///
    /// # Errors
    /// INVALID_REQUEST where it is no JSON object.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [] => Ok(Self(Map::new())),
            bytes => Ok(Self(JsonValue::parse(bytes)?.into_object("")?)),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let value = self.0.get(name)?;
        let is_empty = value.is_null() || value.as_str().is_some_and(str::is_empty);
        (!is_empty).then_some(value)
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Error::invalid(name, FieldError::Type, "must be text")),
        }
    }

    /// A whole number, as such or in digits.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = match value {
            Value::String(digits) => digits.parse().ok(),
            value => value.as_i64(),
        };
        let error = || Error::invalid(name, FieldError::Type, "must be a whole number");
        number.map(Some).ok_or_else(error)
    }

    /// A secret in Base64.
    pub(super) fn secret(&self, name: &str) -> Result<Option<String>> {
        let decode = |text: String| {
            let bytes = STANDARD.decode(text).ok()?;
            String::from_utf8(bytes).ok()
        };
        let error = || Error::invalid(name, FieldError::Format, "must be text in Base64");
        let given = self.text(name)?;
        given.map(|text| decode(text).ok_or_else(error)).transpose()
    }

    /// 1 for mail, 2 for text messages.
    pub(super) fn channel(&self, name: &str) -> Result<Option<CodeChannel>> {
        match self.number(name)? {
            None => Ok(None),
            Some(1) => Ok(Some(CodeChannel::Email)),
            Some(2) => Ok(Some(CodeChannel::Phone)),
            Some(_) => Err(Error::invalid(name, FieldError::Range, "must be 1 or 2")),
        }
    }

    /// A phone number out of its country code and the rest.
    pub(super) fn phone(&self, country_code: &str, number: &str) -> Result<Option<String>> {
        let Some(rest) = self.text(number)? else {
            return Ok(None);
        };
        let error = || {
            Error::invalid(
                country_code,
                FieldError::Format,
                "must be a country code without the plus sign",
            )
        };
        let code = match self.get(country_code) {
            Some(Value::String(code)) => code.clone(),
            Some(code) => code.to_string(),
            None => return Err(error()),
        };
        if !is_country_code(&code) {
            return Err(error());
        }
        if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::invalid(number, FieldError::Format, "must be digits"));
        }
        Ok(Some(format!("+{code}{rest}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        Body::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn absent_null_and_empty_are_one() {
        for text in ["", "{}", r#"{"a": null}"#, r#"{"a": ""}"#] {
            let body = body(text);
            assert_eq!(
                (body.text("a").unwrap(), body.number("a").unwrap()),
                (None, None),
                "{text}"
            );
        }
    }

    #[test]
    fn secrets_are_strict_base64() {
        assert_eq!(
            body(r#"{"a": "YWJj"}"#).secret("a").unwrap().as_deref(),
            Some("abc")
        );
        for bad in ["YWJ", "YWJj!", "/w=="] {
            assert!(
                body(&format!(r#"{{"a": "{bad}"}}"#)).secret("a").is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_phone_needs_its_country_code() {
        let phone = |text: &str| body(text).phone("code", "phone");
        assert_eq!(
            phone(r#"{"code": 86, "phone": "138"}"#).unwrap().as_deref(),
            Some("+86138")
        );
        assert_eq!(phone(r#"{"code": "86"}"#).unwrap(), None);
        for bad in [
            r#"{"phone": "138"}"#,
            r#"{"phone": "138", "code": -86}"#,
            r#"{"phone": "138", "code": 99999}"#,
        ] {
            assert_eq!(phone(bad).unwrap_err().violations()[0].field, "code");
        }
        assert_eq!(
            phone(r#"{"code": 86, "phone": "1-3"}"#)
                .unwrap_err()
                .violations()[0]
                .field,
            "phone"
        );
    }
}
