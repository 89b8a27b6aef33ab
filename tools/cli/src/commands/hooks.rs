//! Commands of the user before and after something is done.

use std::process;

use crate::failure::Failure;

/// Runs it by `sh -c`, if there is one. `hook` is the option that named it.
pub(super) fn run(hook: &str, command: Option<&str>) -> Result<(), Failure> {
    let Some(command) = command else { return Ok(()) };
    let ended = process::Command::new("sh")
        .args(["-c", command])
        .status()
        .map_err(|error| Failure::Failed(format!("{hook} {command:?} could not be run: {error}")))?;
    if ended.success() {
        return Ok(());
    }
    Err(Failure::Failed(format!("{hook} {command:?} failed: {ended}")))
}
