//! The provider's metadata (OpenID Connect Discovery 1.0): where its endpoints are.

use super::ProviderError;
use super::http::{Client, Endpoint};
use http::StatusCode;
use serde::Deserialize;

/// The path of the document, below the issuer.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";

/// The endpoints of a provider.
#[derive(Debug)]
pub(super) struct Metadata {
    pub authorization: Endpoint,
    pub token: Endpoint,
    pub keys: Endpoint,
    pub userinfo: Option<Endpoint>,
    /// True if the client sends its secret in the form, not in a header.
    pub secret_in_form: bool,
    /// True if every response to a browser names the issuer (RFC 9207).
    pub names_issuer: bool,
}

/// The document as it is published.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Fetches the metadata of an issuer.
pub(super) async fn fetch(client: &Client, issuer: &str) -> Result<Metadata, ProviderError> {
    let may_be_plain = issuer.starts_with("http://");
    let address = format!("{}{WELL_KNOWN}", issuer.trim_end_matches('/'));
    let endpoint = Endpoint::parse(&address, may_be_plain);
    let endpoint = endpoint.ok_or_else(|| invalid("the issuer is not a usable address"))?;
    let reply = client.get(&endpoint, None).await?;
    if reply.status != StatusCode::OK {
        return Err(invalid(format!("{address} responds with {}", reply.status)));
    }
    parse(&reply.body, issuer)
}

fn parse(body: &[u8], issuer: &str) -> Result<Metadata, ProviderError> {
    let document: Document = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the metadata cannot be read: {error}")))?;
    if document.issuer != issuer {
        let named = document.issuer;
        return Err(invalid(format!(
            "the metadata is of the issuer `{named}`, but `accounts.oidc.issuer` is `{issuer}`"
        )));
    }
    let endpoint = |name: &str, address: &str| {
        let endpoint = Endpoint::parse(address, issuer.starts_with("http://"));
        endpoint.ok_or_else(|| invalid(format!("`{name}` of the metadata is not an https:// URL")))
    };
    let methods = document.token_endpoint_auth_methods_supported;
    let supports = |method: &str| {
        methods.as_ref().is_none_or(|methods| methods.iter().any(|known| known == method))
    };
    Ok(Metadata {
        authorization: endpoint("authorization_endpoint", &document.authorization_endpoint)?,
        token: endpoint("token_endpoint", &document.token_endpoint)?,
        keys: endpoint("jwks_uri", &document.jwks_uri)?,
        userinfo: match &document.userinfo_endpoint {
            Some(address) => Some(endpoint("userinfo_endpoint", address)?),
            None => None,
        },
        secret_in_form: !supports(BASIC) && supports(POST),
        names_issuer: document.authorization_response_iss_parameter_supported,
    })
}

fn invalid(problem: impl Into<String>) -> ProviderError {
    ProviderError::Unavailable(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ISSUER: &str = "https://id.example";

    fn document(change: impl FnOnce(&mut Value)) -> Result<Metadata, ProviderError> {
        let mut document = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example/authorize",
            "token_endpoint": "https://id.example/token",
            "jwks_uri": "https://keys.example/jwks",
        });
        change(&mut document);
        parse(document.to_string().as_bytes(), ISSUER)
    }

    #[test]
    fn the_secret_is_sent_as_the_provider_takes_it() {
        for (methods, in_form) in [
            (Value::Null, false),
            (json!(["client_secret_basic", "client_secret_post"]), false),
            (json!(["client_secret_post"]), true),
            (json!(["private_key_jwt"]), false),
        ] {
            let metadata =
                document(|it| it["token_endpoint_auth_methods_supported"] = methods.clone());
            assert_eq!(metadata.unwrap().secret_in_form, in_form, "{methods}");
        }
    }

    #[test]
    fn a_document_of_another_issuer_or_with_plain_endpoints_is_refused() {
        let set = |key: &'static str, value: &'static str| {
            move |document: &mut Value| document[key] = json!(value)
        };
        for (problem, metadata) in [
            ("issuer", document(set("issuer", "https://id.example/"))),
            ("token_endpoint", document(set("token_endpoint", "http://id.example/token"))),
            ("jwks_uri", document(set("jwks_uri", "file:///etc/passwd"))),
            ("userinfo_endpoint", document(set("userinfo_endpoint", "nowhere"))),
        ] {
            let error = metadata.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(parse(b"<html>", ISSUER).is_err());
    }
}
