//! Every way the data plane says no: status, OpenAI error body, headers, side by side.
//!
//! Nothing below this boundary knows HTTP, and nothing else in the data plane picks a status.
//! Shapes and codes are OpenAI's (platform error reference); `docs/errors.md` lists them for callers.

mod answer;
mod upstream_failure;

pub use answer::Answer;
pub use upstream_failure::UpstreamFailure;

use crate::gateway::response::quota_numbers::{QuotaNumbers, roughly};
use answer::{closing, exhausted, invalid, limited, server, unauthorized};
use domain::limit::LimitKind;
use std::time::Duration;
use wire::request::BadBody;
use wire::surface::Surface;

/// Sent to a caller whose key was revoked or account suspended while its call ran.
pub const RIGHT_ENDED: &str = "This API key was revoked or the account was suspended.";

/// Why a call was not answered.
#[derive(Debug)]
pub enum Refusal {
    // the head
    HeadersTooLarge {
        /// Bytes.
        limit: usize,
    },
    TooManyHeaders {
        limit: usize,
    },
    /// The headers did not arrive within this time.
    SlowHead(Duration),
    BadHead(&'static str),
    NoSuchRoute(String),
    WrongMethod {
        allow: &'static str,
    },
    WebSocket,
    /// A stored response was requested as a stream.
    StoredStream,
    ShuttingDown,
    // the key
    MissingKey,
    WrongKey,
    RevokedKey,
    /// The key was revoked or the user suspended while the call waited for its reply.
    RightEnded,
    ExpiredKey,
    SuspendedUser,
    /// The user has to verify the e-mail address first.
    UnverifiedUser,
    CallersUnavailable,
    // the body
    BodyTooLarge {
        limit: usize,
    },
    /// The body is compressed.
    EncodedBody,
    SlowBody {
        time: Duration,
        /// Bytes per second; 0 = no minimum.
        rate: u64,
    },
    CutBody,
    BadBody(BadBody),
    /// The memory for all request bodies is in use.
    NoRoom,
    /// Too many long prompts wait to be counted.
    CountingBusy,
    /// This user's, or this address's, share of the body memory is in use.
    NoShare {
        is_user: bool,
        /// Bytes.
        share: usize,
    },
    /// A client behind a trusted proxy has reached the limit of concurrent requests for one address.
    TooManyConnections {
        most: usize,
    },
    // the model
    UnknownModel(String),
    /// The model exists, but no upstream offers it on this surface.
    NotOffered {
        model: String,
        surface: Surface,
        on: Vec<Surface>,
    },
    ModelNotAllowed(String),
    // what upstreams keep
    /// No stored response with this id, or another user owns it.
    NoSuchReply(String),
    /// No stored response with the given `previous_response_id`.
    NoSuchPrevious(String),
    /// Another request is fetching it, which can be done once, or it is still being generated.
    ReplyInUse,
    RepliesUnavailable,
    // the quota
    Limited(Limited),
    QuotaUnavailable,
    // the upstream
    Upstream(UpstreamFailure),
}

/// A limit that a call ran into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    pub limit: LimitKind,
    /// Only running calls are in the way.
    pub by_open_calls: bool,
    /// Until a retry may help, in milliseconds.
    pub retry_after_ms: u64,
    /// The numbers of the limits, if they are known.
    pub numbers: Option<QuotaNumbers>,
}

/// `retry-after` of limits that end with a call in flight, in milliseconds.
const OPEN_CALLS_RETRY_MS: u64 = 1_000;
/// The same for a call that has already waited in the admission queue.
const RUNNING_CALLS_RETRY_MS: u64 = 2_000;

