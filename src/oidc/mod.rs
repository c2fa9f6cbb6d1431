//! Sign-in with OpenID Connect: the authorization code flow with PKCE, at one provider.
//!
//! [`Provider`] makes the address that a browser is sent to, and exchanges the code that it comes back with for what
//! the provider says of the person. It knows no accounts and no cookies. The provider's metadata and keys are fetched
//! when they are first needed, so that one that is down delays neither the start nor other log-ins.

mod cache;
mod http;
mod id_token;
mod keys;
mod metadata;

use self::http::{Client, Endpoint};
use crate::config::Oidc;
use crate::jwt;
use ::http::header::AUTHORIZATION;
use ::http::{HeaderValue, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cache::Cached;
use data_encoding::BASE64URL_NOPAD;
use form_urlencoded::{Serializer, byte_serialize};
use id_token::{EmailClaims, Expected};
use jiff::Timestamp;
use keys::Keys;
use metadata::Metadata;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use system::clock;

/// Longest code that is sent to the provider.
const MAX_CODE_BYTES: usize = 4096;

/// The sign-in provider.
pub struct Provider {
    settings: Oidc,
    client: Client,
    metadata: Cached<Metadata>,
    keys: Keys,
}

/// The secrets of one attempt to sign in.
#[derive(Clone)]
pub struct AttemptSecrets {
    /// Comes back in the address of the browser.
    pub state: String,
    /// Comes back in the signed token.
    pub nonce: String,
    /// Proves that the code is exchanged by the one who asked for it (RFC 7636).
    pub verifier: String,
}

/// What the provider sends the browser back with.
#[derive(Debug, Clone, Default)]
pub struct AuthorizationResponse<'a> {
    pub code: Option<&'a str>,
    /// The reason for which there is no code.
    pub error: Option<&'a str>,
    /// The issuer, if the provider names it.
    pub issuer: Option<&'a str>,
}

/// What the provider says of the person who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The provider's name for the person, which never changes.
    pub subject: String,
    pub email: Option<String>,
    /// True if the provider says that the address is the person's.
    pub is_email_verified: bool,
    /// When the person last entered a password or the like at the provider, if it says so.
    pub auth_time: Option<Timestamp>,
}

/// The reason for which a sign-in fails. For the log: the person reads less.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// The provider cannot be reached, or its documents cannot be used.
    #[error("{0}")]
    Unavailable(String),
    /// The provider does not confirm who the person is, or what it says is not valid.
    #[error("{0}")]
    Rejected(String),
}

/// The reply of the token endpoint.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    #[serde(default)]
    access_token: Option<String>,
}

/// The reply of the userinfo endpoint.
#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(flatten)]
    address: EmailClaims,
}

impl Provider {
    /// The provider of these settings. Connects to nothing.
    #[must_use]
    pub fn new(settings: Oidc) -> Self {
        jwt::install();
        let client = Client::new(settings.ca_file.clone());
        Self { settings, client, metadata: Cached::default(), keys: Keys::default() }
    }

    /// The settings, with the issuer and the name that people know.
    #[must_use]
    pub fn settings(&self) -> &Oidc {
        &self.settings
    }

