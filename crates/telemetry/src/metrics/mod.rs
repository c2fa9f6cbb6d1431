//! The one table of metrics: names, help, buckets, and a handle for each series.
//!
//! [`Metrics::new`] resolves every handle, so counting is an atomic addition, and so every series
//! exists from the start with 0. Nothing here is process-wide: each part that counts receives a `Metrics`.

mod totals;

pub use totals::Totals;

use super::backlog::Backlog;
use super::labels::{
    AccountProblem, MailKind, MailOutcome, Outcome, RedisOp, Route, StoreOp, TokenKind, WaitOutcome,
};
use domain::id::IdMap;
use domain::limit::LimitKind;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

const COUNTERS: [(&str, &str); 16] = [
    ("knockx_requests_total", "Requests by route, status and outcome."),
    (
        "knockx_tokens_total",
        "Billed tokens of settled calls; cached tokens are included in prompt tokens.",
    ),
    ("knockx_cost_micro_dollars_total", "Cost of settled calls, in micro-dollars (1e-6 USD)."),
    ("knockx_quota_refusals_total", "Requests refused by quota, by limit."),
    (
        "knockx_quota_overshoot_tokens_total",
        "Tokens charged beyond a limit because an upstream billed more than was reserved.",
    ),
    (
        "knockx_uncharged_tokens_total",
        "Tokens produced by upstreams that were not charged to a user.",
    ),
    (
        "knockx_admission_waits_total",
        "Calls queued for tokens reserved by calls in flight, by outcome.",
    ),
    ("knockx_usage_admitted_total", "Calls admitted; each becomes one ledger row."),
    ("knockx_usage_persisted_total", "Ledger rows written."),
    ("knockx_usage_dead_total", "Dead-lettered entries that the ledger rejected permanently."),
    ("knockx_journal_append_failures_total", "Failed journal writes; each is retried."),
    (
        "knockx_quota_drift_total",
        "Accounts whose counters were repaired because they differed from the ledger.",
    ),
    (
        "knockx_redis_lost_writes_total",
        "Charges that Redis acknowledged and then lost; they were resent.",
    ),
    ("knockx_retries_total", "Calls retried before their first byte."),
    (
        "knockx_upstream_account_refusals_total",
        "Calls rejected by upstreams because of the operator's key or account.",
    ),
    (
        "knockx_mails_total",
        "Mails by kind and outcome; a retried mail is counted once for each attempt.",
    ),
];

const GAUGES: [(&str, &str); 11] = [
    ("knockx_build_info", "1, with the version of the gateway as a label."),
    ("knockx_streams_open", "Streams currently open."),
    ("knockx_reservations_open", "Calls that currently have a reservation."),
    ("knockx_admission_waiting", "Calls currently queued for tokens reserved by calls in flight."),
    ("knockx_usage_queue_depth", "Charges not yet written to the ledger."),
    ("knockx_journal_behind_bytes", "Bytes of the journal not yet written to the ledger."),
    (
        "knockx_upstream_up",
        "1 if the last request or probe reached the upstream, 0 if it failed or none was made.",
    ),
    ("knockx_upstream_breaker", "State of the circuit breaker: 0 closed, 1 half-open, 2 open."),
    ("knockx_upstream_in_flight", "Calls in flight at the upstream."),
    ("knockx_upstream_queued", "Calls queued for the upstream."),
    (
        "knockx_reasoning_allowance_tokens",
        "Tokens reserved for hidden reasoning per call of the model, learned from earlier calls.",
    ),
];

const HISTOGRAMS: [(&str, &str, &[f64]); 6] = [
    (
        "knockx_request_overhead_seconds",
        "Time spent in the gateway, from the request headers to the upstream request.",
        &[50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 0.1, 0.25, 1.0],
    ),
    (
        "knockx_upstream_first_byte_seconds",
        "Time from the upstream request to the first byte of the response.",
        &[1e-3, 5e-3, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0],
    ),
    (
        "knockx_stream_duration_seconds",
        "Time from the request headers to the end of the stream.",
        &[0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0],
    ),
    (
        "knockx_usage_flush_seconds",
        "Time to write a batch of charges to the ledger.",
        STORE_BUCKETS,
    ),
    ("knockx_redis_seconds", "Time of a round trip to Redis.", STORE_BUCKETS),
    ("knockx_store_seconds", "Time of a store operation.", STORE_BUCKETS),
];

