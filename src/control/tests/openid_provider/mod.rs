//! A small OpenID provider for tests, which a gateway reaches over HTTP. It checks what it is sent, and can be made
//! to misbehave.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use system::clock;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

pub(crate) const CLIENT: &str = "kx client";
pub(crate) const SECRET: &str = "s3cret: of the client";
/// Signs nothing but tokens of tests.
const RSA_KEY: &str = include_str!("rsa-test-key.pem");

/// A running provider.
pub(crate) struct OpenIdProvider {
    pub(crate) issuer: String,
    behavior: Arc<Behavior>,
    tasks: TaskTracker,
}

/// What the provider does, and what it has been asked.
pub(crate) struct Behavior {
    issuer: String,
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    pub(crate) signing: Mutex<Signing>,
    /// Changes the claims of the next tokens.
    pub(crate) change: Mutex<Option<Change>>,
    /// True: requests fail.
    pub(crate) is_down: Mutex<bool>,
    /// True: e-mail addresses are only at the userinfo endpoint.
    pub(crate) thin_tokens: Mutex<bool>,
    grants: Mutex<HashMap<String, Grant>>,
    pub(crate) key_fetches: AtomicU32,
    pub(crate) token_requests: AtomicU32,
}

pub(crate) type Change = Box<dyn Fn(&mut Value) + Send>;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    Rs256,
    Es256,
    /// Not at all.
    None,
    /// With the public key as the secret.
    Hs256WithPublicKey,
    /// By a key that is not in the set.
    UnknownKey,
    /// By another key than the header names.
    WrongKey,
}

/// A person at the provider.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
    pub(crate) is_verified: bool,
    /// Seconds since the person entered a password; `None` = the provider does not say.
    pub(crate) authenticated: Option<i64>,
}

/// A code that can be exchanged once.
struct Grant {
    person: Person,
    challenge: String,
    nonce: String,
    redirect_uri: String,
}

impl Person {
    pub(crate) fn verified(subject: &str, email: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            email: Some(email.to_owned()),
            is_verified: true,
            authenticated: None,
        }
    }
}

impl OpenIdProvider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let behavior = Arc::new(Behavior::new(&issuer));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(Arc::clone(&behavior));
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { issuer, behavior, tasks }
    }

    pub(crate) fn behavior(&self) -> &Behavior {
        &self.behavior
    }

    /// The lines of the configuration of a gateway at `http://kx.example:8000`.
    pub(crate) fn configuration(&self, more: &str) -> String {
        format!(
            "public_url = \"http://kx.example:8000\"\n[accounts.oidc]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\n\
             client_secret = \"{SECRET}\"\nname = \"Acme ID\"\n{more}\n",
            self.issuer
        )
    }

    /// The person signs in at the address that the gateway has sent the browser to. Returns the path that the browser
    /// is sent back to.
    pub(crate) fn sign_in(&self, url: &str, person: &Person) -> String {
        let (endpoint, query) = url.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/authorize", self.issuer));
        let query: HashMap<String, String> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let expected = [
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("scope", "openid email profile"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", "http://kx.example:8000/console/oidc/callback"),
        ];
        for (name, value) in expected {
            assert_eq!(query[name], value, "{url}");
        }
        let code = clock::unique().simple().to_string();
        let grant = Grant {
            person: person.clone(),
            challenge: query["code_challenge"].clone(),
            nonce: query["nonce"].clone(),
            redirect_uri: query["redirect_uri"].clone(),
        };
        self.behavior.grants.lock().insert(code.clone(), grant);
        let state = &query["state"];
        format!("/console/oidc/callback?code={code}&state={state}&session_state=x")
    }
}

impl Drop for OpenIdProvider {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

impl Behavior {
    fn new(issuer: &str) -> Self {
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
        let (random, curve) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let ec = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        Self {
            issuer: issuer.to_owned(),
            rsa: RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(curve, ec.as_ref(), &random).unwrap(),
            signing: Mutex::new(Signing::Rs256),
            change: Mutex::default(),
            is_down: Mutex::default(),
            thin_tokens: Mutex::default(),
            grants: Mutex::default(),
            key_fetches: AtomicU32::new(0),
            token_requests: AtomicU32::new(0),
        }
    }

