//! Mails to users: links that verify, reset and invite, and notices.
//!
//! A request only puts a mail into a bounded queue; [`delivery`] sends it in the background and repeats failed
//! attempts. So no request waits for a mail server, and none shows by its time whether a mail was sent. What is
//! in the queue is lost if the process dies: the user asks for another mail then.

pub mod message;
pub mod smtp;
pub mod delivery;

use jiff::{SignedDuration, Timestamp};
use message::Language;
use std::sync::Arc;
use telemetry::labels::{MailKind, MailOutcome};
use telemetry::metrics::Metrics;
use tokio::sync::mpsc;

/// Mails that may wait for their first attempt.
pub const QUEUE_LENGTH: usize = 1000;

/// Time after which a notice is of no use any more.
const NOTICE_LIFETIME: SignedDuration = SignedDuration::from_hours(48);

/// Where requests put mails.
#[derive(Clone)]
pub struct Mailer {
    /// `None` if no mail server is configured.
    queue: Option<mpsc::Sender<Job>>,
    metrics: Arc<Metrics>,
}

/// Work for the background task.
#[derive(Debug, Clone)]
pub enum Job {
    Mail(Mail),
    /// Mails a link that sets a new password, if there is an active account of this address. Looked up in the
    /// background, so that a request takes the same time in either case.
    PasswordReset {
        email: String,
        language: Language,
        asked_at: Timestamp,
    },
}

/// A mail to one person. Prints nothing of its content, which holds a secret.
#[derive(Clone)]
pub struct Mail {
    pub to: String,
    pub language: Language,
    pub content: Content,
    /// The mail is given up if it could not be sent by then.
    pub until: Timestamp,
}

/// What a mail says.
#[derive(Clone)]
pub enum Content {
    /// A link that verifies the address.
    VerifyEmail { url: String },
    /// A link that sets a new password.
    ResetPassword { url: String },
    /// A link that sets the first password.
    Invitation { url: String },
    /// The account has another address now.
    EmailChanged,
    /// Something that protects the account was changed.
    Security(SecurityEvent),
}

/// A change that the owner of an account is notified of, because a thief of the account would make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityEvent {
    PasswordChanged,
    SecondFactorEnabled,
    SecondFactorRemoved,
    RecoveryCodesReplaced,
    IdentityLinked,
    IdentityUnlinked,
}

/// The reason for which a mail was not put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    #[error("no mail server is configured")]
    Off,
    #[error("{QUEUE_LENGTH} mails wait for the mail server")]
    Full,
}

impl Mailer {
    /// A mailer of a gateway without a mail server: it takes no mails.
    #[must_use]
    pub fn off(metrics: Arc<Metrics>) -> Self {
        Self { queue: None, metrics }
    }

    /// A mailer, and the queue to be worked off by [`delivery::Delivery::run`].
    #[must_use]
    pub fn queued(metrics: Arc<Metrics>) -> (Self, mpsc::Receiver<Job>) {
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        (Self { queue: Some(queue), metrics }, jobs)
    }

    /// True if a mail server is configured.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Puts a job into the queue.
    ///
    /// # Errors
    /// [`NotQueued`].
    pub fn send(&self, job: Job) -> Result<(), NotQueued> {
        let Some(queue) = &self.queue else { return Err(NotQueued::Off) };
        let kind = job.kind();
        queue.try_send(job).map_err(|_| {
            self.metrics.mails(kind, MailOutcome::Dropped).increment(1);
            tracing::warn!(kind = kind.as_str(), "mail dropped, because too many are waiting");
            NotQueued::Full
        })
    }
}

impl Mail {
    /// The notice to the former address of an account.
    #[must_use]
    pub fn email_changed(old: &str, language: Language, now: Timestamp) -> Self {
        Self::notice(old, language, Content::EmailChanged, now)
    }

    /// The notice of a change to the owner of an account.
    #[must_use]
    pub fn security(to: &str, language: Language, event: SecurityEvent, now: Timestamp) -> Self {
        Self::notice(to, language, Content::Security(event), now)
    }

    fn notice(to: &str, language: Language, content: Content, now: Timestamp) -> Self {
        let until = now.checked_add(NOTICE_LIFETIME).unwrap_or(Timestamp::MAX);
        Self { to: to.to_owned(), language, content, until }
    }
}

impl Content {
    fn kind(&self) -> MailKind {
        match self {
            Self::VerifyEmail { .. } => MailKind::VerifyEmail,
            Self::ResetPassword { .. } => MailKind::ResetPassword,
            Self::Invitation { .. } => MailKind::Invitation,
            Self::EmailChanged => MailKind::EmailChanged,
            Self::Security(_) => MailKind::SecurityNotice,
        }
    }
}

impl Job {
    fn kind(&self) -> MailKind {
        match self {
            Self::Mail(mail) => mail.content.kind(),
            Self::PasswordReset { .. } => MailKind::ResetPassword,
        }
    }
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mail({})", self.content.kind().as_str())
    }
}
