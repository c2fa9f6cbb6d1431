use super::*;
use domain::charge::TokenCount;
use domain::day::Day;
use domain::id::UserId;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn charge() -> Charge {
    // Records, like the ledger, keep milliseconds.
    let now = jiff::Timestamp::from_millisecond(clock::now().as_millisecond()).unwrap();
    let lease = domain::testing::lease(UserId::new(), "key", Day::at(now, &TimeZone::UTC), now);
    domain::testing::charge(&lease, TokenCount::default())
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
    let kept = |path: &PathBuf| segment(&std::fs::read(path).unwrap()).0.len();
    files(folder, EXTENSION).first().map_or(0, kept) == charges
}

/// A file with these charges.
fn file_of(charges: &[Charge]) -> Vec<u8> {
    let log = LogId(clock::unique());
    let mut bytes = SegmentHead { log, base: 0 }.encode().to_vec();
    for charge in charges {
        reader::append(&Record::Settle(charge.clone()), log.seed(), &mut bytes);
    }
    bytes
}

/// What another process finds.
fn abandoned(folder: &TempDir) -> Vec<AbandonedFile> {
    Spool::new(folder.path()).abandoned_files().unwrap()
}

#[test]
fn what_redis_has_not_taken_stays_though_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path());
    let charges = [charge(), charge(), charge()];
    for charge in &charges {
        spool.write(charge);
    }
    soon("they are on disk", || is_kept(&folder, 3));
    assert!(abandoned(&folder).is_empty(), "its process lives");
    spool.acknowledge(charges[0].request);
    drop(spool);
    soon("its lock is free", || !abandoned(&folder).is_empty());
    let found = abandoned(&folder).pop().unwrap();
    let mut requests: Vec<RequestId> = found.charges.iter().map(|charge| charge.request).collect();
    let mut expected = charges.map(|charge| charge.request);
    requests.sort_unstable();
    expected.sort_unstable();
    assert_eq!(requests, expected, "one of them twice, which does no harm");
    found.finish();
    assert!(files(&folder, EXTENSION).is_empty());
}

