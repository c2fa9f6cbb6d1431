//! Charges on disk while Redis does not take them, so that a gateway may die meanwhile.
//!
//! Each process writes a file of its own and holds a lock on it; an unlocked file was left
//! by a dead process, and whoever finds it sends what is in it. Sending twice does no harm, so a file
//! stays whenever it is in doubt. One thread does all the writing: no call waits for the disk.
//!
//! A file has the format of a journal segment that holds only settlements.

use crate::account::charge::Charge;
use crate::account::id::RequestId;
use crate::clock;
use crate::journal::reader::{self, Ending, Reader};
use crate::journal::record::Record;
use crate::journal::segment::{HEAD, LogId, SegmentHead};
use crate::private_files;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

const ENDING: &str = "spool";
/// Of a file that an earlier version wrote: a line of JSON for each charge.
const LINES_ENDING: &str = "charges";
/// Of a file that is not locked yet.
const UNFINISHED: &str = "new";
/// Of a file in which something could not be read.
const UNREADABLE: &str = "unreadable";
/// Orders carried out together.
const TOGETHER: usize = 4096;

/// A folder of such files.
#[derive(Clone)]
pub struct Spool {
    folder: PathBuf,
    /// The name of this process' files, without the ending.
    name: String,
    /// Never full: what is ordered waits in memory anyway.
    orders: Sender<Order>,
}

enum Order {
    Keep(Box<Charge>),
    /// Redis has taken it.
    Taken(RequestId),
}

/// The thread that writes.
struct Writer {
    folder: PathBuf,
    path: PathBuf,
    file: Option<Written>,
    /// Charges on disk that Redis has not taken yet.
    waiting: HashSet<RequestId>,
}

/// The file of this process.
struct Written {
    file: File,
    log: LogId,
    /// Up to where its records are whole.
    length: u64,
    has_name: bool,
}

/// What a dead process left.
pub(super) struct Left {
    pub(super) charges: Vec<Charge>,
    path: PathBuf,
    unreadable: usize,
    /// Holds the lock.
    _file: File,
}

impl Spool {
    /// A spool in `folder`, which is made when it is first needed.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let name = clock::unique().simple().to_string();
        let path = folder.join(&name).with_extension(ENDING);
        let writer =
            Writer { folder: folder.to_owned(), path, file: None, waiting: HashSet::new() };
        let (orders, ordered) = channel();
        let spawned =
            thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run(&ordered));
        if let Err(error) = spawned {
            tracing::error!(%error, "spool folder is not usable, keeping charges in memory only");
        }
        Self { folder: folder.to_owned(), name, orders }
    }

    /// Has a charge written to disk. One that cannot be is in memory only.
    pub(super) fn keep(&self, charge: &Charge) {
        let _ = self.orders.send(Order::Keep(Box::new(charge.clone())));
    }

    /// Redis has taken a charge.
    pub(super) fn taken(&self, request: RequestId) {
        let _ = self.orders.send(Order::Taken(request));
    }

    /// What dead processes left here. It blocks.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn left(&self) -> io::Result<Vec<Left>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        // Whoever can write here could invent charges.
        private_files::check_folder(&self.folder)?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_ours = path.file_stem().is_some_and(|stem| stem == self.name.as_str());
            let is_charges = |ending: &OsStr| ending == ENDING || ending == LINES_ENDING;
            if is_ours || !path.extension().is_some_and(is_charges) {
                continue;
            }
            match Left::open(&path) {
                Ok(left) => found.extend(left),
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "failed to read a spool file");
                }
            }
        }
        Ok(found)
    }
}

impl Writer {
    /// Runs until all senders are dropped.
    fn run(mut self, ordered: &Receiver<Order>) {
        while let Ok(first) = ordered.recv() {
            let mut charges = HashMap::new();
            for order in std::iter::once(first).chain(ordered.try_iter().take(TOGETHER)) {
                match order {
                    Order::Keep(charge) => {
                        charges.insert(charge.request, *charge);
                    }
                    Order::Taken(request) => {
                        charges.remove(&request);
                        self.waiting.remove(&request);
                    }
                }
            }
            self.keep(charges);
            if self.waiting.is_empty() {
                self.remove();
            }
        }
    }