const STORE_BUCKETS: &[f64] =
    &[100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 0.1, 0.25, 1.0, 5.0];

/// Statuses with a series of their own; the rest are counted as `other`.
const STATUSES: [u16; 23] = [
    200, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 499, 500, 501,
    502, 503, 504, 0,
];

/// Label value of statuses, models and upstreams without a series of their own.
const OTHER: &str = "other";

/// Handles of all series, resolved once.
pub struct Metrics {
    pub request_overhead_seconds: Histogram,
    pub stream_duration_seconds: Histogram,
    pub streams_open: Gauge,
    pub quota_overshoot_tokens: Counter,
    /// Tokens that upstreams produced beyond the reservation of their call.
    pub uncharged_tokens: Counter,
    pub admission_waiting: Gauge,
    pub reservations_open: Gauge,
    pub retries: Counter,
    pub usage_admitted: Counter,
    pub usage_persisted: Counter,
    pub usage_backlog: Backlog,
    pub usage_dead: Counter,
    pub journal_failures: Counter,
    pub journal_behind: Gauge,
    pub quota_drift: Counter,
    pub redis_lost_writes: Counter,
    pub usage_flush_seconds: Histogram,
    /// By route, status and outcome: see [`request_index`].
    requests: Vec<Counter>,
    refusals: [Counter; LimitKind::ALL.len()],
    waits: [Counter; WaitOutcome::ALL.len()],
    mails: [[Counter; MailOutcome::ALL.len()]; MailKind::ALL.len()],
    models: IdMap<Box<str>, ModelSeries>,
    other_model: ModelSeries,
    upstreams: IdMap<Box<str>, UpstreamSeries>,
    other_upstream: UpstreamSeries,
    store: [Histogram; StoreOp::ALL.len()],
    redis: [Histogram; RedisOp::ALL.len()],
    handle: PrometheusHandle,
}

struct ModelSeries {
    tokens: [Counter; TokenKind::ALL.len()],
    cost: Counter,
    reasoning_allowance: Gauge,
}

struct UpstreamSeries {
    first_byte: Histogram,
    up: Gauge,
    breaker: Gauge,
    in_flight: Gauge,
    queued: Gauge,
    account_refusals: [Counter; AccountProblem::ALL.len()],
}

impl Metrics {
    /// Creates every series, at 0, for these models and upstreams.
    #[must_use]
    pub fn new(models: &[&str], upstreams: &[&str]) -> Self {
        let table = Table::new();
        table.gauge("knockx_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        Self {
            request_overhead_seconds: table.histogram("knockx_request_overhead_seconds", &[]),
            stream_duration_seconds: table.histogram("knockx_stream_duration_seconds", &[]),
            streams_open: table.gauge("knockx_streams_open", &[]),
            quota_overshoot_tokens: table.counter("knockx_quota_overshoot_tokens_total", &[]),
            uncharged_tokens: table.counter("knockx_uncharged_tokens_total", &[]),
            admission_waiting: table.gauge("knockx_admission_waiting", &[]),
            reservations_open: table.gauge("knockx_reservations_open", &[]),
            retries: table.counter("knockx_retries_total", &[]),
            usage_admitted: table.counter("knockx_usage_admitted_total", &[]),
            usage_persisted: table.counter("knockx_usage_persisted_total", &[]),
            usage_backlog: Backlog::new(table.gauge("knockx_usage_queue_depth", &[])),
            usage_dead: table.counter("knockx_usage_dead_total", &[]),
            journal_failures: table.counter("knockx_journal_append_failures_total", &[]),
            journal_behind: table.gauge("knockx_journal_behind_bytes", &[]),
            quota_drift: table.counter("knockx_quota_drift_total", &[]),
            redis_lost_writes: table.counter("knockx_redis_lost_writes_total", &[]),
            usage_flush_seconds: table.histogram("knockx_usage_flush_seconds", &[]),
            requests: table.requests(),
            refusals: LimitKind::ALL
                .map(|l| table.counter("knockx_quota_refusals_total", &[("limit", l.as_str())])),
            waits: WaitOutcome::ALL
                .map(|w| table.counter("knockx_admission_waits_total", &[("outcome", w.as_str())])),
            mails: MailKind::ALL.map(|kind| table.mails(kind)),
            models: models.iter().map(|m| ((*m).into(), table.model(m))).collect(),
            other_model: table.model(OTHER),
            upstreams: upstreams.iter().map(|u| ((*u).into(), table.upstream(u))).collect(),
            other_upstream: table.upstream(OTHER),
            store: StoreOp::ALL
                .map(|op| table.histogram("knockx_store_seconds", &[("op", op.as_str())])),
            redis: RedisOp::ALL
                .map(|op| table.histogram("knockx_redis_seconds", &[("op", op.as_str())])),
            handle: table.recorder.handle(),
        }
    }

