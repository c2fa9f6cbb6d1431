//! Sign-in at a provider: which account a person gets, and what may be linked to it.
//!
//! The pages send a browser away with [`begin`] and bring its response back to [`finish`]; nothing here knows of
//! HTML. A known identity is its user. An unknown one finds its account by a verified e-mail address once, and the
//! store checks the reason again when it links. Every attempt is good once, in the browser that began it.

mod accounts;

use self::accounts::{Access, Person, confirm, link, log_in};
pub use self::accounts::{identity_at_provider, unlink};
use super::api_error::ApiError;
use super::auth::CurrentUser;
use super::auth::sign_in_cookies::{Attempt, AwaitedCode, ReadCookie, SignInCookies, SignInGoal};
use super::auth::verified_user::VerifiedUser;
use super::http::middleware::RequestContext;
use super::state::ControlState;
use crate::config::Oidc;
use crate::mail::message::Language;
use crate::oidc::{AuthorizationResponse, Provider, SignedIn};
use domain::key::Pepper;
use jiff::Timestamp;
use std::sync::Arc;
use store::external_identities::NewIdentity;
use system::clock;

/// Longest path of the page that follows: it is in a cookie.
const MAX_NEXT_BYTES: usize = 1000;

/// A sign-in that has begun.
pub struct Begun {
    /// The address that the browser is sent to.
    pub url: String,
    /// The cookie that binds the attempt to the browser.
    pub cookie: String,
}

/// What a response of the provider has led to.
#[expect(clippy::large_enum_variant, reason = "one a sign-in, and never kept")]
pub enum Finished {
    /// A session may begin. `authenticated_at` is when the person proved who it is, if that was earlier.
    LoggedIn { verified: VerifiedUser, authenticated_at: Option<Timestamp>, next: String },
    /// The account has a second factor: the page to enter a code follows, and this cookie goes with it.
    CodeRequired { cookie: String },
    /// The identity is linked to the user of the session.
    Linked,
    /// The user of the session is confirmed.
    Confirmed { next: String },
}

/// The provider, with what browsers carry while they sign in.
pub struct SignIn {
    pub provider: Provider,
    pub cookies: SignInCookies,
}

impl SignIn {
    /// Sign-in at the provider of these settings; `None` without a provider.
    #[must_use]
    pub fn new(pepper: &Pepper, settings: Option<&Oidc>) -> Option<Arc<Self>> {
        let provider = Provider::new(settings?.clone());
        Some(Arc::new(Self { provider, cookies: SignInCookies::new(pepper) }))
    }
}

impl ControlState {
    /// The configured provider.
    ///
    /// # Errors
    /// [`ApiError::RouteNotFound`] if there is none.
    fn provider(&self) -> Result<Arc<SignIn>, ApiError> {
        self.sign_in.clone().ok_or(ApiError::RouteNotFound)
    }

    /// The name of the provider; `None` if users log in with passwords alone.
    #[must_use]
    pub fn provider_name(&self) -> Option<String> {
        Some(self.sign_in.as_ref()?.provider.settings().name.clone())
    }
}

/// Begins a sign-in that leads to `next`.
///
/// # Errors
/// [`ApiError::RouteNotFound`] without a provider, [`ApiError::ProviderUnavailable`].
pub async fn begin(state: &ControlState, goal: SignInGoal, next: &str) -> Result<Begun, ApiError> {
    let sign_in = state.provider()?;
    let now = clock::now();
    let next = if next.len() > MAX_NEXT_BYTES { "/console" } else { next }.to_owned();
    let attempt =
        Attempt { state: SignInCookies::random()?, goal, next, began_at: now.as_second() };
    let secrets = sign_in.cookies.secrets(&attempt.state);
    let again = matches!(goal, SignInGoal::Confirm(_));
    let url = sign_in.provider.authorization_url(&secrets, again).await?;
    Ok(Begun { url, cookie: sign_in.cookies.seal(attempt, now)? })
}

/// Finishes the attempt of a cookie with the response of the provider, which names `returned_state`. `current` is the
/// user of the browser's session.
///
/// # Errors
/// [`ApiError::InvalidSignIn`] if the attempt is not this browser's or was used, [`ApiError::TooManyAttempts`], and
/// what the provider and the account say.
pub async fn finish(
    state: &ControlState,
    (cookie, returned_state): (Option<&str>, &str),
    response: &AuthorizationResponse<'_>,
    current: Option<&CurrentUser>,
    (context, language): (&RequestContext, Language),
) -> Result<Finished, ApiError> {
    let sign_in = state.provider()?;
    let attempt = own_attempt(&sign_in, cookie, returned_state)?;
    state.identity.may_sign_in(context.address, clock::instant())?;
    use_once(state, &attempt).await?;
    let secrets = sign_in.cookies.secrets(&attempt.value.state);
    let signed_in = sign_in.provider.exchange(response, &secrets, clock::now()).await?;
    state.identity.has_signed_in(context.address);
    let reader = (context, language);
    reach_goal(state, &sign_in, (attempt.value, &signed_in), current, reader).await
}

