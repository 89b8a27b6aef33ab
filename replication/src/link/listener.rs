//! Calls that come in.

use super::{
    carry::{self, Connection, RECEIVED},
    errors::LinkEnd,
    greeting,
    identity::{self, Tls},
    links::Shared,
    network::{Called, Stream},
    peer::Peer,
    traffic::BATCH,
};
use bytes::BytesMut;
use link_proto::{RefusalCause, Session, SystemId};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Calls that may be in their handshake at the same time: who does not finish it takes a place for as long as it may take.
const HANDSHAKES: usize = 64;
/// After accepting failed, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes calls of a simulation's network until the link stops.
pub(super) async fn take_calls(shared: Arc<Shared>, mut calls: mpsc::UnboundedReceiver<Called>) {
    loop {
        let called = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            called = calls.recv() => called,
        };
        let Some((stream, id)) = called else { return };
        let from = shared.config.listen;
        let (shared, greeting) = (shared.clone(), shared.clone());
        let answering = async move { greet_caller(&greeting, stream, id).await };
        shared.clone().tasks.spawn(answer(shared, from, answering, None));
    }
}

/// Takes calls until the link stops.
pub(super) async fn listen(shared: Arc<Shared>, tls: Tls, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("the link cannot take a call: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            shared.refused(from, &LinkEnd::Crowded);
            continue;
        };
        let (shared, greeting, tls) = (shared.clone(), shared.clone(), tls.clone());
        let answering = async move {
            let (stream, id) = accept_tls(&tls, stream).await?;
            greet_caller(&greeting, stream, id).await
        };
        shared
            .clone()
            .tasks
            .spawn(answer(shared, from, answering, Some(place)));
    }
}

/// What becomes of a call that came from there: it takes one of the places while it is answered.
async fn answer(
    shared: Arc<Shared>,
    from: SocketAddr,
    answering: impl Future<Output = Result<(Arc<Peer>, Connection), LinkEnd>>,
    place: Option<OwnedSemaphorePermit>,
) {
    let answered = timeout(shared.config.timing.handshake, answering).await;
    drop(place);
    match answered.unwrap_or(Err(LinkEnd::Timeout)) {
        Ok((peer, connection)) => carry::carry(&shared, &peer, connection, true).await,
        Err(end) if end.is_usual() => {}
        Err(end) => shared.refused(from, &end),
    }
}

async fn accept_tls(tls: &Tls, stream: TcpStream) -> Result<Called, LinkEnd> {
    stream.set_nodelay(true).map_err(LinkEnd::Io)?;
    let stream = BufReader::with_capacity(RECEIVED, stream);
    let acceptor = TlsAcceptor::from(tls.server.clone());
    let stream = acceptor.accept(stream).await;
    let mut stream = stream.map_err(LinkEnd::Tls)?;
    stream.get_mut().1.set_buffer_limit(Some(BATCH));
    identity::met(stream.into())
}

async fn greet_caller(
    shared: &Arc<Shared>,
    mut stream: Stream,
    id: SystemId,
) -> Result<(Arc<Peer>, Connection), LinkEnd> {
    let wire = shared.wire(|config, now| Session::called(config, id.clone(), now));
    let mut received = BytesMut::new();
    let hello = greeting::greet(&mut stream, &wire, &mut received).await?;
    let (refusal, end) = match shared.peer(&id) {
        _ if shared.stopping.is_cancelled() => (RefusalCause::Stopping, None),
        None => (RefusalCause::UnknownPeer, Some(LinkEnd::UnknownPeer(id))),
        Some(peer) => match peer.called(&wire, hello.boot) {
            None => (RefusalCause::Duplicate, None),
            Some(claim) => {
                let connection = Connection {
                    stream,
                    wire,
                    claim,
                    hello,
                    received,
                };
                return Ok((peer, connection));
            }
        },
    };
    let refused = greeting::refuse(&mut stream, &wire, wire.refuse(refusal)).await;
    Err(end.unwrap_or(refused))
}
