//! The numbers in a refusal by quota: the limits, what a call needs, what is left, and when the day ends.

use domain::caller::Caller;
use domain::plan::Window;
use jiff::{Timestamp, Unit};
use quota::backend::UsageSnapshot;
use quota::remaining::{Allotment, remaining};
use serde_json::{Value, json};

/// The limits of a caller, what a call needed, and what was left of the day when it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaNumbers {
    /// Tokens that the call needs at least, where they are known: its prompt and the shortest output.
    pub needed: Option<u64>,
    pub tokens: Allotment,
    pub requests: Allotment,
    pub window: Window,
    pub concurrent_streams: u32,
    pub resets_at: Timestamp,
    /// Milliseconds until then.
    pub resets_in_ms: u64,
}

impl QuotaNumbers {
    /// The numbers of `caller`, whose usage is `snapshot`, and whose day ends at `resets_at`.
    #[must_use]
    pub fn new(
        caller: &Caller,
        snapshot: &UsageSnapshot,
        needed: Option<u64>,
        resets_at: Timestamp,
        resets_in_ms: u64,
    ) -> Self {
        let plan = &caller.plan_limits;
        let left = remaining(plan, &caller.key_limits, snapshot);
        let (window, concurrent_streams) = (plan.window, plan.concurrent_streams);
        let (tokens, requests) = (left.tokens, left.requests);
        Self { needed, tokens, requests, window, concurrent_streams, resets_at, resets_in_ms }
    }

    /// The limit of the window, in brackets.
    #[must_use]
    pub fn window(&self) -> String {
        let Window { capacity, refill_seconds } = self.window;
        format!(" (limit: {} per {refill_seconds} s)", grouped(capacity.into()))
    }

    /// The limit of concurrent streams, in brackets.
    #[must_use]
    pub fn streams(&self) -> String {
        format!(" (limit: {})", grouped(self.concurrent_streams.into()))
    }

    /// The message for a call that the day's tokens do not suffice for.
    #[must_use]
    pub fn tokens_message(&self) -> String {
        self.missing_today().map_or_else(|| self.never_fits(), |what| self.with_reset(&what))
    }

    /// The message for a call beyond the day's requests.
    #[must_use]
    pub fn requests_message(&self) -> String {
        let of = grouped(self.requests.limit);
        self.with_reset(&format!("All of today's {of} requests are used."))
    }

    /// The same numbers for programs, in tokens and requests.
    #[must_use]
    pub fn details(&self) -> Value {
        let of = |allotment: &Allotment| {
            json!({
                "limit": allotment.limit,
                "used": allotment.used,
                "reserved": allotment.reserved,
                "remaining": allotment.remaining(),
            })
        };
        json!({
            "tokens_needed": self.needed,
            "can_ever_fit": self.can_ever_fit(),
            "tokens": of(&self.tokens),
            "requests": of(&self.requests),
            "resets_at": self.resets_at.round(Unit::Second).unwrap_or(self.resets_at).to_string(),
            "resets_in_seconds": self.resets_in_ms.div_ceil(1000),
        })
    }

    /// True if the call fits into a whole day. `None` if its prompt was counted no further than what was left.
    fn can_ever_fit(&self) -> Option<bool> {
        let is_known = self.needed.is_some() || self.exceeds_the_day();
        is_known.then(|| !self.exceeds_the_day())
    }

    /// True if the call is known not to fit into any day.
    fn exceeds_the_day(&self) -> bool {
        match self.needed {
            Some(needed) => needed > self.tokens.limit,
            // Its prompt was counted as far as what is left, which is the whole day.
            None => self.tokens.used == 0,
        }
    }

    fn with_reset(&self, what: &str) -> String {
        let resets_at = self.resets_at.round(Unit::Second).unwrap_or(self.resets_at);
        format!("{what} The quota resets at {resets_at}, in {}.", roughly(self.resets_in_ms))
    }

