//! The folder of a log, behind a seam, so that tests can fill a disk, stall it or cut its power.

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
    /// The names of the files in it, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there, to read and write it.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Makes an empty file to write, in place of one that may be there.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when names that were given and taken survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// How people know the folder.
    fn name(&self) -> String;
}

/// One file.
pub trait DiskFile: Send + Sync {
    fn length(&self) -> io::Result<u64>;
    /// Reads until the buffer is full or the file ends; returns how much.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Returns when what was written survives a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the machine.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held by the one process that writes; closing the file frees it.
    lock: Option<File>,
}

const LOCK: &str = "lock";
/// A predecessor in the same process may take a moment to let go.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

impl Folder {
    /// The folder, made when it is not there, for the one process that writes in it.
    ///
    /// # Errors
    /// If it cannot be made, another user owns it or can write it, or another process writes in it.
    pub fn create(path: &Path) -> io::Result<Self> {
        private_files::create_folder(path)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = private_files::open(&path.join(LOCK), options)?;
        take(&lock)?;
        Ok(Self { path: path.to_owned(), lock: Some(lock) })
    }

    /// The folder, with the lock of the process that wrote in it until now; see
    /// [`duplicate_lock`](Self::duplicate_lock).
    ///
    /// # Errors
    /// If the folder is not there, or another user owns it or can write it.
    pub fn take_over(path: &Path, lock: OwnedFd) -> io::Result<Self> {
        private_files::check_folder(path)?;
        Ok(Self { path: path.to_owned(), lock: Some(lock.into()) })
    }

    /// A second handle on the lock, for another process. The folder is locked as long as one of them is open.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn duplicate_lock(&self) -> io::Result<Option<OwnedFd>> {
        self.lock.as_ref().map(|lock| lock.as_fd().try_clone_to_owned()).transpose()
    }

    /// Whether a log lies in the folder.
    #[must_use]
    pub fn holds_log(path: &Path) -> bool {
        let names = std::fs::read_dir(path).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| is_segment(&name))
    }

    /// Removes a log that no process writes: its own files, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove_log(path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_segment(&name) || name == LOCK {
                std::fs::remove_file(entry.path())?;
            }
        }
        match std::fs::remove_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(e),
            _ => Ok(()),
        }
    }

    /// The folder to look at, if it is there.
    ///
    /// # Errors
    /// If it is not there, or another user owns it or can write it.
    pub fn existing(path: &Path) -> io::Result<Self> {
        private_files::check_folder(path)?;
        Ok(Self { path: path.to_owned(), lock: None })
    }
}

fn is_segment(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| segment::base_of(name).is_some())
}

#[expect(clippy::disallowed_methods, reason = "at start, when nothing else runs yet")]
fn take(lock: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
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
    fn a_log_is_removed_without_what_lies_beside_it() {
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