/// Does what the person has signed in for.
async fn reach_goal(
    state: &ControlState,
    sign_in: &SignIn,
    (attempt, signed_in): (Attempt, &SignedIn),
    current: Option<&CurrentUser>,
    (context, language): (&RequestContext, Language),
) -> Result<Finished, ApiError> {
    let settings = sign_in.provider.settings();
    let person = Person::of(signed_in, settings);
    let of_session = |session| {
        let current = current.filter(|current| current.session == session);
        current.ok_or(ApiError::InvalidSignIn)
    };
    match attempt.goal {
        SignInGoal::LogIn => {
            person.check_domain(settings)?;
            let access = log_in(state, sign_in, &person, None, (context, language)).await?;
            let (next, authenticated_at) = (attempt.next, signed_in.auth_time);
            match access {
                Access::Granted(verified) => {
                    Ok(Finished::LoggedIn { verified, authenticated_at, next })
                }
                Access::CodeRequired => await_code(sign_in, person, next),
            }
        }
        SignInGoal::Link(session) => {
            person.check_domain(settings)?;
            link(state, of_session(session)?, &person, language).await?;
            Ok(Finished::Linked)
        }
        SignInGoal::Confirm(session) => {
            let began_at = attempt.began_at;
            confirm(state, of_session(session)?, &person, (signed_in, began_at)).await?;
            Ok(Finished::Confirmed { next: attempt.next })
        }
    }
}

/// Remembers a person who has to enter a code, in a cookie.
fn await_code(sign_in: &SignIn, person: Person, next: String) -> Result<Finished, ApiError> {
    let Person { identity, email } = person;
    let awaited =
        AwaitedCode { id: SignInCookies::random()?, subject: identity.subject, email, next };
    Ok(Finished::CodeRequired { cookie: sign_in.cookies.seal(awaited, clock::now())? })
}

/// Logs in a person whom the provider has confirmed, with a code of the second factor. Returns the page that follows.
///
/// # Errors
/// [`ApiError::InvalidSignIn`] if the cookie is not valid or was used, and those of the code and the account.
pub async fn enter_code(
    state: &ControlState,
    (cookie, code): (Option<&str>, &str),
    (context, language): (&RequestContext, Language),
) -> Result<(VerifiedUser, String), ApiError> {
    let sign_in = state.provider()?;
    let awaited = cookie.and_then(|cookie| sign_in.cookies.open(cookie, clock::now()));
    let awaited: ReadCookie<AwaitedCode> = awaited.ok_or(ApiError::InvalidSignIn)?;
    let AwaitedCode { subject, email, next, .. } = &awaited.value;
    let issuer = sign_in.provider.settings().issuer.clone();
    let identity = NewIdentity { issuer, subject: subject.clone(), email: email.clone() };
    let person = Person { identity, email: email.clone() };
    state.identity.may_sign_in(context.address, clock::instant())?;
    let access = log_in(state, &sign_in, &person, Some(code), (context, language)).await?;
    let Access::Granted(verified) = access else { return Err(ApiError::SecondFactorRequired) };
    state.identity.has_signed_in(context.address);
    use_once(state, &awaited).await?;
    Ok((verified, next.clone()))
}

/// True if a cookie awaits a code, so that the page to enter it makes sense.
#[must_use]
pub fn awaits_code(state: &ControlState, cookie: Option<&str>) -> bool {
    let Some(sign_in) = &state.sign_in else { return false };
    cookie.is_some_and(|cookie| sign_in.cookies.open::<AwaitedCode>(cookie, clock::now()).is_some())
}

/// The attempt that this browser has begun and that the response belongs to.
fn own_attempt(
    sign_in: &SignIn,
    cookie: Option<&str>,
    returned_state: &str,
) -> Result<ReadCookie<Attempt>, ApiError> {
    let attempt = cookie.and_then(|cookie| sign_in.cookies.open::<Attempt>(cookie, clock::now()));
    let attempt = attempt.filter(|attempt| attempt.value.state == returned_state);
    attempt.ok_or(ApiError::InvalidSignIn)
}

/// Of two requests with the same cookie one gets on.
async fn use_once<T>(state: &ControlState, cookie: &ReadCookie<T>) -> Result<(), ApiError> {
    if state.store.use_token(&cookie.digest, cookie.expires_at).await? {
        Ok(())
    } else {
        Err(ApiError::InvalidSignIn)
    }
}
