//! What is left for a caller, as the rate-limit headers show it.

use crate::gateway::Gateway;
use crate::gateway::listener::session::ResponseHead;
use crate::gateway::response::refusal::Refusal;
use domain::caller::Caller;
use domain::day::Day;
use http::HeaderName;
use jiff::Timestamp;
use quota::backend::UsageSnapshot;
use quota::remaining::remaining;
use std::fmt;

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

/// The numbers of the rate-limit headers, OpenAI's and ours.
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

impl Gateway {
    /// The remaining budget of a caller.
    pub(crate) async fn budget(&self, caller: &Caller, now: Timestamp) -> Result<Budget, Refusal> {
        let day = Day::at(now, &caller.plan_limits.time_zone);
        let quota = &self.services.quota;
        let snapshot = quota.usage_snapshot(caller.user, Some(&caller.key), day, now).await;
        let snapshot = snapshot.map_err(|_| Refusal::QuotaUnavailable)?;
        Ok(Budget::of(caller, snapshot, day, now))
    }
}

impl Budget {
    /// The budget of a caller whose usage is `snapshot`.
    #[must_use]
    pub fn of(caller: &Caller, snapshot: UsageSnapshot, day: Day, now: Timestamp) -> Self {
        let left = remaining(&caller.plan_limits, &caller.key_limits, &snapshot);
        let ends_at = day.ends_at(&caller.plan_limits.time_zone).as_millisecond();
        Self {
            window_limit: u64::from(caller.plan_limits.window.capacity),
            window_left: left.window,
            window_full_in_ms: snapshot.window_full_in_ms,
            tokens_limit: left.tokens.limit,
            tokens_left: left.tokens.remaining(),
            requests_left: left.requests.remaining(),
            day_ends_in_ms: u64::try_from(ends_at - now.as_millisecond()).unwrap_or(0),
        }
    }

    /// The budget once a call has returned `tokens`, and its request too unless it `counted`.
    #[must_use]
    pub fn returned(self, tokens: u64, counted: bool) -> Self {
        Self {
            tokens_left: self.tokens_left.saturating_add(tokens),
            requests_left: self.requests_left + u64::from(!counted),
            ..self
        }
    }

    /// The budget once a call was charged `tokens`.
    #[must_use]
    pub fn charged(self, tokens: u64) -> Self {
        Self { tokens_left: self.tokens_left.saturating_sub(tokens), ..self }
    }

    /// Adds the headers: requests are the short window's, tokens the day's.
    pub fn write(&self, head: &mut ResponseHead) {
        let [limit_requests, left_requests, limit_tokens, left_tokens, ..] = &RATE_LIMITS;
        let [.., day_tokens, day_requests, reset_requests, reset_tokens] = &RATE_LIMITS;
        head.set_number(limit_requests, self.window_limit);
        head.set_number(left_requests, self.window_left);
        head.set_number(limit_tokens, self.tokens_limit);
        head.set_number(left_tokens, self.tokens_left);
        head.set_number(day_tokens, self.tokens_left);
        head.set_number(day_requests, self.requests_left);
        head.write(reset_requests, GoDuration(self.window_full_in_ms));
        head.write(reset_tokens, GoDuration(self.day_ends_in_ms));
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