#[test]
fn a_file_goes_with_the_last_charge_that_redis_takes_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path());
    for _ in 0..2 {
        let charges = [charge(), charge()];
        for charge in &charges {
            spool.write(charge);
        }
        soon("they are on disk", || is_kept(&folder, 2));
        for charge in &charges {
            spool.acknowledge(charge.request);
        }
        soon("the file is gone", || files(&folder, EXTENSION).is_empty());
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
        spool.write(&charge());
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_record_that_cannot_be_read_is_kept_and_holds_up_no_other() {
    let (one, two, three) = (charge(), charge(), charge());
    let whole = file_of(&[one.clone(), two.clone(), three.clone()]);
    assert_eq!(segment(&whole), (vec![one.clone(), two.clone(), three.clone()], 0));
    let second = file_of(std::slice::from_ref(&one)).len();
    let mut damaged = whole.clone();
    damaged[second + 20] ^= 1;
    assert_eq!(segment(&damaged), (vec![one.clone(), three], 1));
    for length in HEAD..whole.len() {
        let (charges, unreadable) = segment(&whole[..length]);
        assert!(
            charges.len() < 3 && unreadable == 0,
            "{length}: the end was never known to be kept"
        );
    }
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(
        segment(&damaged).1,
        1,
        "a whole record that is damaged may have been known to be kept"
    );
    damaged[HEAD - 1] ^= 1;
    assert_eq!(segment(&damaged), (vec![], 1), "nothing of a file without its head");
    let mut newer = whole[..HEAD].to_vec();
    let seed = SegmentHead::decode(&whole).unwrap().log.seed();
    let (payload, mut frame) = ([99_u8, 99, 0, 0], Vec::new());
    frame.extend_from_slice(&4_u32.to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c_append(seed, &payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    newer.extend_from_slice(&frame);
    reader::append(&Record::Settle(two.clone()), seed, &mut newer);
    assert_eq!(segment(&newer), (vec![two], 1), "a kind that only a newer version knows");
}

#[test]
fn files_of_an_earlier_version_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let line = |charge: &Charge| serde_json::to_string(charge).unwrap();
    let (one, two) = (charge(), charge());
    let half = &line(&two)[..40];
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.charges", format!("{}\n{half}\n{}\n", line(&one), line(&two)));
    write("b.charges", format!("{}\n{half}", line(&one)));
    // Cannot be read at all.
    std::fs::create_dir(folder.path().join("c.charges")).unwrap();
    let mut found = abandoned(&folder);
    found.sort_by_key(|left| left.path.clone());
    let numbers: Vec<_> = found.iter().map(|left| (left.charges.len(), left.unreadable)).collect();
    assert_eq!(numbers, [(2, 1), (1, 0)]);
    for left in found {
        left.finish();
    }
    assert_eq!(files(&folder, UNREADABLE).len(), 1);
    assert_eq!(files(&folder, LINES_EXTENSION).len(), 1, "the one that cannot be read");
}

#[test]
fn a_charge_of_an_older_gateway_has_no_id_of_its_caller_and_counts_in_full() {
    let older = serde_json::to_string(&charge()).unwrap();
    assert!(!older.contains("client_request_id") && !older.contains("uncounted"), "{older}");
    let read: Charge = serde_json::from_str(&older).unwrap();
    assert_eq!((read.client_request_id, read.uncounted), (None, 0));
    let newer = Charge { client_request_id: Some("job-7".into()), uncounted: 7, ..charge() };
    let line = serde_json::to_string(&newer).unwrap();
    assert_eq!(serde_json::from_str::<Charge>(&line).unwrap(), newer);
}

#[test]
fn a_record_that_broke_off_is_cut_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.charges");
    let mut written = SpoolFile::create(folder.path(), &path).unwrap();
    let (one, two) = (charge(), charge());
    written.append([one.clone()].into_iter()).unwrap();
    written.file.write_all(b"half a rec").unwrap();
    written.file.set_len(written.length).unwrap();
    written.append([two.clone()].into_iter()).unwrap();
    let bytes = std::fs::read(path.with_extension(UNFINISHED)).unwrap();
    assert_eq!(segment(&bytes), (vec![one, two], 0));
}

#[test]
fn what_others_may_have_put_there_is_not_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let invented = elsewhere.path().join("invented");
    let file = file_of(&[charge()]);
    std::fs::write(&invented, &file).unwrap();
    symlink(&invented, folder.path().join("a").with_extension(EXTENSION)).unwrap();
    assert!(abandoned(&folder).is_empty(), "a link is not followed");
    std::fs::write(folder.path().join("b").with_extension(EXTENSION), &file).unwrap();
    assert_eq!(abandoned(&folder).len(), 1);
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder.path(), mode(0o777)).unwrap();
    let Err(refused) = Spool::new(folder.path()).abandoned_files() else { panic!("it is read") };
    assert!(refused.to_string().contains("mode 0777"), "{refused}");
}

#[test]
fn a_damaged_file_is_set_aside_once_its_good_records_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut damaged = file_of(&[charge(), charge()]);
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(folder.path().join("a").with_extension(EXTENSION), &damaged).unwrap();
    std::fs::write(folder.path().join("b").with_extension(EXTENSION), &damaged[1..]).unwrap();
    let found = abandoned(&folder);
    let mut sent: Vec<usize> = found.iter().map(|left| left.charges.len()).collect();
    sent.sort_unstable();
    assert_eq!(sent, [0, 1]);
    found.into_iter().for_each(AbandonedFile::finish);
    assert_eq!((files(&folder, EXTENSION).len(), files(&folder, UNREADABLE).len()), (0, 2));
}

#[test]
fn after_a_write_that_failed_charges_are_kept_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine").with_extension(EXTENSION);
    let mut writer = Writer {
        folder: folder.path().to_owned(),
        path: path.clone(),
        file: None,
        waiting: HashSet::new(),
    };
    // Where the file is to be there is a folder: it cannot get its name.
    std::fs::create_dir(&path).unwrap();
    assert!(writer.append([charge()].into_iter()).is_err());
    writer.remove();
    std::fs::remove_dir(&path).unwrap();
    // An attempt that was not cleaned up.
    std::fs::write(path.with_extension(UNFINISHED), file_of(&[charge()])).unwrap();
    let kept = charge();
    writer.append([kept.clone()].into_iter()).unwrap();
    assert_eq!(segment(&std::fs::read(&path).unwrap()), (vec![kept], 0));
}
