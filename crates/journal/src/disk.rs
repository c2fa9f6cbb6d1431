//! The folder of a log, behind a trait, so that tests can fill a disk, stall it or cut its power.

use super::segment;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use system::private_files;

/// The folder that holds the segments.
pub trait Disk: Send + Sync + 'static {
    /// Returns the names of its files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Creates an empty file for writing, and replaces an existing one.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when created, renamed and removed names survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Path of the folder, for messages.
    fn name(&self) -> String;
}

/// An open file of the folder.
pub trait DiskFile: Send + Sync {
    fn length(&self) -> io::Result<u64>;
    /// Reads until the buffer is full or the file ends. Returns the number of bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Returns when everything written survives a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked by the one process that writes; closing the file releases the lock.
    lock: Option<File>,
}

const LOCK_FILE: &str = "lock";
/// Attempts to get the lock, which a predecessor in the same process may take a moment to release.
const LOCK_TRIES: usize = 20;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

impl Folder {
    /// Creates the folder if it is missing, and locks it for this process.
    ///
    /// # Errors
    /// If it cannot be created, another user owns it or can write it, or another process has locked it.
    pub fn create(path: &Path) -> io::Result<Self> {
        private_files::create_folder(path)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = private_files::open(&path.join(LOCK_FILE), options)?;
        acquire(&lock)?;
        Ok(Self { path: path.to_owned(), lock: Some(lock) })
    }

    /// Opens the folder with the lock of the previous process; see [`duplicate_lock`](Self::duplicate_lock).
    ///
    /// # Errors
    /// If the folder does not exist, or another user owns it or can write it.
    pub fn take_over(path: &Path, lock: OwnedFd) -> io::Result<Self> {
        private_files::check_folder(path)?;
        Ok(Self { path: path.to_owned(), lock: Some(lock.into()) })
    }

    /// Duplicates the lock for another process. The folder stays locked while one of the two is open.
    ///
    /// # Errors
    /// If the operating system cannot duplicate it.
    pub fn duplicate_lock(&self) -> io::Result<Option<OwnedFd>> {
        self.lock.as_ref().map(|lock| lock.as_fd().try_clone_to_owned()).transpose()
    }

    /// True if the folder has segments of a log.
    #[must_use]
    pub fn holds_log(path: &Path) -> bool {
        let names = std::fs::read_dir(path).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| is_segment(&name))
    }

    /// Removes a log that no process writes: its files, and the folder if it is empty then.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_log(path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_segment(&name) || name == LOCK_FILE {
                std::fs::remove_file(entry.path())?;
            }
        }
        match std::fs::remove_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(e),
            _ => Ok(()),
        }
    }

    /// Opens an existing folder for reading, without a lock.
    ///
    /// # Errors
    /// If it does not exist, or another user owns it or can write it.
    pub fn existing(path: &Path) -> io::Result<Self> {
        private_files::check_folder(path)?;
        Ok(Self { path: path.to_owned(), lock: None })
    }
}

fn is_segment(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| segment::base_of(name).is_some())
}

#[expect(clippy::disallowed_methods, reason = "at start, when nothing else runs yet")]
fn acquire(lock: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_INTERVAL),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    let why = "the journal is in use by another knockx process; stop it, or set `database.journal` to a \
               different folder";
    Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = private_files::open(&self.path.join(name), options.read(true).write(true))?;
        Ok(Box::new(file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(private_files::create(&self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_removed_without_other_files_of_its_folder() {
        let place = tempfile::TempDir::new().unwrap();
        let path = place.path().join("journal");
        let folder = Folder::create(&path).unwrap();
        assert!(!Folder::holds_log(&path) && !Folder::holds_log(place.path()));
        folder.create(&segment::file_name(0)).unwrap();
        std::fs::write(path.join("knockx.db"), "another file").unwrap();
        drop(folder);
        assert!(Folder::holds_log(&path));
        Folder::remove_log(&path).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["knockx.db"]);
        std::fs::remove_file(path.join("knockx.db")).unwrap();
        Folder::remove_log(&path).unwrap();
        assert!(!path.exists());
    }
}
