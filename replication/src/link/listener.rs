//! Calls that come in.

use super::{
    carry::{self, Connection, RECEIVED},
    errors::LinkEnd,
    greeting, identity,
    links::Shared,
    peer::Peer,
    traffic::BATCH,
};
use bytes::BytesMut;
use link_proto::{RefusalCause, Session};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

/// Calls that may be in their handshake at the same time: who does not finish it takes a place for as long as it may take.
const HANDSHAKES: usize = 64;
/// After accepting failed, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes calls until the link stops.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
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
        let shared = shared.clone();
        shared.clone().tasks.spawn(async move {
            let answering = answer(&shared, stream);
            let answered = timeout(shared.config.timing.handshake, answering).await;
            drop(place);
            match answered.unwrap_or(Err(LinkEnd::Timeout)) {
                Ok((peer, connection)) => carry::carry(&shared, &peer, connection, true).await,
                Err(end) if end.is_usual() => {}
                Err(end) => shared.refused(from, &end),
            }
        });
    }
}

async fn answer(shared: &Arc<Shared>, stream: TcpStream) -> Result<(Arc<Peer>, Connection), LinkEnd> {
    stream.set_nodelay(true).map_err(LinkEnd::Io)?;
    let stream = BufReader::with_capacity(RECEIVED, stream);
    let acceptor = TlsAcceptor::from(shared.tls.server.clone());
    let stream = acceptor.accept(stream).await;
    let mut stream = stream.map_err(LinkEnd::Tls)?;
    stream.get_mut().1.set_buffer_limit(Some(BATCH));
    let mut stream = TlsStream::from(stream);
    let id = identity::identity(
        stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first()),
    )?;
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
