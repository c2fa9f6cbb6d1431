//! The `--config` of every command that needs a configuration.

use crate::config::{self, Config, ConfigError};
use std::path::PathBuf;

/// Which configuration to use.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArg {
    /// Config file. Defaults to the file named by `KNOCKX_CONFIG`; without either, only the built-in defaults apply.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

impl ConfigArg {
    /// The defaults, the file and the environment as one checked configuration.
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(self.config.as_deref())
    }
}
