//! What one-time links do: verify an e-mail address, set a new password, accept an invitation, create the first
//! admin. The JSON routes and the pages call these functions.
//!
//! A link is compared first and used last: between the two lies the hashing of the password, which no
//! request without a valid link may cause. The store uses it and applies its effect in one transaction.

use super::api_error::ApiError;
use super::auth::verified_user::VerifiedUser;
use super::http::middleware::RequestContext;
use super::state::ControlState;
use crate::links::IssuedLink;
use crate::mail::message::Language;
use crate::mail::{Content, Job, Mail, SecurityEvent};
use domain::actor::{Actor, AuditContext};
use domain::one_time_link::LinkPurpose;
use domain::user::{Role, User};
use std::net::IpAddr;
use store::one_time_links::{FirstAdmin, PresentedLink, SetupState};
use store::sessions::Credentials;
use store::{NewUser, UserChange};
use system::clock;

/// The user whom a valid link is for, for a page to show; the link is not used.
///
/// # Errors
/// [`ApiError::InvalidLink`].
pub async fn link_user(
    state: &ControlState,
    token: &str,
    purpose: LinkPurpose,
) -> Result<User, ApiError> {
    open_link(state, token, purpose).await.map(|(_, user)| user)
}

/// Mails a link that verifies the address of the user, unless it is verified or mails are throttled.
///
/// # Errors
/// [`ApiError::AlreadyVerified`], [`ApiError::MailNotConfigured`], [`ApiError::MailQueueFull`],
/// [`ApiError::TooManyAttempts`].
pub async fn send_verification(
    state: &ControlState,
    user: &User,
    (address, language): (IpAddr, Language),
) -> Result<(), ApiError> {
    if user.email_verified_at.is_some() {
        return Err(ApiError::AlreadyVerified);
    }
    if !state.mailer.is_on() {
        return Err(ApiError::MailNotConfigured);
    }
    state.identity.may_mail(&user.email, address, clock::instant())?;
    let by = AuditContext::gateway(clock::now());
    let purpose = LinkPurpose::VerifyEmail;
    let issued = state.links.issue(&*state.store, user, purpose, &by).await?;
    mail_link(state, &user.email, language, &issued, |url| Content::VerifyEmail { url })
}

/// The same for a new address, whose user did not ask for it: a mail that cannot be sent now is no error, for it
/// can be requested later. Does nothing without a mail server.
pub async fn offer_verification(
    state: &ControlState,
    user: &User,
    (address, language): (IpAddr, Language),
) {
    if !state.mailer.is_on() || user.email_verified_at.is_some() {
        return;
    }
    if let Err(error) = send_verification(state, user, (address, language)).await {
        tracing::warn!(user = %user.id, %error, "no mail to verify the e-mail address was sent");
    }
}

/// Verifies the address that the link was mailed to.
///
/// # Errors
/// [`ApiError::InvalidLink`].
pub async fn verify_email(
    state: &ControlState,
    token: &str,
    context: &RequestContext,
) -> Result<User, ApiError> {
    let (link, _) = open_link(state, token, LinkPurpose::VerifyEmail).await?;
    let by = by(context);
    let change = UserChange { email_verified_at: Some(by.at), ..UserChange::default() };
    redeem(state, &link, &change, &by, context).await
}

/// Mails a link that sets a new password to `email`, if it is the address of an active account. The answer and
/// its time are the same in either case: the account is looked up in the background.
///
/// # Errors
/// [`ApiError::MailNotConfigured`], [`ApiError::MailQueueFull`], [`ApiError::TooManyAttempts`]; none depends on
/// the account.
pub fn forgot_password(
    state: &ControlState,
    email: &str,
    (address, language): (IpAddr, Language),
) -> Result<(), ApiError> {
    if !state.mailer.is_on() {
        return Err(ApiError::MailNotConfigured);
    }
    state.identity.may_mail(email, address, clock::instant())?;
    let asked_at = clock::now();
    Ok(state.mailer.send(Job::PasswordReset { email: email.to_owned(), language, asked_at })?)
}

