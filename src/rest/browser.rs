//! Cross-site checks for browsers, which send a client certificate automatically. A page can only
//! send a token that it knows. But a browser attaches a certificate to every call, whichever page
//! causes it, and even if the page can't read the response.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use super::error::RestError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that a page of another site can't send without a preflight, which the CORS rules decide.
/// The second is for imports.
const CONTENT_TYPES: [&str; 2] = ["application/json", "application/x-ndjson"];

/// Whether a browser sends the call for a page of another site that isn't an allowed origin. `*`
/// allows none here: it is meant for pages that have a token.
pub(super) fn is_of_another_site(parts: &Parts, allowed: &[String]) -> bool {
    let headers = &parts.headers;
    let origin = headers.get(header::ORIGIN);
    if origin.is_some_and(|origin| {
        allowed
            .iter()
            .any(|allowed| allowed != "*" && origin == allowed.as_str())
    }) {
        return false;
    }
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => site != "same-origin" && site != "none",
        // An older browser. Other programs send neither header.
        None => origin.is_some_and(|origin| !is_own(origin, parts)),
    }
}

/// Whether an origin is the host that was called.
fn is_own(origin: &HeaderValue, parts: &Parts) -> bool {
    let named = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = parts
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or(named);
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, host)| host);
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Rejects a body that a page could have sent as a form or as plain text, without a preflight.
///
/// # Errors
/// 415 for its content type.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), RestError> {
    let is_json =
        content_type(headers).is_some_and(|given| CONTENT_TYPES.contains(&given.as_str()));
    if is_json || !has_body(headers) {
        Ok(())
    } else {
        Err(RestError::content_type())
    }
}

/// Rejects a body that says that it isn't JSON. One that doesn't say what it is, is read as JSON.
///
/// # Errors
/// 415 for its content type.
pub(super) fn reject_other_content_types(headers: &HeaderMap) -> Result<(), RestError> {
    let is_json = |given: &str| CONTENT_TYPES.contains(&given) || given.ends_with("+json");
    let is_other = content_type(headers).is_some_and(|given| !given.is_empty() && !is_json(&given));
    if is_other && has_body(headers) {
        Err(RestError::content_type())
    } else {
        Ok(())
    }
}

/// Whether the request has a body. Over HTTP/2 a body needs neither header, but a browser that
/// sends one without a length makes a preflight, as for JSON.
fn has_body(headers: &HeaderMap) -> bool {
    let has_length = headers
        .get(header::CONTENT_LENGTH)
        .is_some_and(|length| length != "0");
    has_length || headers.contains_key(header::TRANSFER_ENCODING)
}

/// The type of a body without its parameters, in lower case.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = given.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder()
            .method(method)
            .uri("/v1/users")
            .header("host", "api.example.com:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn p52_a_browser_tells_of_pages_of_other_sites() {
        let allowed = ["https://app.example.com".to_owned(), "*".to_owned()];
        let is_other =
            |headers: &[(&str, &str)]| is_of_another_site(&parts("POST", headers), &allowed);
        for fine in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://api.example.com:8443")],
            &[("origin", "https://app.example.com")],
            &[
                ("origin", "https://app.example.com"),
                ("sec-fetch-site", "cross-site"),
            ],
        ] {
            assert!(!is_other(fine), "{fine:?}");
        }
        for other in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://api.example.com:8443"),
            ],
            &[("origin", "https://other.example.com")],
            &[("origin", "https://api.example.com")],
            &[("origin", "null")],
            &[("origin", "*")],
        ] {
            assert!(is_other(other), "{other:?}");
        }
    }

    #[test]
    fn p52_a_body_needs_a_content_type_that_no_form_has() {
        let check = |method, headers: &[(&str, &str)]| {
            check_content_type(&parts(method, headers).headers).is_ok()
        };
        for fine in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/x-ndjson",
        ] {
            assert!(
                check("POST", &[("content-length", "2"), ("content-type", fine)]),
                "{fine}"
            );
        }
        for form in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            assert!(
                !check("POST", &[("content-length", "2"), ("content-type", form)]),
                "{form}"
            );
        }
        let check_other = |headers: &[(&str, &str)]| {
            reject_other_content_types(&parts("POST", headers).headers).is_ok()
        };
        for fine in ["application/json", "application/merge-patch+json", ""] {
            assert!(
                check_other(&[("content-length", "2"), ("content-type", fine)]),
                "{fine}"
            );
        }
        assert!(check_other(&[("content-length", "2")]));
        assert!(!check_other(&[
            ("content-length", "2"),
            ("content-type", "application/x-www-form-urlencoded")
        ]));
        assert!(!check("POST", &[("content-length", "2")]));
        assert!(!check("PATCH", &[("transfer-encoding", "chunked")]));
        assert!(
            check("POST", &[("content-length", "0")]) && check("GET", &[]) && check("DELETE", &[])
        );
    }
}
