//! Writing: in order, in one piece, through full and stuck disks.

use super::super::Unavailable;
use super::super::log::LogSettings;
use super::ledger::{Ledger, SMALL, Setup, soon};
use super::{FakeDisk, charge, lease};
use domain::charge::{Lease, Status};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::time::Duration;
use system::clock;

/// A second, and room for a machine that is busy.
const AT_MOST: Duration = Duration::from_millis(1_500);

/// True if the write completes after it has yielded once, so that others append.
fn is_ready(write: &mut (impl Future + Unpin)) -> bool {
    (0..2).any(|_| (&mut *write).now_or_never().is_some())
}

const LARGE: LogSettings = LogSettings { segment_bytes: 1 << 20, ..SMALL };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_write_at_once_is_all_there_and_in_the_order_of_each() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup =
        Setup::try_start(&disk, &ledger, LogSettings { segment_bytes: 50_000, ..SMALL }).await;
    let setup = setup.unwrap();
    let writers = (0..16).map(|_| {
        let journal = setup.journal.clone();
        tokio::spawn(async move {
            let mut open = 0;
            for tokens in 0..100 {
                let lease = lease(10);
                journal.open(lease.clone()).await.unwrap();
                journal.extend(lease.request, 20).await;
                if tokens % 10 == 0 {
                    open += 1;
                } else {
                    journal.settle(charge(&lease, tokens)).await;
                }
            }
            open
        })
    });
    let open: usize = join_all(writers).await.into_iter().map(Result::unwrap).sum();
    setup.journal.wait_projected().await;
    let (disk, ledger) = (disk.copy(false), ledger.copy());
    let next = Setup::start(&disk, &ledger).await;
    assert_eq!((next.abandoned, open), (160, 160));
    let state = ledger.state();
    assert_eq!(state.rows.len(), 1600);
    assert!(state.times.values().all(|times| *times == 1));
    let held = |status| state.rows.values().filter(move |row| row.status == status);
    assert!(held(Status::Abandoned).all(|row| row.tokens.total() == 20));
}

#[tokio::test]
async fn tasks_that_are_ready_share_a_write() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::try_start(&disk, &ledger, LARGE).await.unwrap();
    let leases: Vec<Lease> = (0..100).map(|_| lease(1)).collect();
    let before = disk.writes();
    for opened in join_all(leases.iter().map(|lease| setup.journal.open(lease.clone()))).await {
        opened.unwrap();
    }
    assert_eq!(disk.writes() - before, 1);
    join_all(leases.iter().map(|lease| setup.journal.settle(charge(lease, 1)))).await;
    assert_eq!(disk.writes() - before, 2);
}

#[tokio::test]
async fn a_charge_is_written_although_its_task_ends_before_others_have_run() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::try_start(&disk, &ledger, LARGE).await.unwrap();
    let lease = lease(10);
    setup.journal.open(lease.clone()).await.unwrap();
    assert!(setup.journal.settle(charge(&lease, 3)).now_or_never().is_none());
    let (disk, ledger) = (disk.copy(false), ledger.copy());
    let next = Setup::start(&disk, &ledger).await;
    assert_eq!(next.abandoned, 0);
    assert_eq!(ledger.state().rows[&lease.request].tokens.prompt, 3);
}

#[tokio::test]
async fn while_the_disk_is_full_calls_are_refused_and_charges_wait_in_order() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::try_start(&disk, &ledger, LARGE).await.unwrap();
    for room in [0, 1, 30, 100, 200] {
        let (first, second) = (lease(1), lease(2));
        setup.journal.open(first.clone()).await.unwrap();
        setup.journal.open(second.clone()).await.unwrap();
        disk.leave_room(Some(room));
        let mut settled = Box::pin(setup.journal.settle(charge(&first, 5)));
        let is_written = is_ready(&mut settled);
        let refused = lease(3);
        let began = clock::instant();
        // A lease that still fits is written; the next one is not.
        while setup.journal.open(refused.clone()).await.is_ok() {}
        assert!(began.elapsed() < AT_MOST);
        assert!(setup.journal.is_unavailable());
        assert_eq!(setup.journal.open(lease(4)).await, Err(Unavailable));
        let mut extended = Box::pin(setup.journal.extend(second.request, 9));
        assert!(!is_ready(&mut extended));

        // What a kill leaves now can be read.
        let (killed, state) = (disk.copy(false), ledger.copy());
        Setup::start(&killed, &state).await;

        disk.leave_room(None);
        if !is_written {
            settled.await;
        }
        extended.await;
        soon("calls are admitted again", || !setup.journal.is_unavailable()).await;
        setup.journal.wait_projected().await;
        assert_eq!(ledger.state().rows[&first.request], charge(&first, 5));
        let (killed, state) = (disk.copy(false), ledger.copy());
        let next = Setup::start(&killed, &state).await;
        assert_eq!(next.abandoned, 1, "the refused calls left no lease");
        assert_eq!(state.state().rows[&second.request].tokens.total(), 9);
        setup.journal.settle(charge(&second, 1)).await;
    }
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_a_write_is_stuck_the_others_are_refused_within_a_second() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::try_start(&disk, &ledger, LARGE).await.unwrap();
    let running = lease(5);
    setup.journal.open(running.clone()).await.unwrap();
    disk.stick(true);
    let journal = setup.journal.clone();
    let stuck = tokio::spawn(async move { journal.open(lease(1)).await });
    tokio::task::block_in_place(|| disk.wait_for_stuck());
    for _ in 0..3 {
        let began = clock::instant();
        let refused = join_all((0..20).map(|_| setup.journal.open(lease(2)))).await;
        assert!(refused.iter().all(|answer| *answer == Err(Unavailable)));
        assert!(began.elapsed() < AT_MOST, "{:?}", began.elapsed());
    }
    let mut settled = Box::pin(setup.journal.settle(charge(&running, 4)));
    assert!(!is_ready(&mut settled));
    disk.stick(false);
    stuck.await.unwrap().unwrap();
    settled.await;
    // Slow for a while: the thread writes, and no call's task is held up by the next stall.
    disk.stick(true);
    let began = clock::instant();
    assert_eq!(setup.journal.open(lease(3)).await, Err(Unavailable));
    assert!(began.elapsed() < AT_MOST);
    disk.stick(false);
    soon("calls are admitted again", || !setup.journal.is_unavailable()).await;
    setup.journal.wait_projected().await;
    assert_eq!(ledger.state().rows[&running.request], charge(&running, 4));
    let (disk, ledger) = (disk.copy(false), ledger.copy());
    let next = Setup::start(&disk, &ledger).await;
    assert_eq!(next.abandoned, 1, "only the call whose lease was written in time");
    setup.end().await;
}

#[tokio::test]
async fn a_segment_that_cannot_be_made_lets_the_last_one_grow() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    for tokens in 0..300 {
        // The next segment's head alone does not fit.
        disk.leave_room(if tokens % 2 == 0 { Some(400) } else { None });
        setup.call(tokens).await;
    }
    disk.leave_room(None);
    setup.journal.wait_projected().await;
    assert_eq!(ledger.state().rows.len(), 300);
    let next = Setup::start(&disk.copy(false), &ledger.copy()).await;
    assert_eq!(next.abandoned, 0);
    setup.end().await;
}
