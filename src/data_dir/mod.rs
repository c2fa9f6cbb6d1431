//! The data directory of an embedded instance: its lock, its generated secret, and where it listens.
//!
//! Owns three files beside the database: `knockx.lock`, `secret.key`, `instance.json`, opened as
//! [`private_files`] does: files that another user owns or can write are refused. Each is written in one step,
//! so another process sees the whole of it or nothing. `instance.json` is trusted only while a live process
//! holds the lock.

use data_encoding::HEXLOWER;
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use system::private_files;

/// [`DataDir::running_instance`] holds the lock for an instant without being an instance. A tenth of a second in all
/// is far longer than that, and does not delay the error about a second instance noticeably.
const LOCK_ATTEMPTS: usize = 10;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(10);

const LOCK_FILE: &str = "knockx.lock";
const SECRET_FILE: &str = "secret.key";
const INSTANCE_FILE: &str = "instance.json";

/// The directory that contains the `SQLite` file.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

/// Held while an instance runs; a second instance cannot take it.
#[derive(Debug)]
pub struct Lock {
    /// Closing the file, which the system does for a dead process, frees the lock. A duplicate in another
    /// process holds it too.
    file: File,
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OwnedFd> for Lock {
    /// The lock that another process took; [`DataDir::take_over`] then makes this process its holder.
    fn from(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor) }
    }
}

/// A running instance, as it announces itself to the other commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub pid: u32,
    pub public_addr: SocketAddr,
    pub admin_addr: Option<SocketAddr>,
}

/// Reason why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "another knockx (process {pid}) is using {folder}; stop it, or set a different DATABASE_URL for this one"
    )]
    InUse { pid: String, folder: String },
    #[error("cannot use the data directory {folder}: {source}")]
    Io { folder: String, source: io::Error },
}

impl DataDir {
    /// Opens the directory, or creates it.
    pub fn open(folder: &Path) -> Result<Self, DataDirError> {
        // A bare file name such as `knockx.db` lies in the working folder.
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let opened = Self { path: here.to_owned() };
        private_files::create_folder(here).map_err(|e| opened.error(e))?;
        Ok(opened)
    }

    /// Takes the lock. It is freed when the process ends, however it ends.
    pub fn lock(&self) -> Result<Lock, DataDirError> {
        let mut file = self.open_lock().map_err(|e| self.error(e))?;
        match lock_exclusively(&file, pause) {
            Ok(()) => {
                let mut lock = Lock { file };
                self.take_over(&mut lock)?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse {
                pid: read_text(&mut file).unwrap_or_default(),
                folder: self.path.display().to_string(),
            }),
            Err(TryLockError::Error(e)) => Err(self.error(e)),
        }
    }

    /// Names this process as the holder of the lock.
    pub fn take_over(&self, lock: &mut Lock) -> Result<(), DataDirError> {
        let named = self.remove_instance_file().and_then(|()| write_pid(&mut lock.file));
        named.map_err(|e| self.error(e))
    }

    /// The secret in the directory (mode 0600), generated on first use.
    pub fn secret_key(&self) -> Result<Secret, DataDirError> {
        let read = || read_secret(&self.path.join(SECRET_FILE));
        let secret = match read() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.generate_secret().and_then(|()| read())
            }
            other => other,
        };
        secret.map_err(|e| self.error(e))
    }

    /// The secret in the directory; `None` if none was generated yet.
    pub fn existing_secret(&self) -> Result<Option<Secret>, DataDirError> {
        match read_secret(&self.path.join(SECRET_FILE)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(|e| self.error(e)),
        }
    }

    /// Publishes the addresses of this instance for other commands.
    pub fn publish(&self, instance: &Instance) -> Result<(), DataDirError> {
        let text = serde_json::to_vec(instance).map_err(|e| self.error(e.into()))?;
        let temporary = self.path.join(format!("{INSTANCE_FILE}.{}", std::process::id()));
        write_private(&temporary, &text)
            .and_then(|()| std::fs::rename(&temporary, self.path.join(INSTANCE_FILE)))
            .map_err(|e| self.error(e))
    }

    /// The instance that holds the lock now, if any.
    pub fn running_instance(&self) -> Option<Instance> {
        let readable =
            |name| private_files::open(&self.path.join(name), OpenOptions::new().read(true));
        let mut lock = readable(LOCK_FILE).ok()?;
        // A shared lock is refused only while an instance holds the exclusive one; ours, when we
        // get it, ends with this function.
        if !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let text = read_text(&mut readable(INSTANCE_FILE).ok()?).ok()?;
        let instance: Instance = serde_json::from_str(&text).ok()?;
        // An announcement of the holder's predecessor is not the holder's.
        let holder = read_text(&mut lock).ok()?;
        (holder == instance.pid.to_string()).then_some(instance)
    }

    fn open_lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        private_files::open(&self.path.join(LOCK_FILE), options)
    }

    /// In a container every instance is process 1, so the number alone does not tell them apart.
    fn remove_instance_file(&self) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(INSTANCE_FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Creates the secret unless another process was faster.
    fn generate_secret(&self) -> io::Result<()> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let text = HEXLOWER.encode(&bytes);
        let temporary = self.path.join(format!("{SECRET_FILE}.{}", &text[..16]));
        write_private(&temporary, text.as_bytes())?;
        // A link, unlike a rename, never replaces a file that is there.
        let linked = std::fs::hard_link(&temporary, self.path.join(SECRET_FILE));
        std::fs::remove_file(&temporary)?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => File::open(&self.path)?.sync_all(),
        }
    }

    fn error(&self, source: io::Error) -> DataDirError {
        DataDirError::Io { folder: self.path.display().to_string(), source }
    }
}

/// Takes the lock once processes that only check it have released it; `pause` runs between attempts.
fn lock_exclusively(file: &File, mut pause: impl FnMut()) -> Result<(), TryLockError> {
    for _ in 1..LOCK_ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => pause(),
            decided => return decided,
        }
    }
    file.try_lock()
}

#[expect(clippy::disallowed_methods, reason = "once, at start, when nothing else runs yet")]
fn pause() {
    std::thread::sleep(LOCK_RETRY_INTERVAL);
}

/// Writes a file for the owner alone and waits for the disk.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_files::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
}

fn read_text(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn read_secret(path: &Path) -> io::Result<Secret> {
    let text = read_text(&mut private_files::open_secret(path)?)?;
    let secret = text.as_str();
    if secret.len() < 32 {
        let why = format!("{SECRET_FILE} is shorter than 32 characters; restore it from a backup");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Secret::new(secret))
}

#[cfg(test)]
mod tests;
