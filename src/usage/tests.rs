//! The writer over a store that fails when the test says so, on paused time.

use super::journal::{Journal, OpenError};
use super::writer::Gauges;
use crate::account::charge::{Adjustment, Charge, Lease, Source, Status, TokenCount};
use crate::account::id::{KeyId, RequestId, UserId};
use crate::store::scripted::{Asked, ScriptedStore};
use crate::store::{Entry, StoreError, Written};
use crate::telemetry::backlog::Backlog;
use crate::workers::Workers;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use metrics::{Counter, Gauge, Histogram};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

type Answer = oneshot::Sender<Result<Vec<Written>, StoreError>>;

struct Setup {
    journal: Journal,
    asked: mpsc::UnboundedReceiver<Asked>,
    tasks: Workers,
    stop: CancellationToken,
}

impl Setup {
    fn new() -> Self {
        let (store, asked) = ScriptedStore::make();
        let (tasks, stop) = (Workers::default(), CancellationToken::new());
        let journal = Journal::start_with(store, Gauges::silent(), &tasks, stop.clone());
        Self { journal, asked, tasks, stop }
    }

    async fn batch(&mut self) -> (Vec<Entry>, Answer) {
        match self.asked.recv().await.unwrap() {
            Asked::Journal(batch, answer) => (batch, answer),
            other => panic!("{other:?}"),
        }
    }

    /// Commits the next batch, which must be `expected`.
    async fn commit(&mut self, expected: &[Entry]) {
        let (batch, answer) = self.batch().await;
        assert_eq!(batch, expected);
        answer.send(Ok(vec![Written::Done; batch.len()])).unwrap();
    }

    async fn fail(&mut self) -> Vec<Entry> {
        let (batch, answer) = self.batch().await;
        answer.send(Err(StoreError::Unavailable("disk full".into()))).unwrap();
        batch
    }

    /// Asks for a lease; the answer comes later.
    fn open(&self) -> (Entry, BoxFuture<'static, Result<(), OpenError>>) {
        let (journal, lease) = (self.journal.clone(), lease());
        let entry = Entry::Open(lease.clone());
        let mut opened = async move { journal.open(lease).await }.boxed();
        assert!(opened.as_mut().now_or_never().is_none());
        (entry, opened)
    }

    /// Settles without waiting: the charge must be written all the same.
    fn settle(&self) -> Entry {
        let charge = charge();
        assert!(self.journal.settle(charge.clone()).now_or_never().is_none());
        Entry::Settle(charge)
    }

