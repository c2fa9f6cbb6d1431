//! Records each answer of the simulator and the bill of a real upstream, to compare with the gateway's
//! ledger.
//!
//! Each answer leaves one [`LogEntry`], also when its client went away half-way; replies that are
//! refusals leave none. The newest entries are kept in memory, all of them go to the log file.

use crate::bill::{Bill, BillingTerms};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use system::clock;

/// The most entries in memory: enough for any test, few enough for a long load run.
const MAX_ENTRIES: usize = 100_000;

/// The record of one answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a line of the log has that many yes and no")]
pub struct LogEntry {
    /// The request id the client sent, if any.
    pub request: Option<String>,
    /// The `x-request-id` of the simulator's reply.
    pub sim_id: String,
    /// The surface's name, as `chat` or `responses`.
    pub surface: &'static str,
    pub model: String,
    pub stream: bool,
    /// The answer is stored until it is fetched, which may never happen.
    pub deferred: bool,
    /// The prompt has what a stored response was made from, which the request does not show.
    pub continues: bool,
    /// Tokens that the answer's usage reports, or would have reported at its end.
    pub prompt: u64,
    pub cached: u64,
    pub completion: u64,
    pub reasoning: u64,
    pub cost_ticks: u64,
    /// Visible tokens that were generated, whether or not the client read them.
    pub produced: u64,
    /// Visible tokens that were handed to the connection.
    pub sent: u64,
    /// True if the last byte was handed to the connection.
    pub finished: bool,
    pub fault: Option<String>,
    /// The client closed before the end.
    pub aborted_by_client: bool,
    /// Generation continues to the end after the client has disconnected.
    pub goes_on: bool,
    /// The bill of the account that made the request.
    pub billed: Bill,
    pub began_ms: i64,
    pub ended_ms: i64,
}

/// Sums over all entries, those no longer in memory too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests to the API, refused ones too.
    pub requests: u64,
    /// Answers that are being sent.
    pub open: u64,
    pub answers: u64,
    pub finished: u64,
    pub aborted_by_client: u64,
    pub prompt: u64,
    pub completion: u64,
    pub reasoning: u64,
    pub produced: u64,
    pub sent: u64,
    pub billed_tokens: u64,
    pub billed_ticks: u64,
}

/// The log of answers, newest last.
#[derive(Debug)]
pub struct RequestLog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: VecDeque<LogEntry>,
    totals: Totals,
    file: Option<BufWriter<File>>,
}

impl RequestLog {
    /// A log that also writes to `file`, if one is given.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(file: Option<&Path>) -> std::io::Result<Self> {
        let append = |path| File::options().create(true).append(true).open(path);
        let file = file.map(append).transpose()?.map(BufWriter::new);
        let inner = Inner { entries: VecDeque::new(), totals: Totals::default(), file };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// The newest entries, oldest first.
    pub fn entries(&self) -> Vec<LogEntry> {
        self.inner.lock().entries.iter().cloned().collect()
    }

    /// Up to `count` of the newest entries, as JSON lines.
    pub fn json_lines(&self, count: usize) -> Vec<u8> {
        let newest = {
            let inner = self.inner.lock();
            let skipped = inner.entries.len().saturating_sub(count);
            inner.entries.iter().skip(skipped).cloned().collect::<Vec<_>>()
        };
        let mut lines = Vec::new();
        for entry in newest {
            lines.extend(entry.to_line());
        }
        lines
    }

    pub fn totals(&self) -> Totals {
        self.inner.lock().totals
    }

    /// Counts a request to the API.
    pub(super) fn count_request(&self) {
        self.inner.lock().totals.requests += 1;
    }

    /// Opens the entry of an answer that begins.
    pub(super) fn begin(self: &Arc<Self>, mut entry: LogEntry, terms: BillingTerms) -> OpenEntry {
        entry.began_ms = clock::now().as_millisecond();
        self.inner.lock().totals.open += 1;
        OpenEntry { log: Arc::clone(self), entry: Some(entry), terms }
    }

    /// Flushes the log file.
    pub(super) fn flush(&self) {
        if let Some(file) = &mut self.inner.lock().file
            && let Err(error) = file.flush()
        {
            tracing::error!(%error, "simulator failed to write its reply log");
        }
    }

    fn record(&self, mut entry: LogEntry, terms: &BillingTerms) {
        entry.goes_on = terms.goes_on;
        entry.billed = terms.bill(&entry);
        entry.ended_ms = clock::now().as_millisecond();
        let mut inner = self.inner.lock();
        inner.totals.add(&entry);
        if let Some(file) = &mut inner.file {
            // A full disk shows at the next flush, which logs it.
            let _ = file.write_all(&entry.to_line());
        }
        if inner.entries.len() == MAX_ENTRIES {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
    }
}

impl Totals {
    fn add(&mut self, entry: &LogEntry) {
        self.open -= 1;
        self.answers += 1;
        self.finished += u64::from(entry.finished);
        self.aborted_by_client += u64::from(entry.aborted_by_client);
        self.prompt += entry.prompt;
        self.completion += entry.completion;
        self.reasoning += entry.reasoning;
        self.produced += entry.produced;
        self.sent += entry.sent;
        self.billed_tokens += entry.billed.tokens;
        self.billed_ticks += entry.billed.cost_ticks;
    }
}

impl LogEntry {
    fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The entry of an answer that is being sent. Dropped early, it records that the client disconnected.
#[derive(Debug)]
pub struct OpenEntry {
    log: Arc<RequestLog>,
    entry: Option<LogEntry>,
    terms: BillingTerms,
}

impl OpenEntry {
    /// Records visible tokens that were generated and handed to the connection.
    pub fn record_sent(&mut self, tokens: u64) {
        self.record_generated(tokens);
        if let Some(entry) = &mut self.entry {
            entry.sent += tokens;
        }
    }

    /// Records visible tokens that were generated but not handed to the connection.
    pub fn record_generated(&mut self, tokens: u64) {
        if let Some(entry) = &mut self.entry {
            entry.produced += tokens;
        }
    }

    /// Closes the entry: the last byte was handed to the connection.
    pub fn finish(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.log.record(LogEntry { finished: true, ..entry }, &self.terms);
        }
    }

    /// Closes the entry: the simulator ended the answer early.
    pub fn abort(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.log.record(entry, &self.terms);
        }
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.log.record(LogEntry { aborted_by_client: true, ..entry }, &self.terms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_finished_broken_off_or_aborted() {
        let log = Arc::new(RequestLog::open(None).expect("no file to open"));
        let begin = || log.begin(LogEntry::default(), BillingTerms::default());
        let mut whole = begin();
        whole.record_sent(3);
        whole.finish();
        begin().abort();
        let mut unread = begin();
        unread.record_generated(5);
        drop(unread);
        assert_eq!(log.totals().open, 0);
        let ends: Vec<_> =
            log.entries().iter().map(|e| (e.produced, e.finished, e.aborted_by_client)).collect();
        assert_eq!((log.totals().produced, log.totals().sent), (8, 3));
        assert_eq!(ends, [(3, true, false), (0, false, false), (5, false, true)]);
    }

    #[test]
    fn the_newest_lines_are_returned() {
        let log = Arc::new(RequestLog::open(None).expect("no file to open"));
        for id in ["a", "b"] {
            let entry = LogEntry { sim_id: id.to_owned(), ..LogEntry::default() };
            log.begin(entry, BillingTerms::default()).finish();
        }
        let lines = String::from_utf8(log.json_lines(1)).expect("text");
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.contains(r#""sim_id":"b""#), "{lines}");
    }
}
