//! The life of the daemon: lock, open, serve, reload on SIGHUP, drain and flush on SIGTERM.

use std::{future::Future, sync::Arc};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    config::Config,
    generations, greeting,
    lock::StateLock,
    redirecting,
    service::{Service, Source},
    systemd,
};

/// Serves until told to stop.
pub(crate) async fn serve(source: Source, config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let stop = CancellationToken::new();
    let _lock = StateLock::acquire(&config.system.state_dir)?;
    let (socket, http) = (config.admin.socket.clone(), config.admin.http);
    // Before the volumes: what is in the way of these two is found out in no time.
    let listener = admin::bind(&socket)?;
    let http = match http {
        Some(address) => Some(
            admin::bind_http(address)
                .await
                .with_context(|| format!("admin.http: cannot listen on {address}"))?,
        ),
        None => None,
    };
    let opened = Box::pin(Service::open(source, config, stop.clone()));
    let service = match ended_before(&mut signals, opened).await {
        Some(service) => Arc::new(service?),
        None => return Ok(()),
    };
    let running = tokio::spawn(Arc::clone(&service).run_frontend(stop.clone()));
    let mut other_tasks = vec![tokio::spawn(admin::serve_socket(
        listener,
        Arc::clone(&service),
        stop.clone().cancelled_owned(),
    ))];
    if let Some(http) = http {
        other_tasks.push(tokio::spawn(admin::serve_http(
            http,
            Arc::clone(&service),
            stop.clone().cancelled_owned(),
        )));
    }
    other_tasks.push(tokio::spawn(generations::run(Arc::clone(&service), stop.clone())));
    other_tasks.push(tokio::spawn(redirecting::run(Arc::clone(&service), stop.clone())));
    announce(&service).await;
    let watchdog = tokio::spawn(systemd::watchdog());

    signals.until_stop(&service).await;
    systemd::stopping();
    tracing::info!("stopping: draining sessions, then flushing; a second signal ends at once");
    stop.cancel();
    let drained = async {
        if let Err(error) = running.await {
            tracing::error!(%error, "the frontend failed");
        }
        for task in other_tasks {
            // They end with the token; one that panicked has nothing left to drain.
            let _ = task.await;
        }
        if let Some(links) = &service.links {
            links.stop().await;
        }
        service.array.shutdown().await;
    };
    tokio::select! {
        () = drained => tracing::info!("stopped"),
        () = signals.stop_again() => {
            tracing::warn!("ended at once; the next start recovers");
            std::process::exit(0);
        }
    }
    watchdog.abort();
    // The path is ours as long as the lock is.
    if let Err(error) = std::fs::remove_file(&socket) {
        tracing::warn!(%error, "cannot remove {}", socket.display());
    }
    Ok(())
}

/// Prints what is served, and `ready`; tells systemd.
async fn announce(service: &Service) {
    let config = service.config().await;
    let bytes_of = |number| {
        let volume = service
            .array
            .volume(target_core::scsi_model::control::VolumeNumber(number));
        volume.map_or(0, |volume| volume.bytes())
    };
    let text = greeting::text(&config, &service.frontend.addresses(), bytes_of);
    // Nobody may be reading; serving goes on.
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), format!("{text}ready\n").as_bytes());
    let _ = std::io::Write::flush(&mut std::io::stdout().lock());
    systemd::ready(&format!("serving {} volumes", config.volumes.len()));
}

/// The signals we answer.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads on each SIGHUP; ends with the first SIGTERM or SIGINT.
    async fn until_stop(&mut self, service: &Arc<Service>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => match service.reload().await {
                    Ok(_) => tracing::info!("reloaded"),
                    Err(error) => tracing::error!("not reloaded, nothing has changed: {error}"),
                },
            }
        }
    }

    async fn stop_again(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The future's value, unless a signal to stop comes first.
async fn ended_before<T>(signals: &mut Signals, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        value = future => Some(value),
        () = signals.stop_again() => None,
    }
}