    /// Is asked to bury `expected`, and answers.
    async fn bury(&mut self, expected: &Entry, answered: Result<(), StoreError>) {
        match self.asked.recv().await.unwrap() {
            Asked::Bury(entry, answer) => {
                assert_eq!(entry, serde_json::to_string(expected).unwrap());
                answer.send(answered).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Gauges {
    fn silent() -> Self {
        Self {
            admitted: Counter::noop(),
            persisted: Counter::noop(),
            backlog: Backlog::new(Gauge::noop()),
            flush_seconds: Histogram::noop(),
            dead: Counter::noop(),
        }
    }
}

fn lease() -> Lease {
    Lease {
        request: RequestId::new(),
        user: UserId::default(),
        key: KeyId::from("key"),
        version: 1,
        model: "grok".into(),
        day: "2026-01-02".parse().unwrap(),
        reserved: 10,
        admitted_at: Timestamp::UNIX_EPOCH,
    }
}

fn charge() -> Charge {
    let lease = lease();
    Charge {
        request: lease.request,
        user: lease.user,
        key: lease.key,
        model: lease.model,
        upstream: "xai".into(),
        day: lease.day,
        admitted_at: lease.admitted_at,
        tokens: TokenCount::default(),
        cost_micro_dollars: 0,
        status: Status::Complete,
        source: Source::Reported,
        counted: true,
        first_token_ms: None,
        total_ms: 1,
        client_request_id: None,
    }
}

fn adjustment(key: &str) -> Adjustment {
    let lease = lease();
    Adjustment {
        reset: lease.request,
        user: lease.user,
        key: KeyId::from(key),
        day: lease.day,
        tokens: -7,
        requests: -1,
        at: lease.admitted_at,
        by: "operator".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_during_a_commit_is_the_next_batch() {
    let mut setup = Setup::new();
    let first = setup.settle();
    let (batch, answer) = setup.batch().await;
    assert_eq!(batch, [first]);
    let waiting: Vec<Entry> = (0..20).map(|_| setup.settle()).collect();
    answer.send(Ok(vec![Written::Done])).unwrap();
    setup.commit(&waiting).await;
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_open_when_it_is_written_and_stale_when_the_store_says_so() {
    let mut setup = Setup::new();
    let (entry, opened) = setup.open();
    setup.commit(&[entry]).await;
    assert_eq!(opened.await, Ok(()));

    let (_, opened) = setup.open();
    let (_, answer) = setup.batch().await;
    answer.send(Ok(vec![Written::Stale])).unwrap();
    assert_eq!(opened.await, Err(OpenError::Stale));
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_refuses_leases_and_keeps_charges_in_order() {
    let mut setup = Setup::new();
    let first = setup.settle();
    let (_, opened) = setup.open();
    let failed = setup.fail().await;
    assert_eq!(failed[0], first);
    assert_eq!(opened.await, Err(OpenError::Unavailable));

    let second = setup.settle();
    let request = RequestId::new();
    assert!(setup.journal.extend(request, 7).now_or_never().is_none());
    let third = Entry::Extend { request, reserved: 7 };
    setup.commit(&[first, second, third]).await;
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn retries_come_later_and_later_up_to_a_second() {
    let mut setup = Setup::new();
    let charge = setup.settle();
    let mut pauses = Vec::new();
    setup.fail().await;
    for _ in 0..9 {
        let failed_at = Instant::now();
        setup.fail().await;
        pauses.push(failed_at.elapsed().as_millis());
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
    setup.commit(&[charge]).await;
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_lease_waits_longer_than_half_a_second_for_a_failing_store() {
    let mut setup = Setup::new();
    setup.settle();
    for _ in 0..8 {
        setup.fail().await;
        for _ in 0..10 {
            let (_, mut opened) = setup.open();
            let began = Instant::now();
            let answered = timeout(Duration::from_millis(100), &mut opened).await;
            let refused_at_once = answered == Ok(Err(OpenError::Unavailable));
            assert!(refused_at_once || began.elapsed() == Duration::from_millis(100));
            if !refused_at_once {
                let retry = timeout(Duration::from_millis(401), setup.fail()).await;
                retry.expect("the retry is due within half a second");
                assert_eq!(opened.await, Err(OpenError::Unavailable));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_the_store_refuses_does_not_hold_up_the_others() {
    let mut setup = Setup::new();
    let first = setup.settle();
    let (_, answer) = setup.batch().await;
    let entries: Vec<Entry> = (0..100).map(|_| setup.settle()).collect();
    let bad = entries[37].clone();
    answer.send(Err(StoreError::Unavailable("away".into()))).unwrap();

    let mut written = Vec::new();
    while written.len() < 100 {
        let (batch, answer) = setup.batch().await;
        if batch.contains(&bad) {
            answer.send(Err(StoreError::Corrupt("overflow".into()))).unwrap();
            if batch.len() == 1 {
                setup.bury(&bad, Ok(())).await;
            }
        } else {
            answer.send(Ok(vec![Written::Done; batch.len()])).unwrap();
            written.extend(batch);
        }
    }
    let expected: Vec<Entry> =
        std::iter::once(&first).chain(&entries).filter(|entry| **entry != bad).cloned().collect();
    assert_eq!(written, expected);
    assert_eq!(setup.journal.unwritable(), 1);
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_buried_now_is_tried_again() {
    let mut setup = Setup::new();
    let bad = setup.settle();
    for answered in [Err(StoreError::Unavailable("away".into())), Ok(())] {
        let (batch, answer) = setup.batch().await;
        assert_eq!(batch, std::slice::from_ref(&bad));
        answer.send(Err(StoreError::Corrupt("overflow".into()))).unwrap();
        setup.bury(&bad, answered).await;
    }
    let next = setup.settle();
    setup.commit(&[next]).await;
    assert_eq!(setup.journal.unwritable(), 1);
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn adjustments_are_kept_while_the_store_is_away() {
    let mut setup = Setup::new();
    let (journal, two) = (setup.journal.clone(), vec![adjustment("a"), adjustment("b")]);
    let entries: Vec<Entry> = two.iter().cloned().map(Entry::Adjust).collect();
    let mut adjusted = async move { journal.adjust(two).await }.boxed();
    assert!(adjusted.as_mut().now_or_never().is_none());
    assert_eq!(setup.fail().await, entries);
    setup.commit(&entries).await;
    assert!(adjusted.await);
    assert!(setup.journal.adjust(Vec::new()).await);

    let (journal, one) = (setup.journal.clone(), adjustment("a"));
    let bad = Entry::Adjust(one.clone());
    let mut adjusted = async move { journal.adjust(vec![one]).await }.boxed();
    assert!(adjusted.as_mut().now_or_never().is_none());
    let (_, answer) = setup.batch().await;
    answer.send(Err(StoreError::Corrupt("overflow".into()))).unwrap();
    setup.bury(&bad, Ok(())).await;
    assert!(!adjusted.await);
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_writes_what_waits_and_what_comes_meanwhile() {
    let mut setup = Setup::new();
    let first = setup.settle();
    setup.stop.cancel();
    let (batch, answer) = setup.batch().await;
    assert_eq!(batch, [first]);
    let second = setup.settle();
    answer.send(Ok(vec![Written::Done])).unwrap();
    setup.commit(&[second]).await;
    setup.tasks.wait().await;

    assert_eq!(setup.journal.open(lease()).await, Err(OpenError::Unavailable));
    setup.journal.settle(charge()).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_while_the_store_is_away_goes_on_trying() {
    let mut setup = Setup::new();
    let charge = setup.settle();
    setup.fail().await;
    setup.stop.cancel();
    for _ in 0..20 {
        setup.fail().await;
    }
    setup.commit(&[charge]).await;
    setup.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_writer_ends_when_nobody_holds_a_handle() {
    let Setup { journal, mut asked, tasks, .. } = Setup::new();
    assert!(journal.settle(charge()).now_or_never().is_none());
    drop(journal);
    let Some(Asked::Journal(_, answer)) = asked.recv().await else { panic!() };
    answer.send(Ok(vec![Written::Done])).unwrap();
    tasks.wait().await;
}
