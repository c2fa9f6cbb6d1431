//! Opens the console in a browser.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The program that opens an address in the user's browser.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Opens `url`. A failure is logged and changes nothing: the address is printed.
pub(super) fn open(url: &str) {
    if let Err(error) = start(url.to_owned()) {
        tracing::warn!(%error, url, "failed to open a browser with {OPENER}");
    }
}

/// Waits for the program on a thread of its own: some run for as long as the browser does.
fn start(url: String) -> io::Result<()> {
    let mut opener = Command::new(OPENER);
    opener.arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a process group of its own, so that Ctrl-C stops the demo and not the browser.
    let mut child = opener.process_group(0).spawn()?;
    let wait = move || match child.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!(%status, url, "{OPENER} did not open a browser"),
        Err(error) => tracing::warn!(%error, url, "failed to wait for {OPENER}"),
    };
    std::thread::Builder::new().name("browser".to_owned()).spawn(wait)?;
    Ok(())
}
