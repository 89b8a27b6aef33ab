//! systemd's service protocol (sd_notify(3)): ready, stopping, watchdog. Without `$NOTIFY_SOCKET` all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The portals accept.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end begins.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says that we live, twice in each period that systemd asks for, as long as the runtime turns. Ends at once when
/// there is no watchdog.
pub(crate) async fn watchdog() {
    let mut microseconds = 0;
    if !sd_notify::watchdog_enabled(false, &mut microseconds) || microseconds == 0 {
        return;
    }
    let mut beat = tokio::time::interval(Duration::from_micros(microseconds) / 2);
    loop {
        beat.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "cannot reach systemd");
    }
}
