//! Opens files and folders that only the user of this process owns and can write.
//!
//! Anyone who can write to the data directory can replace the database, plant a secret, or redirect a write
//! through a symbolic link. Paths that another user owns or can write are refused, with an error that
//! says what to do; permissions are never changed silently.

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Any permission of group and others.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Creates a folder and its parents with mode 0700. An existing folder is checked, not changed.
///
/// # Errors
/// If it cannot be created, or another user owns it or can write it.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    check_folder(folder)
}

/// Checks an existing folder.
///
/// # Errors
/// When another user owns it or can write it.
pub fn check_folder(folder: &Path) -> io::Result<()> {
    // A link to a folder on another disk is the operator's choice, unless another user made it.
    check_owner(folder, &std::fs::symlink_metadata(folder)?)?;
    let found = std::fs::metadata(folder)?;
    check_owner(folder, &found)?;
    check_mode(folder, &found, WRITABLE_BY_OTHERS, "700")
}

/// Opens a file with `options`, never through a symbolic link.
///
/// # Errors
/// When it cannot be opened, is no regular file, or another user owns it or can write it.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    check_file(path, WRITABLE_BY_OTHERS)?;
    // The flag refuses a link created since the check.
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Opens a file for reading in a folder that was checked, whatever its mode: the folder protects it.
///
/// # Errors
/// When it cannot be opened, is no regular file, or belongs to another user.
pub fn read(path: &Path) -> io::Result<File> {
    check_file(path, 0)?;
    OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Opens a file that holds a secret, for reading.
///
/// # Errors
/// As [`open`], and when another user can read it.
pub fn open_secret(path: &Path) -> io::Result<File> {
    check_file(path, OPEN_TO_OTHERS)?;
    open(path, OpenOptions::new().read(true))
}

/// Creates a file with mode 0600, replacing an existing one.
///
/// # Errors
/// When it cannot be made.
pub fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Checks a `SQLite` file and its `-wal`, `-shm` and `-journal` files. The database itself may be a
/// symbolic link that the operator owns.
///
/// # Errors
/// When another user owns one of them or can write it, or a file beside it is a link.
pub fn check_database(path: &Path) -> io::Result<()> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    if is_link {
        check_owner(path, &std::fs::symlink_metadata(path)?)?;
        check_file(&std::fs::canonicalize(path)?, WRITABLE_BY_OTHERS)?;
    } else {
        check_file(path, WRITABLE_BY_OTHERS)?;
    }
    for ending in ["-wal", "-shm", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        check_file(&PathBuf::from(beside), WRITABLE_BY_OTHERS)?;
    }
    Ok(())
}

/// Checks owner, type and mode of a file; a missing file passes.
fn check_file(path: &Path, forbidden: u32) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.is_symlink() {
        let advice =
            "symbolic links are not followed here; remove it, or replace it with the file itself";
        return Err(refused(format!("{} is a symbolic link: {advice}", path.display())));
    }
    if !found.is_file() {
        let advice = "remove it, because knockx needs a file there";
        return Err(refused(format!("{} is not a regular file; {advice}", path.display())));
    }
    check_owner(path, &found)?;
    check_mode(path, &found, forbidden, "600")
}

/// Root may change everything anyway.
fn check_owner(path: &Path, found: &Metadata) -> io::Result<()> {
    let (owner, mine) = (found.uid(), geteuid().as_raw());
    if owner == mine || owner == 0 {
        return Ok(());
    }
    Err(refused(format!(
        "{0} belongs to another user (uid {owner}, and knockx runs as uid {mine}); run knockx as that \
         user, or run `chown {mine} {0}`",
        path.display()
    )))
}

fn check_mode(path: &Path, found: &Metadata, forbidden: u32, right: &str) -> io::Result<()> {
    let mode = found.mode() & 0o7777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    let what = if mode & WRITABLE_BY_OTHERS & forbidden == 0 { "read" } else { "changed" };
    Err(refused(format!(
        "{0} can be {what} by other users of this machine (mode {mode:04o}); run `chmod {right} {0}`",
        path.display()
    )))
}

fn refused(sentence: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, sentence)
}

#[cfg(test)]
mod tests;
