//! The background task that sends mails.
//!
//! One mail is sent at a time. While the mail server is unavailable all mails wait, for one second at first and
//! then twice as long after each attempt, up to five minutes; a mail that the server defers waits alone in the
//! same way. A mail is given up when the server refuses it, or when its link would have expired.

use super::message::Language;
use super::smtp::{SendError, Smtp};
use super::{Content, Job, Mail, QUEUE_LENGTH};
use crate::links::{LinkError, Links};
use domain::actor::AuditContext;
use domain::one_time_link::LinkPurpose;
use domain::user::{User, UserStatus};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Store, StoreError};
use system::clock;
use telemetry::labels::MailOutcome;
use telemetry::metrics::Metrics;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// What the task works with.
pub struct Delivery {
    pub smtp: Smtp,
    pub store: Arc<dyn Store>,
    pub links: Arc<Links>,
    pub metrics: Arc<Metrics>,
}

/// Mails that wait, and the state of the mail server.
#[derive(Default)]
struct MailBacklog {
    jobs: VecDeque<QueuedJob>,
    /// Attempts since the mail server was last available.
    outage_attempts: u32,
    /// No mail is sent before then.
    resume_at: Option<Instant>,
}

struct QueuedJob {
    job: Job,
    /// Attempts at this mail that the server deferred.
    attempts: u32,
    due: Instant,
}

/// Outcome of an attempt at a job.
enum Attempt {
    Sent,
    /// There is nothing to send: no account of the address.
    Nothing,
    GivenUp(String),
    /// To be repeated with this job, which may have become a mail meanwhile.
    Deferred(Job, String),
    /// All mails have to wait.
    Unavailable(Job, String),
}

impl Delivery {
    /// Sends mails until `stop`.
    pub async fn run(self, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut waiting = MailBacklog::default();
        while !stop.is_cancelled() {
            let now = clock::instant();
            if let Some(pending) = waiting.next(now) {
                let attempt = self.attempt(pending.job.clone(), clock::now());
                // An attempt that is cut off by the shutdown may have been accepted, and is not repeated.
                let Some(attempt) = stop.run_until_cancelled(attempt).await else { break };
                self.record(&mut waiting, &pending, attempt, clock::instant());
                continue;
            }
            let wait = waiting.wait(now).unwrap_or(LONGEST_WAIT);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(job) = jobs.recv(), if waiting.jobs.len() < QUEUE_LENGTH => {
                    waiting.jobs.push_back(QueuedJob { job, attempts: 0, due: now });
                }
                () = sleep(wait) => {}
            }
        }
        let lost = waiting.jobs.len() + jobs.len();
        if lost > 0 {
            tracing::warn!(mails = lost, "shutting down with unsent mails, which are lost");
        }
    }

    async fn attempt(&self, job: Job, now: Timestamp) -> Attempt {
        let mail = match job {
            Job::Mail(mail) => mail,
            Job::PasswordReset { ref email, language, asked_at } => {
                match self.reset_mail(email, language, asked_at, now).await {
                    Ok(Some(mail)) => mail,
                    Ok(None) => return Attempt::Nothing,
                    Err(error) => return Attempt::Deferred(job, error.to_string()),
                }
            }
        };
        if mail.until <= now {
            return Attempt::GivenUp("it could not be sent while it was of use".to_owned());
        }
        match self.smtp.send(&mail).await {
            Ok(()) => Attempt::Sent,
            Err(SendError::Refused(error)) => Attempt::GivenUp(error),
            Err(SendError::Deferred(error)) => Attempt::Deferred(Job::Mail(mail), error),
            Err(SendError::Unavailable(error)) => Attempt::Unavailable(Job::Mail(mail), error),
        }
    }

    /// The mail with a link that sets a new password; `None` if there is no active account of this address, or
    /// the request is too old.
    async fn reset_mail(
        &self,
        email: &str,
        language: Language,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Mail>, LinkError> {
        let purpose = LinkPurpose::ResetPassword;
        let is_old = purpose.lifetime().is_some_and(|end| now.duration_since(asked_at) > end);
        let found = if is_old { None } else { self.store.user_by_email(email).await? };
        let is_active = |user: &User| user.status == UserStatus::Active;
        let Some(user) = found.filter(is_active) else { return Ok(None) };
        let by = AuditContext::gateway(now);
        let issued = match self.links.issue(&*self.store, &user, purpose, &by).await {
            // No account has the address any more.
            Err(LinkError::Store(StoreError::Missing(_))) => return Ok(None),
            issued => issued?,
        };
        let until = issued.expires_at.unwrap_or(now);
        let content = issued.url.map(|url| Content::ResetPassword { url });
        Ok(content.map(|content| Mail { to: user.email, language, content, until }))
    }

    fn record(
        &self,
        waiting: &mut MailBacklog,
        pending: &QueuedJob,
        attempt: Attempt,
        now: Instant,
    ) {
        let kind = pending.job.kind();
        let count = |outcome| self.metrics.mails(kind, outcome).increment(1);
        match attempt {
            Attempt::Sent => {
                count(MailOutcome::Sent);
                if waiting.resume() {
                    tracing::info!("mail server available again");
                }
            }
            Attempt::Nothing => {}
            Attempt::GivenUp(error) => {
                count(MailOutcome::Failed);
                tracing::warn!(kind = kind.as_str(), error, "mail could not be delivered");
            }
            Attempt::Deferred(job, error) => {
                count(MailOutcome::Retried);
                tracing::debug!(kind = kind.as_str(), error, "mail deferred");
                waiting.defer(QueuedJob { job, ..*pending }, now);
            }
            Attempt::Unavailable(job, error) => {
                count(MailOutcome::Retried);
                let mails = waiting.jobs.len() + 1;
                if waiting.suspend(QueuedJob { job, ..*pending }, now) {
                    tracing::warn!(mails, error, "mail server unavailable, retrying");
                }
            }
        }
    }
}