    /// Requests answered. An outcome that does not fit its status is counted as the default of the status.
    pub fn requests(&self, route: Route, status: u16, outcome: Outcome) -> &Counter {
        let listed = STATUSES.iter().position(|s| *s == status);
        let position = listed.unwrap_or(STATUSES.len() - 1);
        &self.requests[request_index(route, position, outcome)]
    }

    /// Requests refused by quota, by limit.
    pub fn quota_refusals(&self, limit: LimitKind) -> &Counter {
        &self.refusals[limit as usize]
    }

    /// Mails, by kind and outcome.
    pub fn mails(&self, kind: MailKind, outcome: MailOutcome) -> &Counter {
        &self.mails[kind as usize][outcome as usize]
    }

    /// Calls that waited for tokens reserved by calls in flight.
    pub fn admission_waits(&self, outcome: WaitOutcome) -> &Counter {
        &self.waits[outcome as usize]
    }

    /// Counts the tokens of a settled call, by kind, and its cost in micro-dollars.
    pub fn count_settled(&self, model: &str, tokens: &[(TokenKind, u64)], cost: u64) {
        let series = self.model(model);
        for (kind, number) in tokens {
            series.tokens[*kind as usize].increment(*number);
        }
        series.cost.increment(cost);
    }

    /// Tokens that each call of a model reserves for its hidden reasoning.
    pub fn reasoning_allowance_tokens(&self, model: &str) -> &Gauge {
        &self.model(model).reasoning_allowance
    }

    /// Time from the upstream request to the first byte of the response.
    pub fn upstream_first_byte_seconds(&self, upstream: &str) -> &Histogram {
        &self.upstream(upstream).first_byte
    }

    /// State of an upstream's circuit breaker: 0 closed, 1 half-open, 2 open.
    pub fn upstream_breaker(&self, upstream: &str) -> &Gauge {
        &self.upstream(upstream).breaker
    }

    /// Calls in flight at an upstream.
    pub fn upstream_in_flight(&self, upstream: &str) -> &Gauge {
        &self.upstream(upstream).in_flight
    }

    /// Calls rejected by upstreams because of the operator's key or account.
    pub fn upstream_account_refusals(&self, upstream: &str, problem: AccountProblem) -> &Counter {
        &self.upstream(upstream).account_refusals[problem as usize]
    }

    /// Calls queued for an upstream.
    pub fn upstream_queued(&self, upstream: &str) -> &Gauge {
        &self.upstream(upstream).queued
    }

    /// 1 if the last request or probe reached the upstream, otherwise 0.
    pub fn upstream_up(&self, upstream: &str) -> &Gauge {
        &self.upstream(upstream).up
    }

    /// Time of a store operation, in seconds.
    pub fn store_seconds(&self, op: StoreOp) -> &Histogram {
        &self.store[op as usize]
    }

    /// Time of a round trip to Redis, in seconds.
    pub fn redis_seconds(&self, op: RedisOp) -> &Histogram {
        &self.redis[op as usize]
    }

    /// Returns all series in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds recorded times into their buckets. Call it every few seconds: until then, or until the next
    /// scrape, each recorded time takes memory.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn model(&self, model: &str) -> &ModelSeries {
        self.models.get(model).unwrap_or(&self.other_model)
    }

    fn upstream(&self, upstream: &str) -> &UpstreamSeries {
        self.upstreams.get(upstream).unwrap_or(&self.other_upstream)
    }
}