    /// The address to which a browser is sent to sign in. `again`: even if the person is signed in there.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    pub async fn authorization_url(
        &self,
        secrets: &AttemptSecrets,
        again: bool,
    ) -> Result<String, ProviderError> {
        let metadata = self.metadata().await?;
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(secrets.verifier.as_bytes()));
        let mut query = Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect_uri)
            .append_pair("scope", &self.settings.scopes.join(" "))
            .append_pair("state", &secrets.state)
            .append_pair("nonce", &secrets.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if again {
            query.append_pair("prompt", "login").append_pair("max_age", "0");
        }
        let address = metadata.authorization.address();
        let separator = if address.contains('?') { '&' } else { '?' };
        Ok(format!("{address}{separator}{}", query.finish()))
    }

    /// Exchanges the code of a response for what the provider says of the person.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn exchange(
        &self,
        response: &AuthorizationResponse<'_>,
        secrets: &AttemptSecrets,
        now: Timestamp,
    ) -> Result<SignedIn, ProviderError> {
        let metadata = self.metadata().await?;
        let code = self.code(&metadata, response)?;
        let tokens = self.tokens(&metadata, code, secrets).await?;
        let header = id_token::header(&tokens.id_token)?;
        let (id, algorithm) = (header.kid.as_deref(), header.alg);
        let key =
            self.keys.find(&self.client, &metadata.keys, (id, algorithm), clock::instant()).await?;
        let expected = Expected {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            nonce: &secrets.nonce,
            now,
        };
        let (signed_in, address) = id_token::verify(&tokens.id_token, algorithm, &key, expected)?;
        if address.email.is_some() && address.email_verified.is_some() {
            return Ok(signed_in);
        }
        Ok(self.with_userinfo(&metadata, &tokens, signed_in).await)
    }

    /// Fetches the provider's metadata and keys, as the first sign-in does.
    ///
    /// # Errors
    /// The reason for which no user could sign in now.
    pub async fn check(&self) -> Result<(), ProviderError> {
        let metadata = self.metadata().await?;
        self.keys.check(&self.client, &metadata.keys, clock::instant()).await
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        let fetched = metadata::fetch(&self.client, &self.settings.issuer);
        self.metadata.get(clock::instant(), fetched).await
    }

    /// The code of a response that is from this provider.
    fn code<'a>(
        &self,
        metadata: &Metadata,
        response: &AuthorizationResponse<'a>,
    ) -> Result<&'a str, ProviderError> {
        let rejected = |reason: String| Err(ProviderError::Rejected(reason));
        match response.issuer {
            Some(issuer) if issuer != self.settings.issuer => {
                return rejected("the response is from another issuer".to_owned());
            }
            None if metadata.names_issuer => {
                return rejected("the response does not name its issuer".to_owned());
            }
            Some(_) | None => {}
        }
        if let Some(error) = response.error {
            let word: String = error.chars().filter(char::is_ascii_graphic).take(64).collect();
            return rejected(format!("the provider responds with the error `{word}`"));
        }
        match response.code.filter(|code| (1..=MAX_CODE_BYTES).contains(&code.len())) {
            Some(code) => Ok(code),
            None => rejected("the response has no code".to_owned()),
        }
    }

    async fn tokens(
        &self,
        metadata: &Metadata,
        code: &str,
        secrets: &AttemptSecrets,
    ) -> Result<Tokens, ProviderError> {
        let (header, form) = self.token_request(metadata.secret_in_form, code, secrets);
        let header = header.map(|value| (AUTHORIZATION, value));
        let reply = self.client.post(&metadata.token, header, form).await?;
        let refused = |reason: &str| format!("the token endpoint {reason} ({})", reply.status);
        if reply.status.is_server_error() || reply.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(ProviderError::Unavailable(refused("is unavailable")));
        }
        if reply.status != StatusCode::OK {
            return Err(ProviderError::Rejected(refused("refuses the code or the client")));
        }
        let tokens = serde_json::from_slice(&reply.body);
        tokens.map_err(|_| ProviderError::Rejected(refused("returns no ID token")))
    }

    /// The header and the form that exchange a code.
    fn token_request(
        &self,
        secret_in_form: bool,
        code: &str,
        secrets: &AttemptSecrets,
    ) -> (Option<HeaderValue>, String) {
        let (id, secret) = (&self.settings.client_id, self.settings.client_secret.expose());
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.settings.redirect_uri)
            .append_pair("code_verifier", &secrets.verifier);
        if secret_in_form {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
            return (None, form.finish());
        }
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pair = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
        (sensitive(&format!("Basic {pair}")), form.finish())
    }

    /// Adds the e-mail address that the userinfo endpoint reports of the same person. Without it, the person is one
    /// without an address.
    async fn with_userinfo(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        signed_in: SignedIn,
    ) -> SignedIn {
        let (Some(endpoint), Some(token)) = (&metadata.userinfo, &tokens.access_token) else {
            return signed_in;
        };
        match self.userinfo::<UserInfo>(endpoint, token).await {
            Some(info) if info.sub == signed_in.subject => SignedIn {
                is_email_verified: info.address.is_verified(),
                email: info.address.email,
                ..signed_in
            },
            Some(_) | None => {
                tracing::warn!("the sign-in provider's userinfo cannot be used");
                signed_in
            }
        }
    }

    async fn userinfo<T: DeserializeOwned>(&self, endpoint: &Endpoint, token: &str) -> Option<T> {
        let header = sensitive(&format!("Bearer {token}"))?;
        let reply = self.client.get(endpoint, Some((AUTHORIZATION, header))).await.ok()?;
        serde_json::from_slice(&reply.body).ok().filter(|_| reply.status == StatusCode::OK)
    }
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;