    fn keep(&mut self, charges: HashMap<RequestId, Charge>) {
        if charges.is_empty() {
            return;
        }
        let requests: Vec<RequestId> = charges.keys().copied().collect();
        match self.append(charges.into_values()) {
            Ok(()) => self.waiting.extend(requests),
            Err(error) => {
                let charges = requests.len();
                tracing::error!(%error, charges, "failed to write charges to the spool, keeping them in memory only");
            }
        }
    }

    fn append(&mut self, charges: impl Iterator<Item = Charge>) -> io::Result<()> {
        let written = match &mut self.file {
            Some(written) => written,
            none => none.insert(Written::create(&self.folder, &self.path)?),
        };
        if let Err(e) = written.append(charges) {
            if written.file.set_len(written.length).is_err() {
                // A record would go on where another broke off: what is in it, others send.
                self.file = None;
                self.path = self.path.with_file_name(clock::unique().simple().to_string());
                self.path.set_extension(ENDING);
            }
            return Err(e);
        }
        if !written.has_name {
            std::fs::rename(self.path.with_extension(UNFINISHED), &self.path)?;
            written.has_name = true;
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    fn remove(&mut self) {
        if self.file.take().is_some() {
            // A file that stays is found, and its charges are found to be settled.
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_file(self.path.with_extension(UNFINISHED));
        }
    }
}

impl Written {
    /// Locked before it gets its name, so that no process considers it abandoned.
    fn create(folder: &Path, path: &Path) -> io::Result<Self> {
        private_files::create_folder(folder)?;
        let unfinished = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true).mode(0o600);
        let mut file = private_files::open(&unfinished, options)?;
        file.lock()?;
        // What a failed attempt left was never acknowledged.
        file.set_len(0)?;
        let log = LogId(clock::unique());
        file.write_all(&SegmentHead { log, base: 0 }.encode())?;
        Ok(Self { file, log, length: HEAD as u64, has_name: false })
    }

    fn append(&mut self, charges: impl Iterator<Item = Charge>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for charge in charges {
            reader::append(&Record::Settle(charge), self.log.seed(), &mut bytes);
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Left {
    /// `None` when its process lives.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match private_files::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let is_of_lines = path.extension().is_some_and(|ending| ending == LINES_ENDING);
        let (charges, unreadable) = if is_of_lines { lines(&bytes) } else { segment(&bytes) };
        Ok(Some(Self { charges, path: path.to_owned(), unreadable, _file: file }))
    }

    /// All that could be read is where it belongs. It blocks.
    pub(super) fn done(self) {
        let done = if self.unreadable == 0 {
            std::fs::remove_file(&self.path)
        } else {
            let aside = self.path.with_extension(UNREADABLE);
            tracing::error!(
                records = self.unreadable,
                file = %aside.display(),
                "spool file has unreadable records, keeping it for inspection"
            );
            std::fs::rename(&self.path, aside)
        };
        if let Err(error) = done {
            tracing::warn!(%error, "failed to remove acknowledged charges from the spool");
        }
    }
}

/// The charges of a file, and the number of its parts that cannot be read. A record that the file cuts off was
/// never acknowledged.
fn segment(bytes: &[u8]) -> (Vec<Charge>, usize) {
    let Some(head) = SegmentHead::decode(bytes) else { return (Vec::new(), 1) };
    let (bytes, seed) = (&bytes[HEAD..], head.log.seed());
    let (mut charges, mut unreadable, mut at) = (Vec::new(), 0, 0);
    loop {
        let mut reader = Reader::new(&bytes[at..], seed);
        for framed in reader.by_ref() {
            match framed.record {
                Record::Settle(charge) => charges.push(charge),
                _ => unreadable += 1,
            }
        }
        match reader.ending() {
            Ending::Whole => return (charges, unreadable),
            Ending::Torn { at: torn } if reader::is_cut_off(&bytes[at..], torn) => {
                return (charges, unreadable);
            }
            Ending::Torn { .. } => return (charges, unreadable + 1),
            Ending::Damaged { next, .. } => at += next,
            Ending::Unreadable { end, .. } => at += end,
        }
        unreadable += 1;
    }
}

/// The same for a file of an earlier version, with a line of JSON for each charge.
fn lines(bytes: &[u8]) -> (Vec<Charge>, usize) {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let (mut charges, mut unreadable) = (Vec::new(), 0);
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(charge) => charges.push(charge),
            Err(_) => unreadable += 1,
        }
    }
    (charges, unreadable)
}

#[cfg(test)]
#[path = "tests/spool.rs"]
mod tests;
