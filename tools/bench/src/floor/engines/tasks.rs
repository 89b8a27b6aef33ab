//! tokio: one task for each connection, vectored sends.

use std::{io, net::TcpListener, time::Duration};

use rustix::net::SendFlags;
use tokio::{io::Interest, net::TcpStream, runtime::Builder, task::spawn_blocking, time::timeout};

use crate::{
    clock::now_ns,
    floor::{connection::Connection, store::Store},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::floor) enum Runtime {
    CurrentThread,
    TwoWorkers,
    /// Every command also goes through the blocking pool, one `spawn_blocking` each: what `tokio::fs` or a thread pool costs.
    HandingOver,
}

/// Serves until the clock says `until`.
pub(in crate::floor) fn tokio(
    listener: TcpListener,
    store: &'static Store,
    until: u64,
    runtime: Runtime,
) -> io::Result<()> {
    let mut builder = if runtime == Runtime::TwoWorkers {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    } else {
        Builder::new_current_thread()
    };
    let handing_over = runtime == Runtime::HandingOver;
    listener.set_nonblocking(true)?;
    builder.enable_io().enable_time().build()?.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let accepting = async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    continue;
                };
                let _ = socket.set_nodelay(true);
                tokio::spawn(serve(socket, store, handing_over));
            }
        };
        let left = Duration::from_nanos(until.saturating_sub(now_ns()));
        let _ = timeout(left, accepting).await;
        Ok(())
    })
}

/// Until the connection ends.
async fn serve(socket: TcpStream, store: &Store, handing_over: bool) {
    let mut connection = Box::<Connection>::default();
    while socket.readable().await.is_ok() {
        let received = socket.try_io(Interest::READABLE, || Ok(connection.receive(store, &socket)?));
        match received {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        connection.commands = 0;
        if let Err(error) = connection.answer_all(store) {
            eprintln!("floor: {error}");
            return;
        }
        if handing_over {
            let hands: Vec<_> = (0..connection.commands).map(|_| spawn_blocking(|| ())).collect();
            for hand in hands {
                let _ = hand.await;
            }
        }
        while !connection.out.is_empty() {
            let sent = socket.try_io(Interest::WRITABLE, || {
                Ok(connection.out.send(&socket, store, SendFlags::empty())?)
            });
            match sent {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if socket.writable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
