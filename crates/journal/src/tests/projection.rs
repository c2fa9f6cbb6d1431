//! From the log into a ledger that fails and is killed when a test says so: each entry once.

use super::super::log::LogSettings;
use super::super::recovery::{self, JournalError};
use super::super::segment::{self, HEAD};
use super::super::tail::Segment;
use super::ledger::{Ledger, SMALL, Setup, soon};
use super::{FakeDisk, adjustment, charge, lease};
use domain::charge::Status;
use std::time::Duration;

#[tokio::test]
async fn what_was_journaled_is_in_the_ledger_once_and_old_segments_go() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    let open = lease(77);
    setup.journal.open(open.clone()).await.unwrap();
    let mut calls = Vec::new();
    for tokens in 0..200 {
        calls.push(setup.call(tokens).await);
    }
    setup.journal.adjust(vec![adjustment(&open), adjustment(&open)]).await;
    setup.journal.wait_projected().await;
    assert!(calls.iter().all(|lease| ledger.state().times[&lease.request] == 1));
    assert_eq!(ledger.state().adjustments, 2);
    soon("old segments are deleted", || disk.names().len() == 1).await;

    // Of the open lease nothing but the newest segment tells.
    let (disk, ledger) = (disk.copy(false), ledger.copy());
    let next = Setup::start(&disk, &ledger).await;
    assert_eq!(next.abandoned, 1);
    let row = ledger.state().rows[&open.request].clone();
    assert_eq!((row.status, row.tokens.completion), (Status::Abandoned, 77));
    assert!(ledger.state().times.values().all(|times| *times == 1));
    next.end().await;
    let again = Setup::start(&disk.copy(false), &ledger.copy()).await;
    assert_eq!(again.abandoned, 0);
    setup.end().await;
}

/// Otherwise they would be written at once as a small batch, and each batch has a fixed cost.
#[tokio::test(start_paused = true)]
async fn entries_that_arrive_during_a_batch_wait_for_those_of_the_next_interval() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_paused = true;
    let waits = || !ledger.state().pending.is_empty();
    setup.call(1).await;
    soon("the first batch waits", waits).await;
    setup.call(2).await;
    assert_eq!(ledger.release(), 1);
    // The clock is paused, so it advances only once every task waits.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!waits(), "a batch was written without the interval");
    setup.call(3).await;
    soon("the second batch waits", waits).await;
    assert_eq!(ledger.release(), 2);
    ledger.state().is_paused = false;
    setup.end().await;
    assert_eq!(ledger.state().rows.len(), 3);
}

#[tokio::test]
async fn segments_that_could_not_be_deleted_after_a_batch_are_deleted_without_another_one() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_paused = true;
    for tokens in 0..60 {
        setup.call(tokens).await;
    }
    assert!(disk.names().len() > 3);
    // Every batch is written, and no position after it.
    while setup.journal.shared.log.backlog_bytes() > 0 {
        soon("a batch waits", || !ledger.state().pending.is_empty()).await;
        let position_only = ledger.state().pending[0].0.is_empty();
        ledger.state().is_away = position_only;
        ledger.release();
    }
    (ledger.state().is_away, ledger.state().is_paused) = (false, false);
    soon("old segments are deleted", || disk.names().len() == 1).await;
    setup.end().await;
}

/// A kill after any write to the disk and after any commit: replay writes nothing twice.
#[tokio::test]
async fn a_kill_at_any_point_neither_loses_nor_doubles() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    let mut ended = Vec::new();
    let mut open = Vec::new();
    for round in 0..60_u64 {
        let lease = lease(1_000 + round);
        setup.journal.open(lease.clone()).await.unwrap();
        if round % 3 == 0 {
            setup.journal.extend(lease.request, 5_000 + round).await;
        }
        if round % 4 == 0 {
            open.push(lease);
        } else {
            setup.journal.settle(charge(&lease, round)).await;
            ended.push((lease, round));
        }
        if round % 7 == 0 {
            setup.journal.wait_projected().await;
        }
        // In the order in which a kill leaves them: the ledger never has more than the log.
        let ledger = ledger.copy();
        let disk = disk.copy(false);
        let next = Setup::start(&disk, &ledger).await;
        assert_eq!(next.abandoned, open.len(), "{round}");
        let state = ledger.state();
        assert_eq!(state.rows.len(), ended.len() + open.len(), "{round}");
        for (lease, tokens) in &ended {
            assert_eq!(state.rows[&lease.request], charge(lease, *tokens));
        }
        for lease in &open {
            let round = lease.reserved - 1_000;
            let held = if round % 3 == 0 { 5_000 + round } else { lease.reserved };
            assert_eq!(state.rows[&lease.request].tokens.total(), held);
        }
        assert!(state.times.values().all(|times| *times == 1), "{round}");
    }
    setup.end().await;
}

