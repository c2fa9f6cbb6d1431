//! Keeps charges on disk while Redis does not accept them, so that they survive the gateway.
//!
//! Each process writes a file of its own and holds a lock on it; an unlocked file was left
//! by a dead process, and the gateway that finds it sends its charges. Resending is safe, so a file
//! is kept unless all of its charges were acknowledged. One thread does all the writing: no call waits for the disk.
//!
//! A file has the format of a journal segment that holds only settlements.

use domain::charge::Charge;
use domain::id::RequestId;
use journal::reader::{self, Ending, Reader};
use journal::record::Record;
use journal::segment::{HEAD, LogId, SegmentHead};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use system::clock;
use system::private_files;

const EXTENSION: &str = "spool";
/// Extension of files of an earlier version: a line of JSON for each charge.
const LINES_EXTENSION: &str = "charges";
/// Extension of a file that is not locked yet.
const UNFINISHED: &str = "new";
/// Extension of a file with unreadable records.
const UNREADABLE: &str = "unreadable";
/// Commands executed together, with one sync.
const COMMAND_BATCH: usize = 4096;

/// A folder of spool files; clones share the writer thread.
#[derive(Clone)]
pub struct Spool {
    folder: PathBuf,
    /// File name of this process, without the extension.
    name: String,
    /// Unbounded, because the charges are in memory anyway.
    commands: Sender<Command>,
}

enum Command {
    Write(Box<Charge>),
    /// Redis has accepted the charge of this request.
    Acknowledged(RequestId),
}

/// State of the thread that writes the file.
struct Writer {
    folder: PathBuf,
    path: PathBuf,
    file: Option<SpoolFile>,
    /// Charges on disk that Redis has not accepted yet.
    waiting: HashSet<RequestId>,
}

/// The locked file of this process.
struct SpoolFile {
    file: File,
    log: LogId,
    /// Length of its complete records, in bytes.
    length: u64,
    has_name: bool,
}

/// Spool file that a dead process left.
pub(super) struct AbandonedFile {
    pub(super) charges: Vec<Charge>,
    path: PathBuf,
    unreadable: usize,
    /// Keeps the lock until dropped.
    _file: File,
}

impl Spool {
    /// Creates a spool in `folder`, which is created with the first charge.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let name = clock::unique().simple().to_string();
        let path = folder.join(&name).with_extension(EXTENSION);
        let writer =
            Writer { folder: folder.to_owned(), path, file: None, waiting: HashSet::new() };
        let (commands, received) = channel();
        let spawned =
            thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run(&received));
        if let Err(error) = spawned {
            tracing::error!(%error, "spool folder is not usable, keeping charges in memory only");
        }
        Self { folder: folder.to_owned(), name, commands }
    }

    /// Queues a charge for writing. One that cannot be written stays in memory only.
    pub(super) fn write(&self, charge: &Charge) {
        let _ = self.commands.send(Command::Write(Box::new(charge.clone())));
    }

    /// Records that Redis has accepted a charge.
    pub(super) fn acknowledge(&self, request: RequestId) {
        let _ = self.commands.send(Command::Acknowledged(request));
    }

    /// Returns the files that dead processes left. Blocking.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn abandoned_files(&self) -> io::Result<Vec<AbandonedFile>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        // A user who can write here could forge charges.
        private_files::check_folder(&self.folder)?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_own = path.file_stem().is_some_and(|stem| stem == self.name.as_str());
            let is_charges = |ending: &OsStr| ending == EXTENSION || ending == LINES_EXTENSION;
            if is_own || !path.extension().is_some_and(is_charges) {
                continue;
            }
            match AbandonedFile::open(&path) {
                Ok(file) => found.extend(file),
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "failed to read a spool file");
                }
            }
        }
        Ok(found)
    }
}

impl Writer {
    /// Runs until all spools are dropped.
    fn run(mut self, received: &Receiver<Command>) {
        while let Ok(first) = received.recv() {
            let mut charges = HashMap::new();
            for command in std::iter::once(first).chain(received.try_iter().take(COMMAND_BATCH)) {
                match command {
                    Command::Write(charge) => {
                        charges.insert(charge.request, *charge);
                    }
                    Command::Acknowledged(request) => {
                        charges.remove(&request);
                        self.waiting.remove(&request);
                    }
                }
            }
            self.store(charges);
            if self.waiting.is_empty() {
                self.remove();
            }
        }
    }

    fn store(&mut self, charges: HashMap<RequestId, Charge>) {
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
            none => none.insert(SpoolFile::create(&self.folder, &self.path)?),
        };
        if let Err(e) = written.append(charges) {
            if written.file.set_len(written.length).is_err() {
                // The file now ends with a partial record; continue in a new one, and leave this one to be found.
                self.file = None;
                self.path = self.path.with_file_name(clock::unique().simple().to_string());
                self.path.set_extension(EXTENSION);
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
            // If the file cannot be removed its charges are resent, which changes nothing.
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_file(self.path.with_extension(UNFINISHED));
        }
    }
}

impl SpoolFile {
    /// Creates and locks the file before it gets its name, so that no process considers it abandoned.
    fn create(folder: &Path, path: &Path) -> io::Result<Self> {
        private_files::create_folder(folder)?;
        let unfinished = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true).mode(0o600);
        let mut file = private_files::open(&unfinished, options)?;
        file.lock()?;
        // A failed attempt may have left bytes, which were never acknowledged.
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

impl AbandonedFile {
    /// Opens and locks a file. `None` if its process is alive.
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
        let is_of_lines = path.extension().is_some_and(|ending| ending == LINES_EXTENSION);
        let (charges, unreadable) = if is_of_lines { lines(&bytes) } else { segment(&bytes) };
        Ok(Some(Self { charges, path: path.to_owned(), unreadable, _file: file }))
    }

    /// Removes the file after its charges were sent, or sets it aside if it has unreadable records. Blocking.
    pub(super) fn finish(self) {
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

/// Returns the charges of a file, and the number of unreadable records. A record cut off by the end of the file was
/// never acknowledged and is not counted.
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

/// Like [`segment`], for a file of an earlier version with a line of JSON for each charge.
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
mod tests;
