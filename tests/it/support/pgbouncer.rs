//! A PgBouncer in transaction mode in front of a test's own Postgres.

use super::SOON;
use super::postgres::as_owner;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const LOOK: Duration = Duration::from_millis(10);

pub struct PgBouncer {
    _folder: TempDir,
    process: Child,
    port: u16,
    /// Whether this version knows `max_prepared_statements`.
    pub keeps_statements_apart: bool,
}

impl PgBouncer {
    pub async fn start(postgres: u16, max_prepared_statements: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("knockx-pgb-").tempdir_in("/tmp").unwrap();
        let rights = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), rights).unwrap();
        let version = as_owner(Path::new("/usr/sbin/pgbouncer")).arg("--version").output();
        let version = version.expect("PgBouncer is needed: apt-get install pgbouncer").stdout;
        let keeps_statements_apart = minor(&String::from_utf8_lossy(&version)) >= 21;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let prepared = if keeps_statements_apart {
            format!("max_prepared_statements = {max_prepared_statements}\n")
        } else {
            String::new()
        };
        let ini = format!(
            "[databases]\n* = host=127.0.0.1 port={postgres} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 3\n{prepared}"
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, ini).unwrap();
        let process = as_owner(Path::new("/usr/sbin/pgbouncer"))
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(SOON, listens).await.expect("PgBouncer starts");
        Self { _folder: folder, process, port, keeps_statements_apart }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The second number of `PgBouncer 1.24.1`.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.trim().parse().ok()).expect("a version")
}
