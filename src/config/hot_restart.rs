//! Where a gateway is found by the process that takes over from it, and whether both have the same state.

use super::{Config, Database};
use std::path::{Path, PathBuf, absolute};

impl Config {
    /// The Unix socket for a hot restart. It lies in the data directory; where there is none, the port tells
    /// gateways on the same machine apart.
    #[must_use]
    pub fn hot_restart_socket(&self) -> PathBuf {
        match self.database.folder() {
            Some(folder) => folder.join("restart.sock"),
            None => {
                let folder = self.redis.as_ref().map_or(&self.journal.folder, |redis| &redis.spool);
                let beside = folder.parent().filter(|beside| *beside != Path::new(""));
                beside
                    .unwrap_or_else(|| Path::new("."))
                    .join(format!("restart-{}.sock", self.listener.addr.port()))
            }
        }
    }

    /// Identifies database, journal and Redis. Only a process with the same ones can take over.
    #[must_use]
    pub fn state_id(&self) -> String {
        let place = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned());
        let database = match &self.database {
            Database::Sqlite { path, .. } => place(path).display().to_string(),
            Database::Postgres(server) => server.place.clone(),
        };
        // Printed, the addresses of Redis have no passwords.
        let redis = self.redis.as_ref().map(|redis| format!("{:?}", redis.urls));
        let journal = place(&self.journal.folder);
        format!("database={database} journal={} redis={redis:?}", journal.display())
    }
}
