//! What the tests are made of: an authority, systems, and a peer that says what it likes.

use crate::{
    link::{
        Compression, LinkConfig, LinkService, LinkStartError, Links, PeerConfig, Request, Response, Timing,
        service::Serving,
    },
    lock,
};
use bytes::{Bytes, BytesMut};
use link_proto::{Frame, Hello, Message, Session, SessionConfig, SystemId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, pki_types::PrivateKeyDer};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Nothing here takes as long.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) const TIMING: Timing = Timing {
    handshake: Duration::from_secs(3),
    interval: Duration::from_millis(100),
    silence: Duration::from_millis(1500),
    first_wait: Duration::from_millis(10),
    longest_wait: Duration::from_millis(100),
    leaving: Duration::from_secs(3),
};

pub(super) fn id(text: &str) -> SystemId {
    SystemId::new(text).unwrap()
}

/// Waits for what no event tells.
pub(super) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, looking).await.expect("it happens in time")
}

/// Signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate with these URIs, and its key.
    pub(super) fn issue(&self, uris: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    /// A configuration with a certificate of this name, under `directory`.
    pub(super) fn config(&self, directory: &TempDir, system: &str, name: &str, boot: u128) -> LinkConfig {
        let (certificate, key) = self.issue(&[name]);
        let write = |file: &str, text: String| -> PathBuf {
            let path = directory.path().join(format!("{system}-{file}"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        LinkConfig {
            system: id(system),
            boot,
            listen: "127.0.0.1:0".parse().unwrap(),
            cert: write("cert.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            ca: write("ca.pem", self.pem.clone()),
            peers: Vec::new(),
            timing: TIMING,
        }
    }

    /// What a client shows: a certificate of this name, or none.
    pub(super) fn client(
        &self,
        name: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = self.issue(&[name]);
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        // The certificates of these tests name no host.
        config.dangerous().set_certificate_verifier(Arc::new(AnyServer));
        TlsConnector::from(Arc::new(config))
    }
}

/// The peer that says what it likes looks at nothing.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// What a service saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Up(u128),
    Asked(Request),
    /// The answer to the request with this offset was made.
    Made(u64),
    Down(String),
}

/// Remembers what it sees. Requests at `HELD` and above wait to be let go; a read is answered with its offset's last byte.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    seen: Mutex<Vec<Seen>>,
    news: Notify,
    go: tokio::sync::watch::Sender<bool>,
}

/// Requests from this offset on are answered when they are let go.
pub(super) const HELD: u64 = 1 << 40;

/// Writes from this offset on, below [`HELD`], are done at once where they may.
pub(super) const AT_ONCE: u64 = 1 << 30;

impl Recorder {
    fn note(&self, seen: Seen) {
        lock(&self.seen).push(seen);
        self.news.notify_waiters();
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    pub(super) fn let_go(&self) {
        self.go.send_replace(true);
    }

    /// Waits until what was seen is as it should be.
    pub(super) async fn until(&self, mut look: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        let looking = async {
            loop {
                let news = self.news.notified();
                // Looked at where it lies: it may be many megabytes.
                let found = {
                    let seen = lock(&self.seen);
                    look(&seen).then(|| seen.clone())
                };
                match found {
                    Some(seen) => return seen,
                    None => news.await,
                }
            }
        };
        let looked = timeout(LONG, looking).await;
        looked.unwrap_or_else(|_| {
            // Without the data, which may be many megabytes.
            let short = |seen: &Seen| match seen {
                Seen::Asked(Request::Write { offset, data, .. }) => {
                    format!("Write of {} at {offset:#x}", data.len())
                }
                other => format!("{other:?}"),
            };
            let seen: Vec<_> = lock(&self.seen).iter().map(short).collect();
            panic!("this is all that was seen: {seen:#?}")
        })
    }

    pub(super) async fn up(&self, times: usize) {
        self.until(|seen| seen.iter().filter(|seen| matches!(seen, Seen::Up(_))).count() >= times)
            .await;
    }

    pub(super) async fn down(&self, times: usize) -> String {
        let down = |seen: &Seen| match seen {
            Seen::Down(reason) => Some(reason.clone()),
            _ => None,
        };
        let seen = self
            .until(|seen| seen.iter().filter_map(down).count() >= times)
            .await;
        seen.iter().filter_map(down).nth(times - 1).unwrap()
    }
}

/// The service of a system.
pub(super) struct Service(pub(super) Arc<Recorder>);

impl LinkService for Service {
    fn serve(&self, _: &SystemId, request: Request) -> Serving {
        let recorder = self.0.clone();
        recorder.note(Seen::Asked(request.clone()));
        Box::pin(async move {
            let (offset, response) = match request {
                Request::Read { offset, length, .. } => {
                    let data = vec![offset as u8; length as usize];
                    (offset, Response::Data(Bytes::from(data)))
                }
                Request::Write { offset, .. } => (offset, Response::Done),
                _ => (0, Response::Done),
            };
            if offset >= HELD {
                let mut go = recorder.go.subscribe();
                go.wait_for(|go| *go).await.unwrap();
            } else {
                // Later ones get ahead where they may.
                for _ in 0..10 - offset % 10 {
                    tokio::task::yield_now().await;
                }
            }
            recorder.note(Seen::Made(offset));
            response
        })
    }

    fn write_at_once(&self, _: &SystemId, request: &Request) -> Option<Response> {
        let Request::Write { offset, .. } = request else {
            return None;
        };
        (AT_ONCE..HELD).contains(offset).then(|| {
            self.0.note(Seen::Asked(request.clone()));
            self.0.note(Seen::Made(*offset));
            Response::Done
        })
    }

    fn up(&self, _: &SystemId, boot: u128) {
        self.0.note(Seen::Up(boot));
    }

    fn down(&self, _: &SystemId, reason: &str) {
        self.0.note(Seen::Down(reason.to_owned()));
    }
}

/// A system with its link.
pub(super) struct Site {
    pub(super) links: Arc<Links>,
    pub(super) recorder: Arc<Recorder>,
}

impl Site {
    pub(super) async fn start(config: LinkConfig) -> Result<Self, LinkStartError> {
        let recorder = Arc::new(Recorder::default());
        let links = Links::start(config, Arc::new(Service(recorder.clone()))).await?;
        Ok(Self { links, recorder })
    }

    /// Its only peers from now on, to which nothing is compressed.
    pub(super) fn peers(&self, peers: &[(&str, SocketAddr)]) {
        self.peers_by(None, peers);
    }

    /// Its only peers from now on, and what data to them is compressed by.
    pub(super) fn peers_by(&self, compression: Option<Compression>, peers: &[(&str, SocketAddr)]) {
        let peers: Vec<_> = peers
            .iter()
            .map(|(name, address)| PeerConfig {
                id: id(name),
                address: address.to_string(),
                compression,
            })
            .collect();
        self.links.reconfigure(&peers).unwrap();
    }

    /// What went wrong last with this peer.
    pub(super) async fn error(&self, peer: &str) -> String {
        let peer = self.links.peer(&id(peer)).unwrap();
        eventually(|| peer.status().last_error).await
    }

    /// Why the last call was refused.
    pub(super) async fn refusal(&self) -> String {
        eventually(|| self.links.refusals().last.map(|(_, why)| why)).await
    }
}

/// A pair of systems of one authority.
pub(super) struct Pair {
    pub(super) authority: Authority,
    pub(super) directory: TempDir,
    pub(super) a: Site,
    pub(super) b: Site,
}

impl Pair {
    /// They know nothing of each other yet.
    pub(super) async fn strangers() -> Self {
        let authority = Authority::new();
        let directory = TempDir::new().unwrap();
        let a = authority.config(&directory, "HF-A", "holdfast:HF-A", 1);
        let b = authority.config(&directory, "HF-B", "holdfast:HF-B", 2);
        let (a, b) = (Site::start(a).await.unwrap(), Site::start(b).await.unwrap());
        Self {
            authority,
            directory,
            a,
            b,
        }
    }

    /// Both call each other.
    pub(super) async fn connected() -> Self {
        let pair = Self::strangers().await;
        pair.a.peers(&[("HF-B", pair.b.links.address())]);
        pair.b.peers(&[("HF-A", pair.a.links.address())]);
        pair.a.recorder.up(1).await;
        pair.b.recorder.up(1).await;
        pair
    }
}

/// A peer that says what it likes.
pub(super) struct Raw {
    pub(super) stream: TlsStream<TcpStream>,
    received: BytesMut,
}

/// The Hello of a system without features.
pub(super) fn hello(system: &str, boot: u128, versions: (u16, u16)) -> Bytes {
    hello_of(system, boot, versions, 0)
}

/// The Hello of a system.
pub(super) fn hello_of(system: &str, boot: u128, versions: (u16, u16), features: u32) -> Bytes {
    let config = SessionConfig {
        hello: Hello {
            lowest: versions.0,
            highest: versions.1,
            features,
            requests: 4,
            bytes: 4 << 20,
            boot,
            system: id(system),
            software: "raw".to_owned(),
        },
        queue_requests: 0,
        queue_bytes: 0,
        handshake: LONG,
        interval: LONG,
        silence: LONG,
    };
    let mut session = Session::<()>::call(config, id("HF-X"), Duration::ZERO);
    session.next_output().unwrap().head
}

impl Raw {
    /// TLS only.
    pub(super) async fn connect(connector: &TlsConnector, to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        Self::over(connector, stream).await
    }

    pub(super) async fn over(connector: &TlsConnector, stream: TcpStream) -> std::io::Result<Self> {
        let name = "holdfast".try_into().unwrap();
        Ok(Self {
            stream: connector.connect(name, stream).await?,
            received: BytesMut::new(),
        })
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next message; `None` at the end.
    pub(super) async fn hear(&mut self) -> Option<Message> {
        let hearing = async {
            loop {
                if let Ok(frame) = Frame::take(&mut self.received).unwrap() {
                    return Some(frame.message);
                }
                if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        timeout(LONG, hearing).await.expect("it says something in time")
    }

    /// Says Hello and hears the answer.
    pub(super) async fn greet(&mut self, system: &str, boot: u128) -> Option<Message> {
        self.say(&hello(system, boot, (1, 1))).await;
        self.hear().await
    }

    /// Hears until it ends.
    pub(super) async fn hear_the_end(&mut self) {
        while self.hear().await.is_some() {}
    }
}

/// A read of volume 1.
pub(super) fn read(offset: u64, length: u32) -> Request {
    Request::Read {
        pair: 1,
        epoch: 1,
        volume: 1,
        offset,
        length,
    }
}
