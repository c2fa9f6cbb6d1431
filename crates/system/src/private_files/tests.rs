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
