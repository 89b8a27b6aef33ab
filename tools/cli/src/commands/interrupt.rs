//! SIGINT and SIGTERM: a restore stops between two pieces, with its mounts undone and where it is written down; a backup is cancelled, and who
//! was frozen for it is thawed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Was it asked to stop?
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let interrupt = Self::default();
        let flag = Arc::clone(&interrupt.0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut int, mut term) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                flag.store(true, Ordering::Release);
            });
        });
        Ok(interrupt)
    }

    /// Was it?
    pub(crate) fn raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// An error when it was, of a restore.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.raised() {
            let text = "interrupted; the same command goes on from here, --abandon gives it up";
            return Err(Failure::Failed(text.to_owned()));
        }
        Ok(())
    }
}
