//! `durability = "power"`: what was answered is there after a power cut, for any history.

use super::super::log::LogSettings;
use super::ledger::{Ledger, SMALL, Setup, soon};
use super::{FakeDisk, charge, lease};
use domain::charge::{Lease, Status};
use futures_util::future::join_all;
use proptest::prelude::*;

const SYNCED: LogSettings = LogSettings { synced: true, ..SMALL };

#[derive(Debug, Clone, Copy)]
enum Step {
    Open,
    Extend(usize),
    Settle(usize),
    Project,
    SyncFails(bool),
    PowerCut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Open),
        2 => (0..8_usize).prop_map(Step::Extend),
        4 => (0..8_usize).prop_map(Step::Settle),
        1 => Just(Step::Project),
        1 => any::<bool>().prop_map(Step::SyncFails),
        1 => Just(Step::PowerCut),
    ]
}

/// What callers have received.
#[derive(Default)]
struct Told {
    open: Vec<(Lease, u64)>,
    ended: Vec<(Lease, u64)>,
    abandoned: usize,
}

async fn run(steps: Vec<Step>) {
    let (mut disk, mut ledger) = (FakeDisk::default(), Ledger::default());
    let mut setup = Setup::try_start(&disk, &ledger, SYNCED).await.unwrap();
    let mut told = Told::default();
    let mut fails = false;
    for (number, step) in (1..).zip(steps) {
        match step {
            Step::Open => {
                let lease = lease(number);
                if setup.journal.open(lease.clone()).await.is_ok() {
                    told.open.push((lease, number));
                }
            }
            Step::SyncFails(is_failing) => {
                fails = is_failing;
                disk.fail_to_sync(fails);
            }
            // While syncs fail nothing more is answered: it would wait.
            Step::Extend(at) if !fails && at < told.open.len() => {
                told.open[at].1 += 100;
                setup.journal.extend(told.open[at].0.request, told.open[at].1).await;
            }
            Step::Settle(at) if !fails && at < told.open.len() => {
                let (lease, _) = told.open.remove(at);
                setup.journal.settle(charge(&lease, number)).await;
                told.ended.push((lease, number));
            }
            Step::Project if !fails => setup.journal.wait_projected().await,
            Step::PowerCut => {
                fails = false;
                // The ledger's own commits survive it.
                ledger = ledger.copy();
                disk = disk.copy(true);
                setup = Setup::try_start(&disk, &ledger, SYNCED).await.unwrap();
                let state = ledger.state();
                for (lease, held) in told.open.drain(..) {
                    let row = &state.rows[&lease.request];
                    assert_eq!((row.status, row.tokens.total()), (Status::Abandoned, held));
                    told.abandoned += 1;
                }
                for (lease, tokens) in &told.ended {
                    assert_eq!(state.rows[&lease.request], charge(lease, *tokens));
                }
                assert!(state.times.values().all(|times| *times == 1));
                assert_eq!(state.rows.len(), told.ended.len() + told.abandoned);
            }
            Step::Extend(_) | Step::Settle(_) | Step::Project => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_was_answered_is_lost(
        mut steps in proptest::collection::vec(step(), 1..60)
    ) {
        steps.extend([Step::SyncFails(false), Step::Open, Step::PowerCut]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_wait_share_a_sync() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup =
        Setup::try_start(&disk, &ledger, LogSettings { segment_bytes: 1 << 20, ..SYNCED }).await;
    let setup = setup.unwrap();
    disk.stick(true);
    let first = tokio::spawn({
        let journal = setup.journal.clone();
        async move { journal.settle(charge(&lease(1), 1)).await }
    });
    tokio::task::block_in_place(|| disk.wait_for_stuck());
    let before = disk.syncs();
    let others = join_all((0..50).map(|n| {
        let journal = setup.journal.clone();
        tokio::spawn(async move { journal.settle(charge(&lease(1), n)).await })
    }));
    tokio::task::yield_now().await;
    disk.stick(false);
    first.await.unwrap();
    others.await.into_iter().for_each(Result::unwrap);
    let syncs = disk.syncs() - before;
    assert!(syncs < 40, "{syncs} syncs for 51 charges");
    setup.journal.wait_projected().await;
    assert_eq!(ledger.state().rows.len(), 51);
    setup.end().await;
}

/// With "process" a power cut may take the newest records, and never the end of a segment that another follows.
#[tokio::test]
async fn a_power_cut_after_a_new_segment_leaves_the_one_before_it_whole() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_away = true;
    for tokens in 0..60 {
        setup.call(tokens).await;
        let (disk, ledger) = (disk.copy(true), ledger.copy());
        let next = Setup::start(&disk, &ledger).await;
        next.call(1).await;
        next.end().await;
    }
    assert!(disk.names().len() > 3, "{:?}", disk.names());
}

/// A segment whose name may not survive a power cut is not written on, and not left in the way.
#[tokio::test]
async fn a_folder_that_fails_to_sync_gets_no_new_segment() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::try_start(&disk, &ledger, SYNCED).await.unwrap();
    ledger.state().is_away = true;
    disk.fail_to_sync_names(true);
    let mut calls = Vec::new();
    for tokens in 0..60 {
        calls.push(setup.call(tokens).await);
    }
    // The last attempt may still have its segment, under either name, for a moment.
    soon("the attempts are taken back", || disk.names().len() == 1).await;
    let (copy, state) = (disk.copy(false), ledger.copy());
    let next = Setup::start(&copy, &state).await;
    assert!(calls.iter().all(|lease| state.state().times[&lease.request] == 1));
    next.end().await;
    disk.fail_to_sync_names(false);
    for tokens in 0..60 {
        setup.call(tokens).await;
    }
    assert!(disk.names().len() > 1, "it is made once the folder can be synced");
}