/// Sets a new password, and ends all sessions and links of the user. The address that the link was mailed to
/// counts as verified. No session begins: the user logs in, with the second factor if there is one.
///
/// # Errors
/// [`ApiError::InvalidLink`], [`ApiError::Busy`].
pub async fn reset_password(
    state: &ControlState,
    token: &str,
    (new_password, language): (&str, Language),
    context: &RequestContext,
) -> Result<User, ApiError> {
    let (link, _) = open_link(state, token, LinkPurpose::ResetPassword).await?;
    let password_hash = Some(state.identity.passwords.hash(new_password).await?);
    let by = by(context);
    let email_verified_at = Some(by.at);
    let change = UserChange { password_hash, email_verified_at, ..UserChange::default() };
    let user = redeem(state, &link, &change, &by, context).await?;
    notify(state, &user, language, SecurityEvent::PasswordChanged);
    Ok(user)
}

/// Sets the password of an invited user, and the username if one is given. The address counts as verified,
/// because an admin or the operator has named it. No session begins.
///
/// # Errors
/// [`ApiError::InvalidLink`], [`ApiError::AlreadyTaken`], [`ApiError::Busy`].
pub async fn accept_invitation(
    state: &ControlState,
    token: &str,
    (password, username): (&str, Option<String>),
    language: Language,
    context: &RequestContext,
) -> Result<User, ApiError> {
    let (link, _) = open_link(state, token, LinkPurpose::Invitation).await?;
    let password_hash = Some(state.identity.passwords.hash(password).await?);
    let by = by(context);
    let change = UserChange {
        password_hash,
        username: username.map(Some),
        email_verified_at: Some(by.at),
        ..UserChange::default()
    };
    let user = redeem(state, &link, &change, &by, context).await?;
    notify(state, &user, language, SecurityEvent::PasswordChanged);
    Ok(user)
}

/// An invitation link. It is shown once, also if its mail could not be sent.
pub struct Invitation {
    pub link: IssuedLink,
    /// True if the mail with the link is on its way.
    pub is_mailed: bool,
    /// The reason for which a mail that was asked for is not sent.
    pub mail_problem: Option<ApiError>,
}

/// A link by which the user sets a password, in place of an earlier one; mailed as well if `mail_in` is given.
///
/// # Errors
/// With `mail_in`: [`ApiError::MailNotConfigured`], before a link is made.
pub async fn invite(
    state: &ControlState,
    user: &User,
    mail_in: Option<Language>,
    by: &AuditContext,
) -> Result<Invitation, ApiError> {
    if mail_in.is_some() && !state.mailer.is_on() {
        return Err(ApiError::MailNotConfigured);
    }
    let purpose = LinkPurpose::Invitation;
    let link = state.links.issue(&*state.store, user, purpose, by).await?;
    let mailed = mail_in.map(|language| {
        mail_link(state, &user.email, language, &link, |url| Content::Invitation { url })
    });
    let is_mailed = matches!(mailed, Some(Ok(())));
    Ok(Invitation { link, is_mailed, mail_problem: mailed.and_then(Result::err) })
}

/// To be called after a change of a user: mails a notice to the former address, and a link to the new one, if
/// the address has changed. Does nothing without a mail server.
pub async fn after_change(
    state: &ControlState,
    before: &User,
    after: &User,
    (address, language): (IpAddr, Language),
) {
    if before.email == after.email || !state.mailer.is_on() {
        return;
    }
    let notice = Mail::email_changed(&before.email, language, clock::now());
    if let Err(error) = state.mailer.send(Job::Mail(notice)) {
        tracing::warn!(user = %after.id, %error, "no notice was sent to the former e-mail address");
    }
    offer_verification(state, after, (address, language)).await;
}

/// True if a link may create the first admin now; the link is not used.
///
/// # Errors
/// [`ApiError::InvalidLink`]; [`ApiError::AdminExists`] for a valid link of a gateway that has an admin.
pub async fn check_setup(state: &ControlState, token: &str) -> Result<(), ApiError> {
    open_setup(state, token).await.map(drop)
}