impl Refusal {
    /// The one place where causes become responses.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one exhaustive table")]
    pub fn answer(self) -> Answer {
        match self {
            Self::HeadersTooLarge { limit } => {
                closing(431, format!("The request headers are larger than {limit} bytes."), None)
            }
            Self::TooManyHeaders { limit } => {
                closing(431, format!("The request has more than {limit} headers."), None)
            }
            Self::SlowHead(time) => {
                let time = time.as_secs_f64();
                closing(408, format!("The request headers did not arrive within {time} s."), None)
            }
            Self::BadHead(what) => closing(400, format!("Malformed request: {what}."), None),
            Self::NoSuchRoute(route) => no_such_route(&route),
            Self::WebSocket => web_socket(),
            Self::StoredStream => {
                let text = "A stored response cannot be streamed again. Leave `stream` out.";
                invalid(400, text, Some("unsupported_parameter")).about("stream")
            }
            Self::WrongMethod { allow } => {
                let text = format!("This method is not allowed here; use {allow}.");
                invalid(405, text, Some("method_not_allowed")).with("allow", allow)
            }
            Self::ShuttingDown => {
                server(503, "The gateway is shutting down. Please retry.", "shutting_down")
                    .with("retry-after", "1")
                    .closed()
            }
            Self::MissingKey => unauthorized(
                "You didn't provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_KEY'.",
                None,
            ),
            Self::WrongKey => unauthorized("Incorrect API key provided.", Some("invalid_api_key")),
            Self::RevokedKey => {
                unauthorized("This API key has been revoked.", Some("invalid_api_key"))
            }
            Self::RightEnded => unauthorized(RIGHT_ENDED, Some("access_revoked")),
            Self::ExpiredKey => unauthorized("This API key has expired.", Some("invalid_api_key")),
            Self::SuspendedUser => {
                unauthorized("This account is suspended.", Some("account_deactivated"))
            }
            Self::UnverifiedUser => invalid(
                403,
                "The e-mail address of this account is not verified. Open the link that was mailed to it, or request another one with POST /api/v1/users/verify-email/send.",
                Some("email_unverified"),
            ),
            Self::CallersUnavailable => server(
                503,
                "API keys cannot be verified right now. Please retry.",
                "key_store_unavailable",
            )
            .with("retry-after", "1"),
            Self::BodyTooLarge { limit } => closing(
                413,
                format!("The request body is larger than {limit} bytes."),
                Some("request_too_large"),
            ),
            Self::EncodedBody => {
                let text = "Compressed request bodies are not supported. Send the body uncompressed, without Content-Encoding.";
                closing(415, text, Some("unsupported_encoding")).with("accept-encoding", "identity")
            }
            Self::SlowBody { time, rate } => closing(408, slow_body(time, rate), None),
            Self::CutBody => {
                closing(400, "The request body is incomplete, or its framing is not valid.", None)
            }
            Self::BadBody(bad) => bad_body(bad),
            Self::NoRoom => server(
                503,
                "The gateway is out of memory for request bodies. Please retry.",
                "gateway_busy",
            )
            .with("retry-after", "1")
            .closed(),
            Self::CountingBusy => server(
                503,
                "Too many long prompts are being counted right now. Please retry.",
                "gateway_busy",
            )
            .with("retry-after", "1"),
            Self::NoShare { is_user, share } => no_share(is_user, share),
            Self::TooManyConnections { most } => too_many_connections(most),
            Self::NotOffered { model, surface, on } => not_offered(&model, surface, &on),
            Self::UnknownModel(model) => {
                let text =
                    format!("The model `{model}` does not exist or you do not have access to it.");
                invalid(404, text, Some("model_not_found")).about("model")
            }
            Self::ModelNotAllowed(model) => {
                let text = format!("Your plan or key does not include the model `{model}`.");
                invalid(403, text, Some("model_not_allowed")).about("model")
            }
            Self::NoSuchReply(id) => {
                let text = format!("Response with id `{id}` not found.");
                invalid(404, text, Some("reply_not_found")).about("id")
            }
            Self::NoSuchPrevious(id) => {
                let text = format!("Previous response with id `{id}` not found.");
                invalid(404, text, Some("previous_response_not_found"))
                    .about("previous_response_id")
            }
            Self::ReplyInUse => {
                let text = "This response is being fetched by another request, or is still being generated.";
                invalid(409, text, Some("reply_in_use")).with("retry-after", "1")
            }
            Self::RepliesUnavailable => {
                let text = "The response store is temporarily unavailable. Please retry.";
                server(503, text, "reply_store_unavailable").with("retry-after", "1")
            }
            Self::Limited(limited) => limited.answer(),
            Self::QuotaUnavailable => {
                let text = "The quota store is unavailable. Nothing was charged. Please retry.";
                server(503, text, "quota_store_unavailable").with("retry-after", "1")
            }
            Self::Upstream(failure) => failure.answer(),
        }
    }
}

