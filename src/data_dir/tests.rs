use super::*;
use std::os::unix::fs::PermissionsExt;

fn folder() -> (tempfile::TempDir, DataDir) {
    let parent = tempfile::tempdir().unwrap();
    let folder = DataDir::open(&parent.path().join("a/b")).unwrap();
    (parent, folder)
}

fn instance(pid: u32) -> Instance {
    let addr = "127.0.0.1:8000".parse().unwrap();
    Instance { pid, public_addr: addr, admin_addr: None }
}

#[test]
fn a_second_lock_is_refused_and_names_the_holder() {
    let (_parent, folder) = folder();
    let held = folder.lock().unwrap();
    let refused = folder.lock().unwrap_err().to_string();
    assert!(refused.contains(&std::process::id().to_string()), "{refused}");
    drop(held);
    folder.lock().unwrap();
}

#[test]
fn a_process_that_only_checks_the_lock_does_not_stop_a_start() {
    let (_parent, folder) = folder();
    let look = || {
        let file = folder.open_lock().unwrap();
        file.try_lock_shared().unwrap();
        file
    };
    let mut looks = vec![look(), look()];
    let file = folder.open_lock().unwrap();
    lock_exclusively(&file, || drop(looks.pop())).unwrap();
    file.unlock().unwrap();

    let lasting = look();
    let mut pauses = 0;
    let refused = lock_exclusively(&file, || pauses += 1);
    assert!(matches!(refused, Err(TryLockError::WouldBlock)), "{refused:?}");
    assert_eq!(pauses, LOCK_ATTEMPTS - 1);
    drop(lasting);
}

#[test]
fn the_secret_is_made_once_and_for_the_owner_alone() {
    let (_parent, folder) = folder();
    let first = folder.secret_key().unwrap();
    assert_eq!(first.expose().len(), 64);
    assert_eq!(first.expose(), folder.secret_key().unwrap().expose());
    let mode = std::fs::metadata(folder.path.join(SECRET_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left = std::fs::read_dir(&folder.path).unwrap().count();
    assert_eq!(left, 1, "no draft may be left behind");
}

#[test]
fn processes_that_race_for_the_secret_agree() {
    let (_parent, folder) = folder();
    let secrets: Vec<String> = std::thread::scope(|scope| {
        let race = || folder.secret_key().unwrap().expose().to_owned();
        let racers: Vec<_> = (0..16).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
}

#[test]
fn a_damaged_secret_is_refused_not_replaced() {
    let (_parent, folder) = folder();
    write_private(&folder.path.join(SECRET_FILE), b"short").unwrap();
    assert!(folder.secret_key().unwrap_err().to_string().contains("backup"));
}

#[test]
fn a_lock_that_is_a_link_is_refused_and_leads_to_no_harm() {
    let (parent, folder) = folder();
    let victim = parent.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    for name in [LOCK_FILE, SECRET_FILE, INSTANCE_FILE] {
        std::os::unix::fs::symlink(&victim, folder.path.join(name)).unwrap();
    }
    let refused = folder.lock().unwrap_err().to_string();
    assert!(refused.contains(LOCK_FILE) && refused.contains("symbolic link"), "{refused}");
    let refused = folder.secret_key().unwrap_err().to_string();
    assert!(refused.contains(SECRET_FILE) && refused.contains("symbolic link"), "{refused}");
    assert_eq!(folder.running_instance(), None);
    // What is written whole takes the place of a link.
    folder.publish(&instance(1)).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let (_parent, folder) = folder();
    folder.secret_key().unwrap();
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.path.join(SECRET_FILE), mode).unwrap();
    let refused = folder.secret_key().unwrap_err().to_string();
    assert!(refused.contains("mode 0644") && refused.contains("chmod 600"), "{refused}");
}

#[test]
fn an_announcement_is_believed_only_from_the_holder_of_the_lock() {
    let (_parent, folder) = folder();
    assert_eq!(folder.running_instance(), None);
    let mine = instance(std::process::id());
    folder.publish(&mine).unwrap();
    assert_eq!(folder.running_instance(), None, "no process holds the lock");
    let held = folder.lock().unwrap();
    assert_eq!(folder.running_instance(), None, "what a predecessor left is not the holder's");
    folder.publish(&mine).unwrap();
    assert_eq!(folder.running_instance(), Some(mine));
    folder.publish(&instance(1)).unwrap();
    assert_eq!(folder.running_instance(), None, "not the holder's number");
    drop(held);
    assert_eq!(folder.running_instance(), None);
}

#[test]
fn a_folder_that_cannot_be_made_is_one_plain_sentence() {
    let (parent, _folder) = folder();
    let file = parent.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = DataDir::open(&file.join("below")).unwrap_err().to_string();
    assert!(error.starts_with("cannot use the data directory"), "{error}");
}
