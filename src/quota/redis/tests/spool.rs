use super::*;
use crate::account::charge::{Source, Status, TokenCount};
use crate::account::day::Day;
use crate::account::id::{KeyId, UserId};
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn charge() -> Charge {
    let now = clock::now();
    Charge {
        request: RequestId::new(),
        user: UserId::new(),
        key: KeyId::from("key"),
        model: "m".into(),
        upstream: "u".into(),
        day: Day::at(now, &TimeZone::UTC),
        admitted_at: now,
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

fn files(folder: &TempDir, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.path()) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == ending)).collect()
}

fn soon(what: &str, done: impl Fn() -> bool) {
    let deadline = clock::instant() + Duration::from_secs(20);
    while !done() {
        assert!(clock::instant() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn is_kept(folder: &TempDir, charges: usize) -> bool {
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    files(folder, ENDING).first().map_or(0, lines) == charges
}

/// What another process finds.
fn left(folder: &TempDir) -> Vec<Left> {
    Spool::new(folder.path()).left().unwrap()
}

#[test]
fn what_redis_has_not_taken_stays_though_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path());
    let charges = [charge(), charge(), charge()];
    for charge in &charges {
        spool.keep(charge);
    }
    soon("they are on disk", || is_kept(&folder, 3));
    assert!(left(&folder).is_empty(), "its process lives");
    spool.taken(charges[0].request);
    drop(spool);
    soon("its lock is free", || !left(&folder).is_empty());
    let found = left(&folder).pop().unwrap();
    let mut requests: Vec<RequestId> = found.charges.iter().map(|charge| charge.request).collect();
    let mut expected = charges.map(|charge| charge.request);
    requests.sort_unstable();
    expected.sort_unstable();
    assert_eq!(requests, expected, "one of them twice, which does no harm");
    found.done();
    assert!(files(&folder, ENDING).is_empty());
}

#[test]
fn a_file_goes_with_the_last_charge_that_redis_takes_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path());
    for _ in 0..2 {
        let charges = [charge(), charge()];
        for charge in &charges {
            spool.keep(charge);
        }
        soon("they are on disk", || is_kept(&folder, 2));
        for charge in &charges {
            spool.taken(charge.request);
        }
        soon("the file is gone", || files(&folder, ENDING).is_empty());
    }
}

#[test]
fn nobody_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("file");
    std::fs::write(&nowhere, "").unwrap();
    let spool = Spool::new(&nowhere);
    let began: Instant = clock::instant();
    for _ in 0..1000 {
        spool.keep(&charge());
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_line_that_cannot_be_read_is_kept_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let line = |charge: &Charge| serde_json::to_string(charge).unwrap();
    let (one, two) = (charge(), charge());
    let half = &line(&two)[..40];
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.charges", format!("{}\n{half}\n{}\n", line(&one), line(&two)));
    write("b.charges", format!("{}\n{half}", line(&one)));
    // Cannot be read at all.
    std::fs::create_dir(folder.path().join("c.charges")).unwrap();
    let mut found = left(&folder);
    found.sort_by_key(|left| left.path.clone());
    let numbers: Vec<_> = found.iter().map(|left| (left.charges.len(), left.unreadable)).collect();
    assert_eq!(numbers, [(2, 1), (1, 0)]);
    for left in found {
        left.done();
    }
    assert_eq!(files(&folder, UNREADABLE).len(), 1);
    assert_eq!(files(&folder, ENDING).len(), 1, "the one that cannot be read");
}

#[test]
fn a_charge_of_an_older_gateway_has_no_id_of_its_caller() {
    let older = serde_json::to_string(&charge()).unwrap();
    assert!(!older.contains("client_request_id"), "{older}");
    assert_eq!(serde_json::from_str::<Charge>(&older).unwrap().client_request_id, None);
    let newer = Charge { client_request_id: Some("job-7".into()), ..charge() };
    let line = serde_json::to_string(&newer).unwrap();
    assert_eq!(serde_json::from_str::<Charge>(&line).unwrap(), newer);
}

#[test]
fn a_line_that_broke_off_is_cut_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.charges");
    let mut written = Written::create(folder.path(), &path).unwrap();
    written.append(b"one\n").unwrap();
    written.file.write_all(b"half a li").unwrap();
    written.file.set_len(written.length).unwrap();
    written.append(b"two\n").unwrap();
    assert_eq!(std::fs::read(path.with_extension(UNFINISHED)).unwrap(), b"one\ntwo\n");
}

#[test]
fn what_others_may_have_put_there_is_not_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let invented = elsewhere.path().join("invented");
    let line = serde_json::to_string(&charge()).unwrap() + "\n";
    std::fs::write(&invented, &line).unwrap();
    symlink(&invented, folder.path().join("a").with_extension(ENDING)).unwrap();
    assert!(left(&folder).is_empty(), "a link is not followed");
    std::fs::write(folder.path().join("b").with_extension(ENDING), &line).unwrap();
    assert_eq!(left(&folder).len(), 1);
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder.path(), mode(0o777)).unwrap();
    let Err(refused) = Spool::new(folder.path()).left() else { panic!("it is read") };
    assert!(refused.to_string().contains("mode 0777"), "{refused}");
}
