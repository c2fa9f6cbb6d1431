//! The account rules of sign-ins at a provider.

use super::SignIn;
use crate::config::Oidc;
use crate::control::account_links::notify;
use crate::control::api_error::ApiError;
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::auth::{AttemptTime, CurrentUser};
use crate::control::http::middleware::RequestContext;
use crate::control::state::ControlState;
use crate::mail::SecurityEvent;
use crate::mail::message::Language;
use crate::oidc::SignedIn;
use domain::actor::{Actor, AuditContext};
use domain::user::{Role, User, new_email};
use jiff::{SignedDuration, Timestamp};
use store::external_identities::{ExternalIdentity, LinkBasis, Linking, NewIdentity, Unlinking};
use store::sessions::Credentials;
use store::{NewUser, UserError};
use system::clock;
use uuid::Uuid;

/// How far the clocks of the provider and of the gateway may differ.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// A person whom the provider has confirmed.
pub(super) struct Person {
    pub identity: NewIdentity,
    /// The verified address that the gateway accepts.
    pub email: Option<String>,
}

/// Whether a person may log in.
#[expect(clippy::large_enum_variant, reason = "one a sign-in, and never kept")]
pub(super) enum Access {
    Granted(VerifiedUser),
    CodeRequired,
}

/// How a person comes to an account.
enum Route {
    /// The identity is the account's.
    Known(Credentials),
    /// The address is the account's, and both sides have verified it.
    ByEmail(Credentials),
    /// The address is the account's, but the person who registered has not verified it.
    TakeOver(Credentials),
    /// There is no account.
    New,
}

/// Finds or creates the account of a person, and checks the second factor of one that exists.
pub(super) async fn log_in(
    state: &ControlState,
    sign_in: &SignIn,
    person: &Person,
    code: Option<&str>,
    (context, language): (&RequestContext, Language),
) -> Result<Access, ApiError> {
    let by = by(context);
    let (credentials, has_passed_factor) = match route(state, person).await? {
        Route::Known(found) => {
            let Some(passed) = check_factor(state, &found.user, code).await? else {
                return Ok(Access::CodeRequired);
            };
            (found, passed)
        }
        Route::ByEmail(found) => {
            let Some(passed) = check_factor(state, &found.user, code).await? else {
                return Ok(Access::CodeRequired);
            };
            let basis = LinkBasis::VerifiedEmail;
            (link_by(state, &found.user, person, basis, (context, language)).await?, passed)
        }
        // The second factor is removed with all else that the person who registered has set.
        Route::TakeOver(found) => {
            let basis = LinkBasis::UnverifiedEmail;
            (link_by(state, &found.user, person, basis, (context, language)).await?, false)
        }
        Route::New => (create(state, sign_in, person, context).await?, false),
    };
    context.set_user(credentials.user.id);
    let NewIdentity { issuer, subject, .. } = &person.identity;
    state.store.record_identity_use(issuer, subject, &by).await?;
    Ok(Access::Granted(VerifiedUser { credentials, has_passed_factor }))
}

async fn route(state: &ControlState, person: &Person) -> Result<Route, ApiError> {
    let NewIdentity { issuer, subject, .. } = &person.identity;
    if let Some(found) = state.store.identity_user(issuer, subject).await? {
        found.user.status.check()?;
        return Ok(Route::Known(found));
    }
    let email = person.email.as_ref().ok_or(ApiError::ProviderEmailRequired)?;
    let Some(found) = state.store.credentials(email).await? else { return Ok(Route::New) };
    found.user.status.check()?;
    if found.user.email_verified_at.is_some() {
        return Ok(Route::ByEmail(found));
    }
    // The role was given to the person who registered, not to the owner of the address.
    if found.user.role.may_read_all() {
        return Err(ApiError::AccountNotLinked);
    }
    Ok(Route::TakeOver(found))
}

