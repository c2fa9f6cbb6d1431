//! The OpenAPI 3.1 document of both planes. The control plane's part is generated from its handlers and
//! errors.

pub mod errors;
pub mod data_plane;

use super::api_error::ErrorBody;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The document before the routes are added to it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "KnockXPrime",
        description = "An OpenAI-compatible gateway for Grok. Model calls use an API key; all other routes \
            use the access token that login returns.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact(),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Schemes),
    tags(
        (name = "Models", description = "Model calls, in the wire formats of OpenAI, Anthropic and xAI"),
        (name = "Accounts", description = "Registration, login, and your account"),
        (name = "Keys", description = "API keys"),
        (name = "Usage", description = "Usage and remaining quota"),
        (name = "Plans", description = "Plans and plan changes"),
        (name = "Announcements", description = "Messages of the operator to all callers"),
        (name = "Admin", description = "Administration; requires the role `admin`. `GET` accepts the role `auditor` as well"),
        (name = "Health", description = "Health checks"),
    ),
)]
pub struct Description;

/// The security schemes.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |format: &str, what: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
            SecurityScheme::Http(scheme.description(Some(what)).build())
        };
        let components = document.components.get_or_insert_default();
        components
            .add_security_scheme("token", bearer("JWT", "The access token that login returns"));
        components.add_security_scheme("key", bearer("sk-kx-...", "An API key"));
    }
}
