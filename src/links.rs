//! One-time links: the only place that makes their tokens and addresses.
//!
//! An address begins with the configured `public_url`. It never depends on a request: a forged `Host` header
//! must not lead the reader of a mail to another server.

use domain::actor::AuditContext;
use domain::id::LinkId;
use domain::key::{NoRandomness, Pepper};
use domain::one_time_link::{LinkPurpose, LinkToken};
use domain::server_secret::ServerSecret;
use domain::user::User;
use jiff::Timestamp;
use store::one_time_links::{NewLink, PresentedLink};
use store::{OneTimeLinks, StoreError};

/// Makes links and reads presented tokens.
#[derive(Debug, Clone)]
pub struct Links {
    /// Keys the hashes of tokens.
    secret: ServerSecret,
    public_url: Option<String>,
}

/// A new link, to be sent or shown once. Prints nothing, because it is a secret.
pub struct IssuedLink {
    /// The path of the page with the token in its query.
    pub path: String,
    /// The whole address; `None` if the gateway does not know its own.
    pub url: Option<String>,
    /// `None` = no end.
    pub expires_at: Option<Timestamp>,
}

/// The reason for which no link was made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Links {
    /// Links of the gateway at `public_url`, whose hashes are keyed with the server's secret.
    #[must_use]
    pub fn new(pepper: &Pepper, public_url: Option<String>) -> Self {
        Self { secret: ServerSecret::of(pepper), public_url }
    }

    /// The address under which callers reach the gateway; `None` = not known.
    #[must_use]
    pub fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// A new link of a user; the user's earlier one of the same purpose ends.
    ///
    /// # Errors
    /// [`LinkError`]; [`StoreError::Missing`] if the user's e-mail address has changed meanwhile.
    pub async fn issue(
        &self,
        store: &dyn OneTimeLinks,
        user: &User,
        purpose: LinkPurpose,
        by: &AuditContext,
    ) -> Result<IssuedLink, LinkError> {
        let (link, issued) = self.new_link(purpose, Some(user.email.clone()), by.at)?;
        store.add_link(user.id, &link, by).await?;
        Ok(issued)
    }

    /// A new link that creates the first admin, in place of all earlier ones; `None` if there is an admin.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn issue_setup(
        &self,
        store: &dyn OneTimeLinks,
        now: Timestamp,
    ) -> Result<Option<IssuedLink>, LinkError> {
        let (link, issued) = self.new_link(LinkPurpose::FirstAdmin, None, now)?;
        Ok(store.replace_setup_link(&link).await?.then_some(issued))
    }

    /// A presented token, to be compared with the stored link; `None` if it cannot be one of ours.
    #[must_use]
    pub fn presented(&self, token: &str, purpose: LinkPurpose) -> Option<PresentedLink> {
        let token = LinkToken::parse(token, purpose).ok()?;
        let digest = token.digest(&self.secret);
        Some(PresentedLink { id: token.id(), purpose, digest })
    }

    fn new_link(
        &self,
        purpose: LinkPurpose,
        email: Option<String>,
        now: Timestamp,
    ) -> Result<(NewLink, IssuedLink), NoRandomness> {
        let token = LinkToken::generate(LinkId::new(), purpose)?;
        let end = |lifetime| now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        let expires_at = purpose.lifetime().map(end);
        let path = format!("{}?token={}", page(purpose), token.reveal());
        let url = self.public_url.as_ref().map(|public| format!("{public}{path}"));
        let digest = token.digest(&self.secret);
        let link = NewLink { id: token.id(), purpose, digest, email, created_at: now, expires_at };
        Ok((link, IssuedLink { path, url, expires_at }))
    }
}

/// The page of the console that uses links of a purpose.
fn page(purpose: LinkPurpose) -> &'static str {
    match purpose {
        LinkPurpose::VerifyEmail => "/console/verify",
        LinkPurpose::ResetPassword => "/console/reset",
        LinkPurpose::Invitation => "/console/invitation",
        LinkPurpose::FirstAdmin => "/console/setup",
    }
}