fn slow_body(time: Duration, rate: u64) -> String {
    let time = time.as_secs_f64();
    let at_rate = match rate {
        0 => String::new(),
        rate => format!(", or not at {rate} bytes per second"),
    };
    format!("The request body did not arrive within {time} s{at_rate}.")
}

fn web_socket() -> Answer {
    let text = "WebSocket is not supported. Use HTTP; for a stream, send \"stream\": true.";
    let answer = invalid(426, text, Some("upgrade_required"));
    answer.with("connection", "upgrade").with("upgrade", "HTTP/1.1")
}

/// `route` is method and path.
fn no_such_route(route: &str) -> Answer {
    let hint = match route.split_once(" /v1/v1/") {
        Some(_) => "The base URL contains /v1 twice; remove one.",
        None => "This gateway does not serve it.",
    };
    invalid(404, format!("Unknown request URL: {route}. {hint}"), Some("unknown_url"))
}

fn no_share(is_user: bool, share: usize) -> Answer {
    let owner = if is_user { "your account" } else { "your address" };
    let text = format!(
        "Requests in flight from {owner} already use its {share} bytes of body memory. Retry when one of them completes."
    );
    limited(text, "requests", "bodies_in_flight", OPEN_CALLS_RETRY_MS).closed()
}

fn too_many_connections(most: usize) -> Answer {
    let text = format!(
        "Your address has reached the limit of {most} concurrent requests. Retry when one of them completes."
    );
    limited(text, "requests", "too_many_connections", OPEN_CALLS_RETRY_MS).closed()
}

fn not_offered(model: &str, surface: Surface, on: &[Surface]) -> Answer {
    let on: Vec<_> = on.iter().map(|surface| format!("/v1{}", surface.path())).collect();
    let text = format!(
        "The model `{model}` is not available on /v1{}; use {}.",
        surface.path(),
        on.join(", ")
    );
    invalid(404, text, Some("model_not_found")).about("model")
}

impl Limited {
    fn answer(&self) -> Answer {
        let numbers = self.numbers.as_ref();
        let answer = self.without_details().with_details(numbers.map(QuotaNumbers::details));
        match numbers.and_then(|numbers| numbers.needed) {
            Some(needed) => answer.with("x-kx-tokens-needed", needed.to_string()),
            None => answer,
        }
    }

    fn without_details(&self) -> Answer {
        match self.limit {
            LimitKind::Window => {
                let wait = seconds(self.retry_after_ms);
                let of = self.numbers.as_ref().map_or_else(String::new, QuotaNumbers::window);
                let text =
                    format!("Rate limit reached for requests{of}. Please try again in {wait}s.");
                limited(text, "requests", "rate_limit_exceeded", self.retry_after_ms)
            }
            LimitKind::ConcurrentStreams => {
                let of = self.numbers.as_ref().map_or_else(String::new, QuotaNumbers::streams);
                let text =
                    format!("Too many concurrent streams{of}. Retry when one of them completes.");
                limited(text, "requests", "rate_limit_exceeded", OPEN_CALLS_RETRY_MS)
            }
            LimitKind::TokensPerDay if self.by_open_calls => {
                let text = "Your remaining daily tokens are reserved for your requests in flight. Retry when one of them completes.";
                limited(text, "tokens", "rate_limit_exceeded", RUNNING_CALLS_RETRY_MS)
            }
            LimitKind::TokensPerDay | LimitKind::RequestsPerDay => {
                exhausted(self.day_message(), self.retry_after_ms)
            }
        }
    }

    fn day_message(&self) -> String {
        let is_tokens = self.limit == LimitKind::TokensPerDay;
        let Some(numbers) = &self.numbers else {
            let (of, wait) = (if is_tokens { "tokens" } else { "requests" }, self.retry_after_ms);
            return format!(
                "You exceeded your daily quota of {of}; it resets in {}.",
                roughly(wait)
            );
        };
        if is_tokens { numbers.tokens_message() } else { numbers.requests_message() }
    }
}

fn bad_body(bad: BadBody) -> Answer {
    let mut answer = invalid(400, bad.message, bad.code);
    answer.body.param = bad.param;
    answer
}

/// Seconds with up to three decimals and no trailing zeros.
fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