/// True if a second factor was checked, false if there is none; `None` if a code is needed first.
async fn check_factor(
    state: &ControlState,
    user: &User,
    code: Option<&str>,
) -> Result<Option<bool>, ApiError> {
    let from = (false, AttemptTime::now());
    let factor = &state.identity.second_factor;
    match factor.check_login(&*state.store, user, code, from).await {
        Ok(passed) => Ok(Some(passed)),
        Err(ApiError::SecondFactorRequired) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Links the identity to a user who was found by the person's address.
async fn link_by<'a>(
    state: &ControlState,
    user: &User,
    person: &'a Person,
    basis: impl FnOnce(&'a str) -> LinkBasis<'a>,
    (context, language): (&RequestContext, Language),
) -> Result<Credentials, ApiError> {
    let email = person.email.as_deref().ok_or(ApiError::ProviderEmailRequired)?;
    let by = by(context);
    let linking = state.store.link_identity(user.id, &person.identity, basis(email), &by).await?;
    match linking {
        Linking::Linked(credentials, is_new) => {
            if is_new {
                notify(state, &credentials.user, language, SecurityEvent::IdentityLinked);
            }
            Ok(credentials)
        }
        Linking::Taken | Linking::HasAnother => Err(ApiError::AccountNotLinked),
        // It has changed at this moment.
        Linking::Outdated => Err(ApiError::InvalidSignIn),
    }
}

/// Creates the account of a person who has none.
async fn create(
    state: &ControlState,
    sign_in: &SignIn,
    person: &Person,
    context: &RequestContext,
) -> Result<Credentials, ApiError> {
    let accounts = &state.identity.accounts;
    let may_create = sign_in.provider.settings().create_accounts.unwrap_or(accounts.registration);
    let plan = accounts.default_plan.clone().filter(|_| may_create);
    let plan = plan.ok_or(ApiError::RegistrationClosed)?;
    state.identity.may_register(context.address, clock::instant())?;
    if state.store.plan(&plan).await?.is_some_and(|plan| !plan.is_open_to(None)) {
        return Err(ApiError::RegistrationClosed);
    }
    let by = by(context);
    let new = NewUser {
        email: person.email.clone().ok_or(ApiError::ProviderEmailRequired)?,
        username: None,
        password_hash: None,
        email_verified: true,
        role: Role::User,
        plan,
        created_at: by.at,
    };
    let secret = state.identity.secret();
    match state.store.register_with_identity(&new, &person.identity, secret, &by).await {
        Ok(user) => Ok(Credentials { user, password_hash: None }),
        // Another sign-in of the same person was faster.
        Err(UserError::EmailTaken) => {
            let NewIdentity { issuer, subject, .. } = &person.identity;
            let found = state.store.identity_user(issuer, subject).await?;
            let found = found.ok_or(ApiError::AccountNotLinked)?;
            found.user.status.check()?;
            // It may be an older account, which was linked in the meantime and has a second factor.
            match check_factor(state, &found.user, None).await? {
                Some(_) => Ok(found),
                None => Err(ApiError::InvalidSignIn),
            }
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn link(
    state: &ControlState,
    current: &CurrentUser,
    person: &Person,
    language: Language,
) -> Result<(), ApiError> {
    let (user, basis) = (current.user.id, LinkBasis::Session);
    match state.store.link_identity(user, &person.identity, basis, &current.by).await? {
        Linking::Linked(credentials, true) => {
            notify(state, &credentials.user, language, SecurityEvent::IdentityLinked);
            Ok(())
        }
        Linking::Linked(_, false) => Ok(()),
        Linking::Taken => Err(ApiError::IdentityTaken),
        Linking::HasAnother => Err(ApiError::IdentityExists),
        Linking::Outdated => Err(ApiError::InvalidSignIn),
    }
}

/// Confirms the user of a session who has just signed in at the provider.
pub(super) async fn confirm(
    state: &ControlState,
    current: &CurrentUser,
    person: &Person,
    (signed_in, began_at): (&SignedIn, i64),
) -> Result<(), ApiError> {
    let NewIdentity { issuer, subject, .. } = &person.identity;
    let owner = state.store.identity_user(issuer, subject).await?;
    if owner.is_none_or(|owner| owner.user.id != current.user.id) {
        return Err(ApiError::IdentityTaken);
    }
    let began_at = Timestamp::from_second(began_at).unwrap_or(Timestamp::MAX);
    let is_recent = |at: Timestamp| began_at.duration_since(at) <= CLOCK_SKEW;
    if !signed_in.auth_time.is_some_and(is_recent) {
        return Err(ApiError::NotReauthenticated);
    }
    Ok(state.store.confirm_session(current.session, clock::now()).await?)
}

impl Person {
    pub(super) fn of(signed_in: &SignedIn, settings: &Oidc) -> Self {
        let SignedIn { subject, email, is_email_verified, .. } = signed_in;
        let readable = email.as_deref().and_then(|email| new_email(email).ok());
        let issuer = settings.issuer.clone();
        Self {
            identity: NewIdentity { issuer, subject: subject.clone(), email: readable.clone() },
            email: readable.filter(|_| *is_email_verified),
        }
    }

    /// Only people of the allowed domains may sign in or link.
    pub(super) fn check_domain(&self, settings: &Oidc) -> Result<(), ApiError> {
        let allowed = &settings.allowed_email_domains;
        let domain = self.email.as_ref().and_then(|email| email.rsplit_once('@'));
        let is_allowed = |(_, domain): (&str, &str)| allowed.iter().any(|known| known == domain);
        if allowed.is_empty() || domain.is_some_and(is_allowed) {
            return Ok(());
        }
        Err(ApiError::ProviderEmailRequired)
    }
}

/// Removes an identity of the logged-in user.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::OnlyWayIn`].
pub async fn unlink(
    state: &ControlState,
    current: &CurrentUser,
    id: &str,
    language: Language,
) -> Result<(), ApiError> {
    let id = Uuid::try_parse(id).map_err(|_| ApiError::NotFound("identity"))?;
    let sign_in = state.sign_in.clone();
    let issuer = sign_in.as_ref().map(|sign_in| sign_in.provider.settings().issuer.as_str());
    match state.store.unlink_identity(current.user.id, id, issuer, &current.by).await? {
        Unlinking::Done => {
            notify(state, &current.user, language, SecurityEvent::IdentityUnlinked);
            Ok(())
        }
        Unlinking::Absent => Err(ApiError::NotFound("identity")),
        Unlinking::OnlyWayIn => Err(ApiError::OnlyWayIn),
    }
}

/// The identity of a user at the configured provider.
pub async fn identity_at_provider(
    state: &ControlState,
    user: &User,
) -> Result<Option<ExternalIdentity>, ApiError> {
    let Some(sign_in) = &state.sign_in else { return Ok(None) };
    let issuer = &sign_in.provider.settings().issuer;
    let identities = state.store.identities_of(user.id).await?;
    Ok(identities.into_iter().find(|identity| identity.issuer == *issuer))
}

/// The request, before it is known who the person is; the store puts the user in.
fn by(context: &RequestContext) -> AuditContext {
    AuditContext { actor: Actor::Gateway, at: clock::now(), request_id: Some(context.request_id()) }
}