impl MailBacklog {
    /// Takes the next mail to send.
    fn next(&mut self, now: Instant) -> Option<QueuedJob> {
        if self.resume_at.is_some_and(|at| at > now) {
            return None;
        }
        let place = self.jobs.iter().position(|pending| pending.due <= now)?;
        self.jobs.remove(place)
    }

    /// Time until a waiting mail may be sent; `None` if none waits.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let due = self.jobs.iter().map(|pending| pending.due).min()?;
        Some(self.resume_at.map_or(due, |at| due.max(at)).saturating_duration_since(now))
    }

    /// Lets one mail wait.
    fn defer(&mut self, pending: QueuedJob, now: Instant) {
        let due = now + backoff(pending.attempts);
        self.jobs.push_back(QueuedJob {
            attempts: pending.attempts.saturating_add(1),
            due,
            ..pending
        });
    }

    /// Lets all mails wait. True at the beginning of an outage.
    fn suspend(&mut self, pending: QueuedJob, now: Instant) -> bool {
        self.resume_at = Some(now + backoff(self.outage_attempts));
        let is_new = self.outage_attempts == 0;
        self.outage_attempts = self.outage_attempts.saturating_add(1);
        // At the end: a mail at which the server hangs must not keep the others waiting.
        self.jobs.push_back(pending);
        is_new
    }

    /// Records that the mail server took a mail. True at the end of an outage.
    fn resume(&mut self) -> bool {
        self.resume_at = None;
        std::mem::take(&mut self.outage_attempts) > 0
    }
}

/// The wait after so many attempts.
fn backoff(attempts: u32) -> Duration {
    SHORTEST_WAIT.saturating_mul(1 << attempts.min(20)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(name: &str, due: Instant) -> QueuedJob {
        let mail = Mail::email_changed(name, Language::English, Timestamp::UNIX_EPOCH);
        QueuedJob { job: Job::Mail(mail), attempts: 0, due }
    }

    fn name(pending: Option<QueuedJob>) -> Option<String> {
        pending.map(|pending| match pending.job {
            Job::Mail(mail) => mail.to,
            Job::PasswordReset { email, .. } => email,
        })
    }

    #[test]
    fn while_the_server_is_unavailable_all_mails_wait_longer_each_time() {
        let mut now = clock::instant();
        let mut waiting = MailBacklog::default();
        waiting.jobs.extend([pending("a", now), pending("b", now)]);
        for (place, seconds) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].into_iter().enumerate()
        {
            let next = waiting.next(now).unwrap();
            assert_eq!(waiting.suspend(next, now), place == 0, "said once");
            let wait = Duration::from_secs(seconds);
            assert_eq!(waiting.wait(now), Some(wait));
            assert!(waiting.next(now + Duration::from_secs(seconds - 1)).is_none());
            now += wait;
        }
        assert_eq!(
            name(waiting.next(now)).as_deref(),
            Some("b"),
            "nothing is lost, and each has its turn"
        );
        assert!(waiting.resume(), "the outage is over");
        assert!(!waiting.resume());
        assert_eq!(name(waiting.next(now)).as_deref(), Some("a"));
        assert_eq!(waiting.wait(now), None);
    }

    #[test]
    fn a_deferred_mail_holds_up_no_other() {
        let now = clock::instant();
        let mut waiting = MailBacklog::default();
        waiting.jobs.extend([pending("a", now), pending("b", now)]);
        let first = waiting.next(now).unwrap();
        waiting.defer(first, now);
        assert_eq!(name(waiting.next(now)).as_deref(), Some("b"));
        assert_eq!(waiting.wait(now), Some(Duration::from_secs(1)));
        let again = waiting.next(now + Duration::from_secs(1)).unwrap();
        waiting.defer(again, now);
        assert_eq!(waiting.wait(now), Some(Duration::from_secs(2)));
    }
}
