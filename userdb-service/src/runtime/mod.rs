//! What both daemons share with systemd and the kernel: sockets, peers, varlink, readiness, journal.
//! Nothing here knows about logins, sessions or records.

pub mod activation;
mod datagrams;
pub mod journal;
mod journal_socket;
pub mod memory;
mod moment;
pub mod notify;
pub mod peer;
pub mod shortage;
pub mod stop;
mod to_systemd;
pub mod transport;
pub(crate) mod watched;

use std::io;

use tokio::runtime::{Builder, LocalOptions};

/// How many tasks have a turn until the sockets are looked at again: so long somebody new waits among many who never stop asking.
const TURNS: u32 = 16;

/// Runs `main` on this thread alone: one event loop, so that nothing needs a lock and nothing of
/// one connection can be seen half-done by another.
///
/// # Errors
/// The event loop could not be set up.
pub fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS)
        .build_local(LocalOptions::default())?;
    // What is told of an answer follows it.
    let lines_wait = journal::let_lines_wait();
    let output = runtime.block_on(async {
        tokio::task::spawn_local(moment::pass(journal::tell_what_waits));
        tokio::task::spawn_local(journal::keep_sending());
        tokio::task::spawn_local(notify::keep_telling());
        main.await
    });
    notify::tell_last();
    drop(lines_wait);
    // A thread that waits for a disk which does not answer must not keep us from ending.
    runtime.shutdown_background();
    Ok(output)
}

/// Returns when those who have just been answered have gone on: a millisecond later, or some.
pub async fn a_moment_passes() {
    moment::passes().await;
}

/// Allows this process as many descriptors as it may have: the soft limit is low for the sake of
/// `select()`, which nobody here calls.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        // A unit that sets both forbids the call as well.
        if soft == hard {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on descriptors could not be raised");
    }
}
