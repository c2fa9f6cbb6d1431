//! The description of both planes (OpenAPI 3.1), made from the handlers themselves: their paths, bodies
//! and replies, and every refusal as [`ApiError`] words it.

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
        description = "An OpenAI-compatible gateway for Grok. Calls to models carry an API key; \
            everything else an access token, which log-in gives.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact(),
    ),
    components(schemas(ErrorBody)),
    modifiers(&Schemes),
    tags(
        (name = "Models", description = "The data plane: OpenAI's wire format"),
        (name = "Accounts", description = "Registering, logging in, one's own account"),
        (name = "Keys", description = "API keys"),
        (name = "Usage", description = "What was used"),
        (name = "Plans", description = "Plans, and changing to another"),
        (name = "Admin", description = "For admins"),
        (name = "Health", description = "Whether the gateway works"),
    ),
)]
pub struct Description;

/// How requests show who they are from.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |format: &str, what: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
            SecurityScheme::Http(scheme.description(Some(what)).build())
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", bearer("JWT", "The access token of a log-in"));
        components.add_security_scheme("key", bearer("sk-kx-...", "An API key"));
    }
}
