//! Who is at the other end: TLS 1.3 with certificates both ways. A system's certificate carries its id as a URI among its
//! subject alternative names, `holdfast:SYSTEM-ID`. The address a peer has, and names in the DNS, mean nothing.

use super::config::LinkConfig;
use super::errors::{IdentityError, LinkEnd, LinkStartError};
use super::network::Called;
use link_proto::SystemId;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};
use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};
use tokio::{io::BufReader, net::TcpStream};
use tokio_rustls::TlsStream;

/// The scheme of the URI that names a system in its certificate.
pub const SCHEME: &str = "holdfast:";

/// Both sides of TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    /// Until when this system's certificate is good.
    pub(super) until: Option<UnixTime>,
}

impl Tls {
    /// Reads and checks the certificates.
    pub(super) fn load(config: &LinkConfig) -> Result<Self, LinkStartError> {
        let chain = certificates(&config.cert)?;
        let id = identity(chain.first()).and_then(|id| {
            if id == config.system {
                return Ok(());
            }
            Err(IdentityError::Another(id))
        });
        id.map_err(|why| LinkStartError::Identity {
            file: config.cert.clone(),
            system: config.system.clone(),
            why,
        })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&config.ca)? {
            roots
                .add(authority)
                .map_err(|error| unreadable(&config.ca, &error))?;
        }
        Self::new(roots, chain, || private_key(&config.key))
    }

    fn new(
        roots: RootCertStore,
        chain: Vec<CertificateDer<'static>>,
        key: impl Fn() -> Result<PrivateKeyDer<'static>, LinkStartError>,
    ) -> Result<Self, LinkStartError> {
        let tls = |error: Error| LinkStartError::Tls(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots);
        let until = good_until(&chain, &roots, &provider);
        let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| LinkStartError::Tls(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(callers)
            .with_single_cert(chain.clone(), key()?)
            .map_err(tls)?;
        // Each connection shows its certificates anew.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Authority { roots, provider }))
            .with_client_auth_cert(chain, key()?)
            .map_err(tls)?;
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            until,
        })
    }

    /// TLS wants a name to call a server by; nothing is made of it.
    pub(super) fn name() -> ServerName<'static> {
        ServerName::try_from("holdfast").expect("it is a name")
    }
}

/// The connection to whoever the handshake has shown to be at the other end.
pub(super) fn met(stream: TlsStream<BufReader<TcpStream>>) -> Result<Called, LinkEnd> {
    let (_, session) = stream.get_ref();
    let id = identity(session.peer_certificates().and_then(|chain| chain.first()))?;
    Ok((Box::new(stream), id))
}

/// The system that a certificate, already verified, names.
pub(super) fn identity(certificate: Option<&CertificateDer<'_>>) -> Result<SystemId, IdentityError> {
    let certificate = certificate.ok_or(IdentityError::NoCertificate)?;
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| IdentityError::Unreadable(error.to_string()))?;
    let mut names = certificate
        .valid_uri_names()
        .filter_map(|uri| uri.strip_prefix(SCHEME));
    let name = names.next().ok_or(IdentityError::Nameless)?;
    if names.next().is_some() {
        return Err(IdentityError::Ambiguous);
    }
    SystemId::new(name).map_err(|bad| IdentityError::NotAnId(bad.id))
}

/// A called system's certificate is good when the authority signed it. Which system it is, is looked at afterwards, on both
/// sides alike.
#[derive(Debug)]
struct Authority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Authority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// When a certificate expires, which is what is wrong with it at the end of time.
fn good_until(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
) -> Option<UnixTime> {
    let (own, intermediates) = chain.split_first()?;
    let verified = verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(own).ok()?,
        roots,
        intermediates,
        UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX)),
        provider.signature_verification_algorithms.all,
    );
    match verified {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => Some(not_after),
        _ => None,
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LinkStartError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unreadable(file, &error))?
        .collect();
    let found = found.map_err(|error| unreadable(file, &error))?;
    if found.is_empty() {
        return Err(unreadable(file, &"it holds no certificate"));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, LinkStartError> {
    let mode = fs::metadata(file)
        .map_err(|error| unreadable(file, &error))?
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(LinkStartError::KeyMode {
            file: file.to_owned(),
            mode,
        });
    }
    PrivateKeyDer::from_pem_file(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, why: &dyn std::fmt::Display) -> LinkStartError {
    LinkStartError::File {
        file: file.to_owned(),
        why: why.to_string(),
    }
}
