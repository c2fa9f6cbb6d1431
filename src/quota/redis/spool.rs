//! Charges on disk while Redis does not take them, so that a gateway may die meanwhile.
//!
//! Each process writes a file of its own and holds a lock on it; a file that nobody holds was left
//! by a dead process, and whoever finds it sends what is in it. Sending twice does no harm.

use crate::account::charge::Charge;
use crate::clock;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const ENDING: &str = "charges";

/// A folder of such files.
#[derive(Clone)]
pub struct Spool {
    folder: PathBuf,
    mine: Arc<Mutex<Mine>>,
}

/// The file of this process.
struct Mine {
    path: PathBuf,
    file: Option<File>,
    /// Charges in it that Redis has not taken yet.
    waiting: usize,
}

/// Keeps a charge on disk; dropped when Redis has taken it.
pub(super) struct Kept(Arc<Mutex<Mine>>);

/// What a dead process left.
pub(super) struct Left {
    pub(super) charges: Vec<Charge>,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Spool {
    /// A spool in `folder`, which is made when it is first needed.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let path = folder.join(format!("{}.{ENDING}", clock::unique().simple()));
        let mine = Mine { path, file: None, waiting: 0 };
        Self { folder: folder.to_owned(), mine: Arc::new(Mutex::new(mine)) }
    }

    /// Returns once the charge is on disk. One that cannot be written is in memory only.
    pub(super) async fn keep(&self, charge: &Charge) -> Option<Kept> {
        let mut line = serde_json::to_vec(charge).ok()?;
        line.push(b'\n');
        let (folder, mine) = (self.folder.clone(), Arc::clone(&self.mine));
        let kept = tokio::task::spawn_blocking(move || {
            lock(&mine).append(&folder, &line)?;
            Ok::<_, io::Error>(Kept(mine))
        });
        match kept.await {
            Ok(Ok(kept)) => Some(kept),
            Ok(Err(error)) => {
                tracing::error!(%error, request = %charge.request, "charge waits in memory only");
                None
            }
            Err(_) => None,
        }
    }

    /// What dead processes left here.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn left(&self) -> io::Result<Vec<Left>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_ours = path == lock(&self.mine).path;
            if !is_ours && path.extension().is_some_and(|ending| ending == ENDING) {
                found.extend(Left::open(path)?);
            }
        }
        Ok(found)
    }
}

impl Mine {
    fn append(&mut self, folder: &Path, line: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            crate::instance::create_private_folder(folder)?;
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.lock()?;
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line)?;
        file.sync_data()?;
        self.waiting += 1;
        Ok(())
    }

    /// A charge is where it belongs. With the last one the file goes.
    fn taken(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.file = None;
            // A file that stays is found, and its charges are found to be settled.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.0).taken();
    }
}

impl Left {
    /// `None` when its process lives.
    fn open(path: PathBuf) -> io::Result<Option<Self>> {
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        // The last line may be half a line: its charge was never known to be kept.
        let charge = |line: io::Result<String>| serde_json::from_str(&line.ok()?).ok();
        let charges = BufReader::new(&file).lines().filter_map(charge).collect();
        Ok(Some(Self { charges, path, _file: file }))
    }

    /// All of it is where it belongs.
    pub(super) fn done(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove charges that were sent");
        }
    }
}

fn lock(mine: &Mutex<Mine>) -> std::sync::MutexGuard<'_, Mine> {
    mine.lock().unwrap_or_else(PoisonError::into_inner)
}