/// Creates the first admin. Of two at the same time, one succeeds.
///
/// # Errors
/// As [`check_setup`]; [`ApiError::AlreadyTaken`] if a user has this address, [`ApiError::Busy`].
pub async fn create_first_admin(
    state: &ControlState,
    token: &str,
    (email, password): (String, &str),
    context: &RequestContext,
) -> Result<VerifiedUser, ApiError> {
    let link = open_setup(state, token).await?;
    let plan = match &state.identity.accounts.default_plan {
        Some(plan) => plan.clone(),
        None => return Err(ApiError::NotFound("plan")),
    };
    let password_hash = Some(state.identity.passwords.hash(password).await?);
    let by = by(context);
    let new = NewUser {
        email,
        username: None,
        password_hash: password_hash.clone(),
        // The link is in the log, which only the operator reads.
        email_verified: true,
        role: Role::Admin,
        plan,
        created_at: by.at,
    };
    match state.store.create_first_admin(&link, &new, &by).await? {
        FirstAdmin::Created(user) => {
            context.set_user(user.id);
            Ok(VerifiedUser::without_factor(Credentials { user, password_hash }))
        }
        FirstAdmin::AdminExists => Err(ApiError::AdminExists),
        FirstAdmin::InvalidLink => Err(ApiError::InvalidLink),
    }
}

/// Fails unless the user may have keys.
///
/// # Errors
/// [`ApiError::EmailUnverified`].
pub fn require_verified(state: &ControlState, user: &User) -> Result<(), ApiError> {
    let is_required = state.identity.accounts.require_verified_email;
    if is_required && user.email_verified_at.is_none() {
        return Err(ApiError::EmailUnverified);
    }
    Ok(())
}

/// Mails a notice of a change that has been made to the owner of the account. Does nothing without a mail server;
/// a notice that cannot be queued is logged, because the change stands.
pub fn notify(state: &ControlState, user: &User, language: Language, event: SecurityEvent) {
    if !state.mailer.is_on() {
        return;
    }
    let notice = Mail::security(&user.email, language, event, clock::now());
    if let Err(error) = state.mailer.send(Job::Mail(notice)) {
        tracing::warn!(user = %user.id, %error, "no notice of a change of the account was sent");
    }
}

async fn open_link(
    state: &ControlState,
    token: &str,
    purpose: LinkPurpose,
) -> Result<(PresentedLink, User), ApiError> {
    let link = state.links.presented(token, purpose).ok_or(ApiError::InvalidLink)?;
    let user = state.store.link_user(&link, clock::now()).await?;
    Ok((link, user.ok_or(ApiError::InvalidLink)?))
}

async fn open_setup(state: &ControlState, token: &str) -> Result<PresentedLink, ApiError> {
    let link = state.links.presented(token, LinkPurpose::FirstAdmin);
    let link = link.ok_or(ApiError::InvalidLink)?;
    match state.store.setup_state(&link).await? {
        SetupState::Open => Ok(link),
        SetupState::AdminExists => Err(ApiError::AdminExists),
        SetupState::InvalidLink => Err(ApiError::InvalidLink),
    }
}

async fn redeem(
    state: &ControlState,
    link: &PresentedLink,
    change: &UserChange,
    by: &AuditContext,
    context: &RequestContext,
) -> Result<User, ApiError> {
    let changed = state.store.redeem_link(link, change, by).await?;
    let user = changed.ok_or(ApiError::InvalidLink)?;
    context.set_user(user.id);
    Ok(user)
}

fn mail_link(
    state: &ControlState,
    to: &str,
    language: Language,
    issued: &IssuedLink,
    content: impl FnOnce(String) -> Content,
) -> Result<(), ApiError> {
    // Where mails are sent the address is configured.
    let url = issued.url.clone().ok_or(ApiError::MailNotConfigured)?;
    let until = issued.expires_at.unwrap_or(jiff::Timestamp::MAX);
    let mail = Mail { to: to.to_owned(), language, content: content(url), until };
    Ok(state.mailer.send(Job::Mail(mail))?)
}

/// The request, before it is known whose link it uses; the store puts the user in.
fn by(context: &RequestContext) -> AuditContext {
    AuditContext { actor: Actor::Gateway, at: clock::now(), request_id: Some(context.request_id()) }
}
