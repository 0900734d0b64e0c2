//! Which of the gateway's flavors a path belongs to, and the form that errors have there.

use axum::{http::HeaderMap, response::Response};

use super::{Config, error, error::RestError, fresns, lancens, minapp};
use crate::telemetry::call;

/// A family of paths with one form of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavor {
    Native,
    Minapp,
    /// With the language of its messages.
    Fresns(fresns::Language),
    Lancens,
}

impl Flavor {
    /// The flavor that a request addresses.
    pub(super) fn of(path: &str, headers: &HeaderMap, config: &Config) -> Self {
        let is_in = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // minapp's other APIs aren't served; their clients read the error.
        if config.minapp && ["/oserve", "/hserve", "/userve"].into_iter().any(is_in) {
            Flavor::Minapp
        } else if config.fresns && is_in("/api/fresns") {
            Flavor::Fresns(fresns::Language::of(headers))
        } else if config.lancens && is_in("/v1/api") {
            Flavor::Lancens
        } else {
            Flavor::Native
        }
    }

    /// Renders an error in this flavor; any other response is unchanged.
    pub(super) fn render(self, mut response: Response) -> Response {
        let Some(rest_error) = response.extensions_mut().remove::<RestError>() else {
            return response;
        };
        call::fail(&rest_error.error);
        let mut rendered = match self {
            Flavor::Native => error::aip_193(&rest_error),
            Flavor::Minapp => minapp::render_error(&rest_error),
            Flavor::Fresns(language) => fresns::render_error(&rest_error, language),
            Flavor::Lancens => lancens::render_error(&rest_error),
        };
        if let Some(allow) = response.headers_mut().remove("allow") {
            rendered.headers_mut().insert("allow", allow);
        }
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surface_that_is_off_has_no_paths() {
        let (off, on) = (Config::default(), Config::default().with_legacy_flavors());
        let headers = HeaderMap::new();
        assert_eq!(Flavor::of("/v1/api/user", &headers, &off), Flavor::Native);
        assert_eq!(Flavor::of("/v1/api/user", &headers, &on), Flavor::Lancens);
        assert_eq!(Flavor::of("/v1/apis", &headers, &on), Flavor::Native);
        for path in [
            "/oserve/v1/nothing",
            "/hserve/v2.2/user/info/",
            "/userve/v2.2/miniapp/user_profile/",
        ] {
            assert_eq!(Flavor::of(path, &headers, &on), Flavor::Minapp);
            assert_eq!(Flavor::of(path, &headers, &off), Flavor::Native);
        }
    }
}