    /// The tokens that are missing today; `None` if the call does not fit into any day.
    fn missing_today(&self) -> Option<String> {
        let Allotment { limit, used, .. } = self.tokens;
        let (left, of) = (limit.saturating_sub(used), grouped(limit));
        match self.needed {
            _ if self.exceeds_the_day() => None,
            _ if left == 0 => Some(format!("All of today's {of} tokens are used.")),
            Some(needed) if needed > left => Some(format!(
                "This request needs about {} tokens; {} of today's {of} are left.",
                grouped(needed),
                grouped(left)
            )),
            _ => Some(format!(
                "This request needs more than the {} tokens left of today's {of}.",
                grouped(left)
            )),
        }
    }

    fn never_fits(&self) -> String {
        let limit = grouped(self.tokens.limit);
        let needs = match self.needed {
            Some(needed) => format!("about {} tokens, more", grouped(needed)),
            None => "more tokens".to_owned(),
        };
        format!(
            "This request needs {needs} than the limit of {limit} per day, so it can never run. Make the request smaller, or use a plan or key with a higher limit."
        )
    }
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A wait as people say it, rounded up: hours and minutes, minutes, or seconds.
#[must_use]
pub fn roughly(ms: u64) -> String {
    match ms.div_ceil(1000) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds if seconds.div_ceil(60) < 60 => format!("{} min", seconds.div_ceil(60)),
        seconds => {
            let minutes = seconds.div_ceil(60);
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_in_the_units_of_its_length() {
        let said = [(1, "1 s"), (119_000, "119 s"), (120_000, "2 min"), (3_540_001, "1 h 0 min")];
        for (ms, text) in said.into_iter().chain([(70_585_000, "19 h 37 min")]) {
            assert_eq!(roughly(ms), text);
        }
    }

    #[test]
    fn limits_of_the_day_are_said_in_numbers() {
        let resets_at: Timestamp = "2026-11-27T00:00:00.4Z".parse().unwrap();
        let day = |needed, used, reserved| {
            let tokens = Allotment { limit: 5_000, used, reserved };
            let requests = Allotment { limit: 1_000, used: 1_000, reserved: 0 };
            let window = Window { capacity: 100, refill_seconds: 60 };
            let (concurrent_streams, resets_in_ms) = (20, 85_913_000);
            QuotaNumbers {
                needed,
                tokens,
                requests,
                window,
                concurrent_streams,
                resets_at,
                resets_in_ms,
            }
        };
        let say = |needed, used, reserved| day(needed, used, reserved).tokens_message();
        let reset = "The quota resets at 2026-11-27T00:00:00Z, in 23 h 52 min.";
        let needs = "This request needs about 1,234 tokens; 640 of today's 5,000 are left.";
        assert_eq!(say(Some(1_234), 4_360, 0), format!("{needs} {reset}"));
        assert_eq!(
            say(Some(1_234), 4_360, 640),
            format!("{needs} {reset}"),
            "reserved is not used"
        );
        let too_large = "This request needs more than the 640 tokens left of today's 5,000.";
        assert_eq!(say(None, 4_360, 0), format!("{too_large} {reset}"));
        let fits = |needed, used| day(needed, used, 0).details()["can_ever_fit"].as_bool();
        assert_eq!([fits(Some(9), 5_000), fits(Some(5_001), 9)], [Some(true), Some(false)]);
        assert_eq!([fits(None, 0), fits(None, 9)], [Some(false), None], "counted as far as 4,991");
        let all = format!("All of today's 5,000 tokens are used. {reset}");
        assert_eq!(say(Some(12), 5_000, 0), all);
        assert_eq!(say(None, 5_012, 0), all);
        let never = "more than the limit of 5,000 per day, so it can never run.";
        let told = say(Some(1_005_700), 100, 0);
        assert!(told.contains(&format!("about 1,005,700 tokens, {never}")), "{told}");
        assert!(say(None, 0, 0).starts_with("This request needs more tokens than the limit"));
        let requests = format!("All of today's 1,000 requests are used. {reset}");
        assert_eq!(day(None, 0, 0).window(), " (limit: 100 per 60 s)");
        assert_eq!(day(None, 0, 0).streams(), " (limit: 20)");
        assert_eq!(day(None, 5_000, 0).requests_message(), requests);
    }
}
