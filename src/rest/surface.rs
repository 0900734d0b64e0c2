//! Which of the gateway's surfaces a path belongs to, and the form that errors have there.

use axum::{http::HeaderMap, response::Response};

use super::{Config, error, error::Refusal, fresns, lancens, minapp};
use crate::telemetry::call;

/// A family of paths with one form of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Native,
    Minapp,
    /// With the language of its messages.
    Fresns(fresns::Language),
    Lancens,
}

impl Surface {
    /// The surface that a request addresses.
    pub fn of(path: &str, headers: &HeaderMap, config: &Config) -> Self {
        let is_in =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // minapp's other APIs aren't served; their clients read the error.
        if config.minapp && ["/oserve", "/hserve", "/userve"].into_iter().any(is_in) {
            Surface::Minapp
        } else if config.fresns && is_in("/api/fresns") {
            Surface::Fresns(fresns::Language::of(headers))
        } else if config.lancens && is_in("/v1/api") {
            Surface::Lancens
        } else {
            Surface::Native
        }
    }

    /// Gives a refusal its form; any other response stays as it is.
    pub fn dress(self, mut response: Response) -> Response {
        let Some(refusal) = response.extensions_mut().remove::<Refusal>() else {
            return response;
        };
        call::fail(&refusal.error);
        let mut dressed = match self {
            Surface::Native => error::aip_193(&refusal),
            Surface::Minapp => minapp::refuse(&refusal),
            Surface::Fresns(language) => fresns::refuse(&refusal, language),
            Surface::Lancens => lancens::refuse(&refusal),
        };
        if let Some(allow) = response.headers_mut().remove("allow") {
            dressed.headers_mut().insert("allow", allow);
        }
        dressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surface_that_is_off_has_no_paths() {
        let (off, on) = (Config::default(), Config::default().with_older_surfaces());
        let headers = HeaderMap::new();
        assert_eq!(Surface::of("/v1/api/user", &headers, &off), Surface::Native);
        assert_eq!(Surface::of("/v1/api/user", &headers, &on), Surface::Lancens);
        assert_eq!(Surface::of("/v1/apis", &headers, &on), Surface::Native);
        for path in ["/oserve/v1/nothing", "/hserve/v2.2/user/info/", "/userve/v2.2/miniapp/user_profile/"] {
            assert_eq!(Surface::of(path, &headers, &on), Surface::Minapp);
            assert_eq!(Surface::of(path, &headers, &off), Surface::Native);
        }
    }
}