#[tokio::test]
async fn a_kill_between_a_commit_and_the_deletion_of_its_segments_does_no_harm() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_away = true;
    for tokens in 0..100 {
        setup.call(tokens).await;
    }
    let (before, old) = (disk.copy(false), disk.names().len());
    assert!(old > 5, "{old}");
    ledger.state().is_away = false;
    setup.journal.wait_projected().await;
    soon("old segments are deleted", || disk.names().len() == 1).await;
    let ledger = ledger.copy();
    let next = Setup::start(&before, &ledger).await;
    assert_eq!(next.abandoned, 0);
    assert!(ledger.state().times.values().all(|times| *times == 1));
    next.call(1).await;
    next.end().await;
    assert!(before.names().len() <= 2, "{:?}", before.names());
    setup.end().await;
}

#[tokio::test]
async fn a_ledger_that_is_away_stops_new_calls_at_the_bound_and_loses_nothing() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let settings = LogSettings { max_backlog_bytes: 20_000, ..SMALL };
    let setup = Setup::try_start(&disk, &ledger, settings).await.unwrap();
    ledger.state().is_away = true;
    let running = lease(9);
    setup.journal.open(running.clone()).await.unwrap();
    let mut calls = 0;
    while setup.journal.open(lease(1)).await.is_ok() {
        calls += 1;
        assert!(calls < 1_000);
    }
    assert!(setup.journal.is_unavailable() && calls > 50);
    setup.journal.settle(charge(&running, 3)).await;
    ledger.state().is_away = false;
    setup.journal.wait_projected().await;
    assert_eq!(ledger.state().rows.len(), 1);
    setup.call(5).await;
    setup.end().await;
    assert_eq!(ledger.state().rows.len(), 2);
}

#[tokio::test]
async fn an_entry_that_the_ledger_refuses_holds_up_no_other() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_away = true;
    let mut calls = Vec::new();
    for tokens in 0..50 {
        calls.push(setup.call(tokens).await);
    }
    ledger.state().bad = Some(calls[17].request);
    ledger.state().is_away = false;
    setup.journal.wait_projected().await;
    {
        let state = ledger.state();
        assert_eq!((state.rows.len(), state.dead_lettered), (49, 1));
    }
    assert_eq!(setup.journal.dead_letters(), 1);
    setup.end().await;
    let next = Setup::start(&disk.copy(false), &ledger.copy()).await;
    assert_eq!(next.abandoned, 0);
}

#[tokio::test]
async fn a_superseded_instance_admits_nobody_until_it_is_not() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_superseded = true;
    setup.call(1).await;
    soon("it learns of it", || setup.journal.is_unavailable()).await;
    ledger.state().is_superseded = false;
    soon("it learns of it", || !setup.journal.is_unavailable()).await;
    setup.end().await;
}

