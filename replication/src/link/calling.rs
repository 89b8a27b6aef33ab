//! Calls to one peer: whenever no connection counts, with a back-off.

use super::{
    carry::{self, Connection, RECEIVED},
    errors::{IdentityError, LinkEnd},
    greeting,
    identity::{self, Tls},
    links::{Road, Shared},
    network::Called,
    peer::Peer,
    traffic::BATCH,
};
use bytes::BytesMut;
use link_proto::{Session, reconnect::Reconnect};
use std::sync::Arc;
use tokio::{
    io::BufReader,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// Calls the peer until it is gone.
pub(super) async fn keep_calling(shared: Arc<Shared>, peer: Arc<Peer>) {
    let timing = shared.config.timing;
    let mut reconnect = Reconnect::new(timing.first_wait, timing.longest_wait);
    loop {
        // The peer's own call may have been answered; then this waits for its end.
        tokio::select! {
            biased;
            () = peer.gone.cancelled() => return,
            () = peer.vacant() => {}
        }
        let began = Instant::now();
        let connected = tokio::select! {
            biased;
            () = peer.gone.cancelled() => return,
            connected = call(&shared, &peer) => connected,
        };
        match connected {
            Ok(connection) => carry::carry(&shared, &peer, connection, false).await,
            Err(end) if end.is_usual() => {}
            Err(end) => peer.note(&end),
        }
        let wait = reconnect.wait(began.elapsed(), shared.road.jitter());
        tokio::select! {
            biased;
            () = peer.gone.cancelled() => return,
            () = peer.hurry.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn call(shared: &Arc<Shared>, peer: &Arc<Peer>) -> Result<Connection, LinkEnd> {
    let connecting = connect(shared, peer);
    timeout(shared.config.timing.handshake, connecting)
        .await
        .unwrap_or(Err(LinkEnd::Timeout))
}

async fn connect(shared: &Arc<Shared>, peer: &Arc<Peer>) -> Result<Connection, LinkEnd> {
    let address = peer.address();
    let (mut stream, id) = match &shared.road {
        Road::Tls(tls) => connect_tls(tls, address).await?,
        Road::Given(network) => {
            let called = network.call(&address).await;
            called.map_err(|why| LinkEnd::Unreachable { address, why })?
        }
    };
    if id != *peer.id() {
        return Err(IdentityError::Another(id).into());
    }
    let wire = shared.wire(|config, now| Session::call(config, id, now));
    let claim = peer.call(&wire).ok_or(LinkEnd::Superseded)?;
    let mut received = BytesMut::new();
    let hello = tokio::select! {
        biased;
        () = wire.replaced.cancelled() => return Err(LinkEnd::Superseded),
        hello = greeting::greet(&mut stream, &wire, &mut received) => hello?,
    };
    if !claim.opened(hello.boot) {
        return Err(LinkEnd::Superseded);
    }
    Ok(Connection {
        stream,
        wire,
        claim,
        hello,
        received,
    })
}

async fn connect_tls(tls: &Tls, address: String) -> Result<Called, LinkEnd> {
    let stream = TcpStream::connect(&address).await;
    let stream = stream.map_err(|why| LinkEnd::Unreachable { address, why })?;
    stream.set_nodelay(true).map_err(LinkEnd::Io)?;
    let stream = BufReader::with_capacity(RECEIVED, stream);
    let connector = TlsConnector::from(tls.client.clone());
    let stream = connector.connect(Tls::name(), stream).await;
    let mut stream = stream.map_err(LinkEnd::Tls)?;
    stream.get_mut().1.set_buffer_limit(Some(BATCH));
    identity::met(stream.into())
}