/// The recorder, while handles are resolved.
struct Table {
    recorder: PrometheusRecorder,
}

impl Table {
    fn new() -> Self {
        let with_buckets = |builder: PrometheusBuilder,
                            (name, _, buckets): &(&str, &str, &[f64])| {
            builder
                .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                .expect("no list of buckets above is empty")
        };
        let recorder =
            HISTOGRAMS.iter().fold(PrometheusBuilder::new(), with_buckets).build_recorder();
        for (name, help) in COUNTERS {
            recorder.describe_counter(name.into(), None, help.into());
        }
        for (name, help) in GAUGES {
            recorder.describe_gauge(name.into(), None, help.into());
        }
        for (name, help, _) in HISTOGRAMS {
            recorder.describe_histogram(name.into(), None, help.into());
        }
        Self { recorder }
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    fn model(&self, model: &str) -> ModelSeries {
        let tokens = |kind: TokenKind| {
            self.counter("knockx_tokens_total", &[("kind", kind.as_str()), ("model", model)])
        };
        ModelSeries {
            tokens: TokenKind::ALL.map(tokens),
            cost: self.counter("knockx_cost_micro_dollars_total", &[("model", model)]),
            reasoning_allowance: self
                .gauge("knockx_reasoning_allowance_tokens", &[("model", model)]),
        }
    }

    fn mails(&self, kind: MailKind) -> [Counter; MailOutcome::ALL.len()] {
        MailOutcome::ALL.map(|outcome| {
            let labels = [("kind", kind.as_str()), ("outcome", outcome.as_str())];
            self.counter("knockx_mails_total", &labels)
        })
    }

    fn upstream(&self, upstream: &str) -> UpstreamSeries {
        let labels = [("upstream", upstream)];
        UpstreamSeries {
            first_byte: self.histogram("knockx_upstream_first_byte_seconds", &labels),
            up: self.gauge("knockx_upstream_up", &labels),
            breaker: self.gauge("knockx_upstream_breaker", &labels),
            in_flight: self.gauge("knockx_upstream_in_flight", &labels),
            queued: self.gauge("knockx_upstream_queued", &labels),
            account_refusals: AccountProblem::ALL.map(|problem| {
                self.counter(
                    "knockx_upstream_account_refusals_total",
                    &[("upstream", upstream), ("trouble", problem.as_str())],
                )
            }),
        }
    }

    /// In the order of [`request_index`].
    fn requests(&self) -> Vec<Counter> {
        let mut all = Vec::new();
        for route in Route::ALL {
            for status in STATUSES {
                for outcome in Outcome::ALL {
                    let counted_as =
                        if fits(outcome, status) { outcome } else { default_outcome(status) };
                    let digits = status.to_string();
                    let status_label = if status == 0 { OTHER } else { &digits };
                    let labels = [
                        ("route", route.as_str()),
                        ("status", status_label),
                        ("outcome", counted_as.as_str()),
                    ];
                    all.push(self.counter("knockx_requests_total", &labels));
                }
            }
        }
        all
    }
}

const METADATA: Metadata<'static> = Metadata::new("knockx", Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels = labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

fn request_index(route: Route, status: usize, outcome: Outcome) -> usize {
    (route.index() * STATUSES.len() + status) * Outcome::ALL.len() + outcome as usize
}

/// True if a request with this status can have this outcome: it bounds the number of series.
fn fits(outcome: Outcome, status: u16) -> bool {
    match outcome {
        Outcome::Ok => (200..400).contains(&status),
        Outcome::Refused => status >= 400 && status != 499,
        Outcome::Failed => status >= 400 || status == 0,
        Outcome::CutByClient => matches!(status, 200 | 499),
        Outcome::CutByUpstream | Outcome::CutByQuota => status == 200,
    }
}

fn default_outcome(status: u16) -> Outcome {
    match status {
        200..=399 => Outcome::Ok,
        499 => Outcome::CutByClient,
        400..=498 => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests;