#[tokio::test]
async fn a_folder_of_another_log_is_read_from_its_beginning() {
    let ledger = Ledger::default();
    let first = FakeDisk::default();
    let setup = Setup::start(&first, &ledger).await;
    setup.call(1).await;
    setup.end().await;
    // Replaced by an empty folder, and then by the first one again.
    let setup = Setup::start(&FakeDisk::default(), &ledger).await;
    setup.call(2).await;
    setup.end().await;
    assert_eq!(ledger.state().marks.len(), 2);
    let setup = Setup::start(&first, &ledger).await;
    setup.call(3).await;
    setup.end().await;
    assert_eq!(ledger.state().rows.len(), 3);
    assert!(ledger.state().times.values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_log_shorter_than_what_the_ledger_has_goes_on_behind_it() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    let open = lease(50);
    setup.journal.open(open.clone()).await.unwrap();
    let short = disk.copy(false);
    for tokens in 0..5 {
        setup.call(tokens).await;
    }
    setup.end().await;
    let position = *ledger.state().marks.values().next().unwrap();
    for _ in 0..2 {
        let next = Setup::start(&short, &ledger).await;
        next.call(9).await;
        next.end().await;
        assert!(ledger.state().marks.values().all(|known| *known > position));
        assert_eq!(ledger.state().rows[&open.request].status, Status::Abandoned);
        assert!(ledger.state().times.values().all(|times| *times == 1));
    }
    assert_eq!(ledger.state().rows.len(), 8);
}

/// An older copy of the folder that was written on has charges of its own, although the database is farther.
#[tokio::test]
async fn an_older_copy_of_the_folder_loses_nothing_that_it_has_alone() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    setup.call(1).await;
    setup.journal.wait_projected().await;
    let (copy, elsewhere) = (disk.copy(false), ledger.copy());
    for tokens in 0..20 {
        setup.call(tokens).await;
    }
    setup.end().await;
    let next = Setup::start(&copy, &elsewhere).await;
    let alone = next.call(7).await;
    next.end().await;
    assert!(!ledger.state().rows.contains_key(&alone.request));
    let back = Setup::start(&copy, &ledger).await;
    assert_eq!(ledger.state().rows[&alone.request], charge(&alone, 7));
    back.end().await;
    assert_eq!(ledger.state().rows.len(), 22);
}

#[tokio::test]
async fn a_bad_record_in_the_middle_stops_the_start_and_a_torn_one_at_the_end_does_not() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_away = true;
    setup.call(1).await;
    setup.call(2).await;
    let name = segment::file_name(0);
    let length = disk.bytes(&name).len();

    let damaged = disk.copy(false);
    damaged.damage(&name, |bytes| bytes[HEAD + 20] ^= 1);
    let refused = Setup::try_start(&damaged, &ledger.copy(), SMALL).await.err().unwrap();
    let sentence = refused.to_string();
    assert!(
        sentence.contains("journal/00000000000000000000.journal")
            && sentence.contains("at byte 40")
            && sentence.contains("`knockx journal show`"),
        "{sentence}"
    );

    for cut in 1..100 {
        let torn = disk.copy(false);
        torn.damage(&name, |bytes| bytes.truncate(length - cut));
        let ledger = ledger.copy();
        let next = Setup::start(&torn, &ledger).await;
        // The last record was the end of the second call.
        assert_eq!((next.abandoned, ledger.state().rows.len()), (1, 2), "{cut}");
        next.call(3).await;
        next.end().await;
        assert_eq!(ledger.state().rows.len(), 3);
        assert_eq!(
            recovery::scan(&torn, &recovery::list(&torn).unwrap().unwrap(), 0).unwrap().torn,
            None
        );
    }
}

#[tokio::test]
async fn a_missing_or_cut_segment_in_the_middle_is_said() {
    let (disk, ledger) = (FakeDisk::default(), Ledger::default());
    let setup = Setup::start(&disk, &ledger).await;
    ledger.state().is_away = true;
    for tokens in 0..60 {
        setup.call(tokens).await;
    }
    let names = disk.names();
    assert!(names.len() > 3);
    let segments: Vec<Segment> = recovery::list(&disk).unwrap().unwrap().segments;

    let missing = disk.copy(false);
    crate::disk::Disk::remove(&missing, &names[1]).unwrap();
    let refused = Setup::try_start(&missing, &ledger.copy(), SMALL).await.err().unwrap();
    let expected = (segments[1].base, segments[1].end());
    assert!(
        matches!(refused, JournalError::Missing { from, to, .. } if (from, to) == expected),
        "{refused}"
    );

    let cut = disk.copy(false);
    cut.damage(&names[1], |bytes| bytes.truncate(bytes.len() - 3));
    let refused = Setup::try_start(&cut, &ledger.copy(), SMALL).await.err().unwrap();
    assert!(refused.to_string().contains(&names[1]), "{refused}");

    let foreign = disk.copy(false);
    foreign.damage(&names[2], |bytes| bytes[10] ^= 1);
    let refused = Setup::try_start(&foreign, &ledger.copy(), SMALL).await.err().unwrap();
    assert!(matches!(refused, JournalError::Foreign { .. }), "{refused}");
}
