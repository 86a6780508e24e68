//! Doing something with the rights of our units: root without what lets root read past modes and owners, whatever the caller has.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// What `work` says, on a thread of its own; `None`: not in this time. For programs that end soon after: what hangs is left to itself.
///
/// # Errors
/// No thread can be started.
pub(in crate::control) fn as_plain_root<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (answer, answered) = sync_channel(1);
    // Rights are a thread's own.
    let all = move || {
        let past_modes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        if let Ok(mut has) = capabilities(None) {
            has.effective.remove(past_modes);
            // Who cannot give them away has none.
            let _ = set_capabilities(None, has);
        }
        let _ = answer.send(work());
    };
    thread::Builder::new()
        .name("plain-root".to_owned())
        .spawn(all)?;
    Ok(answered.recv_timeout(patience).ok())
}
