//! Writing to the caller: heads with the gateway's own headers, refusals, whole bodies.

use crate::gateway::call::early_keepalive::{self, Early, Sent};
use crate::gateway::endpoint::{Endpoint, Head};
use crate::gateway::headers;
use crate::gateway::listener::session::{Gone, ReplyHead, Session};
use crate::gateway::response::refusal::{Answer, Refusal};
use bytes::Bytes;
use domain::caller::Caller;
use domain::day::Day;
use http::header::{self, HeaderName};
use jiff::Timestamp;
use quota::backend::Standing;
use quota::remaining::remaining;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use system::clock;
use wire::error::ErrorBody;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) static PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");
static RATE_LIMITS: [HeaderName; 8] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-kx-quota-day-tokens-remaining"),
    HeaderName::from_static("x-kx-quota-day-requests-remaining"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Where replies of one call go.
pub struct Replier<'a> {
    pub head: &'a Head,
    /// Origins that may read replies; `None` = any.
    pub cors: Option<&'a [String]>,
    /// What may begin the reply before its upstream does; unset where nothing does.
    pub early: OnceLock<Arc<Early>>,
}

/// What the rate-limit headers tell, OpenAI's and ours.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub window_limit: u64,
    pub window_left: u64,
    pub window_full_in_ms: u64,
    pub tokens_limit: u64,
    pub tokens_left: u64,
    pub requests_left: u64,
    pub day_ends_in_ms: u64,
}

impl Replier<'_> {
    /// The head of a reply, with what every reply of the data plane carries. `spent` is the
    /// gateway's own share of the time.
    #[must_use]
    pub fn head(&self, status: u16, spent: Duration) -> ReplyHead {
        let mut head = ReplyHead::new(status);
        head.write(&REQUEST_ID, self.head.id);
        head.write(&PROCESS_TIME, Seconds(spent));
        headers::add_protection(&mut head);
        headers::add_cors(&mut head, self.head.origin.as_ref(), self.cors);
        head
    }

    /// What of the reply was sent before its upstream began.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.early.get().map_or(Sent::Nothing, |early| early.sent())
    }

    /// Sends a refusal, with what is known of the caller's budget. In a stream that has begun it is an event,
    /// and the reply ends as a cut one.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn refuse(
        &self,
        session: &mut Session,
        refusal: Refusal,
        budget: Option<Budget>,
    ) -> Result<u16, Gone> {
        let Answer { status, body, headers, close } = refusal.answer();
        if self.sent() != Sent::Nothing {
            return self.refuse_in_band(session, &body).await.map(|()| status);
        }
        if close {
            session.close_after_reply();
        }
        let mut head = self.head(status, self.elapsed());
        if let Some(budget) = budget {
            budget.write(&mut head);
        }
        for (name, value) in headers {
            head.set(name, value);
        }
        let body = self.head.endpoint.error(status, &body);
        self.json(session, head, body.into()).await?;
        Ok(status)
    }

    /// Ends a stream that has begun with an error.
    async fn refuse_in_band(&self, session: &mut Session, error: &ErrorBody) -> Result<(), Gone> {
        session.close_after_reply();
        let Endpoint::Call(surface) = self.head.endpoint else { return Ok(()) };
        if self.sent() == Sent::Torn {
            session.abort();
            return Err(Gone);
        }
        session.send(surface.stream_reader(true).error(error), false).await?;
        session.cut_off().await;
        Ok(())
    }

    /// Sends a whole JSON body.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn json(
        &self,
        session: &mut Session,
        head: ReplyHead,
        body: Bytes,
    ) -> Result<(), Gone> {
        self.whole(session, head, body).await
    }

    /// Sends a whole body, as JSON where `head` names no type. In a stream that has begun it is its one event.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn whole(
        &self,
        session: &mut Session,
        mut head: ReplyHead,
        body: Bytes,
    ) -> Result<(), Gone> {
        match self.sent() {
            Sent::Nothing => {}
            Sent::Head => return session.send(early_keepalive::event(&body), true).await,
            Sent::Torn => {
                session.abort();
                return Err(Gone);
            }
        }
        if !body.is_empty() && !head.headers.contains_key(header::CONTENT_TYPE) {
            head.set(header::CONTENT_TYPE, "application/json");
        }
        session.reply(head, body).await
    }

    /// Time since the head arrived.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        clock::instant().duration_since(self.head.started)
    }
}

impl Budget {
    /// What is left for a caller with `standing`.
    #[must_use]
    pub fn of(caller: &Caller, standing: Standing, day: Day, now: Timestamp) -> Self {
        let left = remaining(&caller.plan_limits, &caller.key_limits, &standing);
        let ends_at = day.ends_at(&caller.plan_limits.time_zone).as_millisecond();
        Self {
            window_limit: u64::from(caller.plan_limits.window.capacity),
            window_left: left.window,
            window_full_in_ms: standing.window_full_in_ms,
            tokens_limit: left.tokens.limit,
            tokens_left: left.tokens.remaining(),
            requests_left: left.requests.remaining(),
            day_ends_in_ms: u64::try_from(ends_at - now.as_millisecond()).unwrap_or(0),
        }
    }

    /// After a call that gave back what it held, and its request too unless that `counted`.
    #[must_use]
    pub fn returned(self, tokens: u64, counted: bool) -> Self {
        Self {
            tokens_left: self.tokens_left.saturating_add(tokens),
            requests_left: self.requests_left + u64::from(!counted),
            ..self
        }
    }

    /// After a call was charged so much.
    #[must_use]
    pub fn charged(self, tokens: u64) -> Self {
        Self { tokens_left: self.tokens_left.saturating_sub(tokens), ..self }
    }

    /// Adds the headers: requests are the short window's, tokens the day's.
    pub fn write(&self, head: &mut ReplyHead) {
        let [limit_requests, left_requests, limit_tokens, left_tokens, ..] = &RATE_LIMITS;
        let [.., day_tokens, day_requests, reset_requests, reset_tokens] = &RATE_LIMITS;
        head.set(limit_requests, self.window_limit);
        head.set(left_requests, self.window_left);
        head.set(limit_tokens, self.tokens_limit);
        head.set(left_tokens, self.tokens_left);
        head.set(day_tokens, self.tokens_left);
        head.set(day_requests, self.requests_left);
        head.write(reset_requests, GoDuration(self.window_full_in_ms));
        head.write(reset_tokens, GoDuration(self.day_ends_in_ms));
    }
}

/// A time in seconds with microseconds, as `x-process-time` shows it.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// Milliseconds as OpenAI's reset headers show them: `12ms`, `1s`, `6m0s`, `1h0m0s`.
#[derive(Debug, Clone, Copy)]
struct GoDuration(u64);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        match ms {
            0 => return f.write_str("0s"),
            1..1000 => return write!(f, "{ms}ms"),
            _ => {}
        }
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match ms % 1000 {
            0 => write!(f, "{seconds}s"),
            rest if rest % 100 == 0 => write!(f, "{seconds}.{}s", rest / 100),
            rest if rest % 10 == 0 => write!(f, "{seconds}.{:02}s", rest / 10),
            rest => write!(f, "{seconds}.{rest:03}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (ms, text) in [
            (0, "0s"),
            (12, "12ms"),
            (999, "999ms"),
            (1000, "1s"),
            (3890, "3.89s"),
            (3900, "3.9s"),
            (3005, "3.005s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (86_399_500, "23h59m59.5s"),
        ] {
            assert_eq!(GoDuration(ms).to_string(), text);
        }
    }
}
