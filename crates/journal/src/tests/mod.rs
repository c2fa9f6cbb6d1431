//! The journal over a disk that fails, stalls and forgets when a test says so.

mod format;
mod ledger;
mod log;
mod power;
mod projection;

use super::disk::{Disk, DiskFile};
use super::record::Record;
use domain::charge::{Adjustment, Charge, Lease, Status, TokenCount};
use domain::id::UserId;
use jiff::Timestamp;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

/// A disk in memory.
#[derive(Clone, Default)]
pub(super) struct FakeDisk(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Arc<Mutex<Content>>>,
    /// Bytes that still fit; `None` = any number.
    room: Option<usize>,
    /// Writes wait while this holds.
    is_stuck: bool,
    /// How many writes wait.
    waiting: usize,
    writes: usize,
    syncs: usize,
    fails_to_sync: bool,
    /// Syncs of the folder fail, those of files do not.
    fails_to_sync_names: bool,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// What a power cut leaves.
    synced: Vec<u8>,
}

struct FakeFile {
    disk: FakeDisk,
    content: Arc<Mutex<Content>>,
}

impl FakeDisk {
    /// Lets only so many bytes more be written.
    pub(super) fn leave_room(&self, bytes: Option<usize>) {
        self.0.state.lock().unwrap().room = bytes;
    }

    pub(super) fn stick(&self, is_stuck: bool) {
        self.0.state.lock().unwrap().is_stuck = is_stuck;
        self.0.moved.notify_all();
    }

    pub(super) fn fail_to_sync_names(&self, fails: bool) {
        self.0.state.lock().unwrap().fails_to_sync_names = fails;
    }

    pub(super) fn fail_to_sync(&self, fails: bool) {
        self.0.state.lock().unwrap().fails_to_sync = fails;
    }

    /// Waits until a write is stuck.
    pub(super) fn wait_for_stuck(&self) {
        let mut state = self.0.state.lock().unwrap();
        while state.waiting == 0 {
            state = self.0.moved.wait(state).unwrap();
        }
    }

    pub(super) fn writes(&self) -> usize {
        self.0.state.lock().unwrap().writes
    }

    pub(super) fn syncs(&self) -> usize {
        self.0.state.lock().unwrap().syncs
    }

    /// The same files for another process: what was written, or after a power cut what was synced.
    pub(super) fn copy(&self, power_cut: bool) -> Self {
        let copy = Self::default();
        for (name, content) in &self.0.state.lock().unwrap().files {
            let content = content.lock().unwrap();
            let bytes = if power_cut { &content.synced } else { &content.bytes }.clone();
            if power_cut && bytes.is_empty() {
                continue;
            }
            let content = Content { synced: bytes.clone(), bytes };
            copy.0.state.lock().unwrap().files.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        copy
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.state.lock().unwrap().files.keys().cloned().collect();
        names.sort();
        names
    }

    /// Changes the bytes of a file.
    pub(super) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let file = Arc::clone(&self.0.state.lock().unwrap().files[name]);
        change(&mut file.lock().unwrap().bytes);
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let file = Arc::clone(&self.0.state.lock().unwrap().files[name]);
        file.lock().unwrap().bytes.clone()
    }
}

impl Disk for FakeDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let files = &self.0.state.lock().unwrap().files;
        let content = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FakeFile { disk: self.clone(), content: Arc::clone(content) }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.0.state.lock().unwrap().files.insert(name.to_owned(), Arc::default());
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let files = &mut self.0.state.lock().unwrap().files;
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.0.state.lock().unwrap().files.remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let fails = self.0.state.lock().unwrap().fails_to_sync_names;
        if fails { Err(io::Error::other("the disk failed")) } else { Ok(()) }
    }

    fn name(&self) -> String {
        "journal".to_owned()
    }
}

impl DiskFile for FakeFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap().min(content.bytes.len());
        let rest = &content.bytes[offset..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.state.lock().unwrap();
        state.writes += 1;
        state.waiting += 1;
        self.disk.0.moved.notify_all();
        while state.is_stuck {
            state = self.disk.0.moved.wait(state).unwrap();
        }
        state.waiting -= 1;
        let fits = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        state.room = state.room.map(|room| room - fits);
        let mut content = self.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let length = content.bytes.len().max(offset + fits);
        content.bytes.resize(length, 0);
        content.bytes[offset..offset + fits].copy_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut content = self.content.lock().unwrap();
        content.bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.state.lock().unwrap();
        state.syncs += 1;
        if state.fails_to_sync {
            return Err(io::Error::other("the disk failed"));
        }
        drop(state);
        let mut content = self.content.lock().unwrap();
        content.synced = content.bytes.clone();
        Ok(())
    }
}

pub(super) fn lease(reserved: u64) -> Lease {
    let admitted_at = Timestamp::from_millisecond(1_767_312_000_123).unwrap();
    let day = "2026-01-02".parse().unwrap();
    Lease { reserved, ..domain::testing::lease(UserId::default(), "key", day, admitted_at) }
}

pub(super) fn charge(lease: &Lease, tokens: u64) -> Charge {
    let tokens = TokenCount { prompt: tokens, ..TokenCount::default() };
    Charge {
        cost_micro_dollars: -7,
        status: Status::CutByQuota,
        first_token_ms: Some(3),
        total_ms: 1,
        client_request_id: Some("their-id".into()),
        ..domain::testing::charge(lease, tokens)
    }
}

pub(super) fn adjustment(lease: &Lease) -> Adjustment {
    Adjustment {
        reset: lease.request,
        user: lease.user,
        key: lease.key.clone(),
        day: lease.day,
        tokens: -7,
        requests: i64::MIN,
        at: lease.admitted_at,
        by: "operatör".to_owned(),
    }
}

/// One of each kind.
pub(super) fn one_of_each() -> Vec<Record> {
    let lease = lease(u64::MAX);
    let request = lease.request;
    let plain = Charge { first_token_ms: None, client_request_id: None, ..charge(&lease, 1) };
    vec![
        Record::Open(lease.clone()),
        Record::Extend { request, reserved: 9 },
        Record::Settle(charge(&lease, 5)),
        Record::Settle(Charge { counted: false, model: "".into(), ..plain.clone() }),
        Record::Adjust(adjustment(&lease)),
        Record::Withdraw { request },
        Record::Settle(Charge { uncounted: 1, ..plain }),
        Record::Settle(Charge { uncounted: u64::MAX, ..charge(&lease, 5) }),
    ]
}