    fn check(&self) -> Result<(), StatusCode> {
        if *self.is_down.lock() { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(()) }
    }

    fn claims(&self, grant: &Grant) -> Value {
        let (now, person) = (clock::now().as_second(), &grant.person);
        let mut claims = json!({
            "iss": self.issuer, "sub": person.subject, "aud": CLIENT, "exp": now + 300, "iat": now,
            "nonce": grant.nonce,
        });
        if let Some(seconds) = person.authenticated {
            claims["auth_time"] = json!(now - seconds);
        }
        if let (Some(email), false) = (&person.email, *self.thin_tokens.lock()) {
            claims["email"] = json!(email);
            claims["email_verified"] = json!(person.is_verified);
        }
        if let Some(change) = &*self.change.lock() {
            change(&mut claims);
        }
        claims
    }

    fn signed(&self, claims: &Value) -> String {
        let signing = *self.signing.lock();
        let (algorithm, key) = match signing {
            Signing::Rs256 => ("RS256", "rsa"),
            Signing::Es256 => ("ES256", "ec"),
            Signing::None => ("none", "rsa"),
            Signing::Hs256WithPublicKey => ("HS256", "ec"),
            Signing::UnknownKey => ("RS256", "unknown"),
            Signing::WrongKey => ("RS256", "rsa"),
        };
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = json!({ "alg": algorithm, "kid": key, "typ": "JWT" });
        let message = format!("{}.{}", encode(&header), encode(claims));
        let random = SystemRandom::new();
        let signature = match signing {
            Signing::Rs256 | Signing::UnknownKey => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                let message = message.as_bytes();
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Signing::Es256 | Signing::WrongKey => {
                self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Signing::None => Vec::new(),
            Signing::Hs256WithPublicKey => {
                let key = self.ec.public_key().as_ref();
                let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
                mac.update(message.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
        };
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

async fn configuration(State(behavior): State<Arc<Behavior>>) -> Result<Json<Value>, StatusCode> {
    behavior.check()?;
    let issuer = &behavior.issuer;
    Ok(Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
    })))
}

async fn keys(State(behavior): State<Arc<Behavior>>) -> Result<Json<Value>, StatusCode> {
    behavior.check()?;
    behavior.key_fetches.fetch_add(1, Ordering::Relaxed);
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let rsa: ring::rsa::PublicKeyComponents<Vec<u8>> = behavior.rsa.public().into();
    let point = behavior.ec.public_key().as_ref();
    Ok(Json(json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "use": "sig", "n": encode(&rsa.n), "e": encode(&rsa.e) },
        { "kty": "EC", "kid": "ec", "crv": "P-256", "x": encode(&point[1..33]),
            "y": encode(&point[33..]) },
        { "kty": "future", "kid": "x" },
    ] })))
}

/// Exchanges a code once, for the client and the verifier that it was issued to.
async fn token(
    State(behavior): State<Arc<Behavior>>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Value>, StatusCode> {
    behavior.check()?;
    let form: HashMap<String, String> =
        form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    behavior.token_requests.fetch_add(1, Ordering::Relaxed);
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = STANDARD.encode(format!("{}:{}", encode(CLIENT), encode(SECRET)));
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    if authorization != Some(format!("Basic {basic}").as_str()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let grant = behavior.grants.lock().remove(&form["code"]).ok_or(StatusCode::BAD_REQUEST)?;
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(form["code_verifier"].as_bytes()));
    let is_valid = form["grant_type"] == "authorization_code"
        && form["redirect_uri"] == grant.redirect_uri
        && challenge == grant.challenge;
    if !is_valid {
        return Err(StatusCode::BAD_REQUEST);
    }
    let id_token = behavior.signed(&behavior.claims(&grant));
    let person = &grant.person;
    let access = json!({ "sub": person.subject, "email": person.email,
        "email_verified": person.is_verified.to_string() });
    let access_token = BASE64URL_NOPAD.encode(access.to_string().as_bytes());
    Ok(Json(json!({ "id_token": id_token, "access_token": access_token, "token_type": "Bearer" })))
}

/// What the access token says.
async fn userinfo(headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let token = token.and_then(|token| BASE64URL_NOPAD.decode(token.as_bytes()).ok());
    let info = token.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    info.map(Json).ok_or(StatusCode::UNAUTHORIZED)
}
