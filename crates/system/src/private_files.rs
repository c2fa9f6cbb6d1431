//! Opens files and folders that only the user of this process owns and can write.
//!
//! Anyone who can write to the data folder can replace the database, plant a secret, or redirect a write
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
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        create_folder(&folder).unwrap();
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        for mode in [0o700, 0o750, 0o755, 0o711] {
            chmod(&folder, mode);
            create_folder(&folder).unwrap();
        }
        for mode in [0o777, 0o1777, 0o770, 0o775, 0o702, 0o720] {
            chmod(&folder, mode);
            let told = create_folder(&folder).unwrap_err().to_string();
            assert!(told.contains(&format!("mode {mode:04o}")), "{told}");
            assert!(told.contains("chmod 700"), "{told}");
        }
        chmod(&folder, 0o700);
        let link = parent.path().join("link");
        symlink(&folder, &link).unwrap();
        create_folder(&link).unwrap();
    }

    #[test]
    fn no_link_is_followed_and_no_strange_file_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("victim"), "precious").unwrap();
        chmod(&at("victim"), 0o600);
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for name in ["link", "dangling", "folder"] {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let told = open(&at(name), options).unwrap_err().to_string();
            assert!(told.contains(name) && told.contains("remove it"), "{told}");
            open_secret(&at(name)).unwrap_err();
        }
        assert!(!at("nothing").exists());
        assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "precious");
        // A newly created file replaces a link and does not touch the link's target.
        create(&at("link")).unwrap();
        assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(at("link")).unwrap(), "");
    }

    #[test]
    fn files_are_as_private_as_they_must_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.db");
        std::fs::write(&path, "").unwrap();
        for (mode, is_file, is_secret) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o644, true, false),
            (0o640, true, false),
            (0o660, false, false),
            (0o666, false, false),
        ] {
            chmod(&path, mode);
            let found = (check_database(&path).is_ok(), open_secret(&path).is_ok());
            assert_eq!(found, (is_file, is_secret), "{mode:o}");
        }
        chmod(&path, 0o600);
        for ending in ["-wal", "-shm", "-journal"] {
            let beside = folder.path().join(format!("k.db{ending}"));
            symlink("/etc/passwd", &beside).unwrap();
            let told = check_database(&path).unwrap_err().to_string();
            assert!(told.contains(ending) && told.contains("symbolic link"), "{told}");
            std::fs::remove_file(&beside).unwrap();
        }
        let link = folder.path().join("linked.db");
        symlink(&path, &link).unwrap();
        check_database(&link).unwrap();
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("k.db"), folder.path().join("link"));
        std::fs::write(&path, "").unwrap();
        symlink(&path, &link).unwrap();
        let refused = |checked: io::Result<()>, path: &Path| {
            let told = checked.unwrap_err().to_string();
            assert!(told.contains("belongs to another user (uid 12345"), "{told}");
            assert!(told.contains(&path.display().to_string()), "{told}");
        };
        // Only root can give files away; for others the rule is checked on what root owns.
        if lchown(&path, Some(12345), None).is_ok() {
            refused(check_database(&path), &path);
            lchown(&path, Some(geteuid().as_raw()), None).unwrap();
            lchown(&link, Some(12345), None).unwrap();
            refused(check_database(&link), &link);
            lchown(folder.path(), Some(12345), None).unwrap();
            refused(create_folder(folder.path()), folder.path());
            lchown(folder.path(), Some(geteuid().as_raw()), None).unwrap();
        }
        check_owner(Path::new("/"), &std::fs::metadata("/").unwrap()).unwrap();
    }
}
