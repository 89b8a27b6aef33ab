//! Who may not talk is told why, and nothing changes.

use super::site::*;
use crate::link::LinkStartError;
use link_proto::{Message, RefusalCause};
use rustls::version::{TLS12, TLS13};
use std::{fs, os::unix::fs::PermissionsExt as _};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

const NAME_B: Option<&str> = Some("holdfast:HF-B");

/// Nobody was ever up, and nothing was ever asked.
fn nothing_happened(site: &Site) {
    assert_eq!(site.recorder.seen(), []);
}

fn cause(message: Option<Message>) -> RefusalCause {
    match message {
        Some(Message::Refuse(refusal)) => refusal.cause,
        other => panic!("{other:?}"),
    }
}

/// S59.
#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_both_sides() {
    let Pair { directory, a, .. } = Pair::strangers().await;
    let stranger = Authority::new().config(&directory, "HF-C", "holdfast:HF-B", 3);
    // It says it is HF-B, as its certificate does.
    let stranger = crate::link::LinkConfig {
        system: id("HF-B"),
        ..stranger
    };
    let c = Site::start(stranger).await.unwrap();
    a.peers(&[("HF-B", c.links.address())]);
    assert!(a.error("HF-B").await.contains("BadSignature"));
    c.peers(&[("HF-A", a.links.address())]);
    assert!(c.error("HF-A").await.contains("BadSignature"));
    nothing_happened(&a);
    nothing_happened(&c);
    assert!(!a.links.peer(&id("HF-B")).unwrap().is_up());
}

#[tokio::test]
async fn a_caller_of_another_authority_is_refused() {
    let Pair { a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let stranger = Authority::new().client(NAME_B, &[&TLS13]);
    let mut raw = Raw::connect(&stranger, a.links.address()).await.unwrap();
    assert_eq!(raw.hear().await, None);
    assert!(a.refusal().await.contains("BadSignature"));
    nothing_happened(&a);
}

/// S59.
#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    let mut raw = Raw::connect(&authority.client(None, &[&TLS13]), a.links.address())
        .await
        .unwrap();
    assert_eq!(raw.hear().await, None);
    let why = a.refusal().await;
    assert!(
        why.starts_with("TLS failed") && why.contains("certificate"),
        "{why}"
    );
    nothing_happened(&a);
}

#[tokio::test]
async fn an_older_version_of_tls_is_refused() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    assert!(
        Raw::connect(&authority.client(NAME_B, &[&TLS12]), a.links.address())
            .await
            .is_err()
    );
    let why = a.refusal().await;
    assert!(
        why.starts_with("TLS failed") && why.contains("Tls12NotOfferedOrEnabled"),
        "{why}"
    );
    nothing_happened(&a);
}

/// S59.
#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let Pair { a, .. } = Pair::strangers().await;
    let mut stream = TcpStream::connect(a.links.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(a.refusal().await.starts_with("TLS failed"));
    nothing_happened(&a);
}

/// S59.
#[tokio::test]
async fn a_called_system_that_is_another_is_left_before_hello() {
    let Pair {
        authority,
        directory,
        a,
        ..
    } = Pair::strangers().await;
    let c = authority.config(&directory, "HF-C", "holdfast:HF-C", 3);
    let c = Site::start(c).await.unwrap();
    a.peers(&[("HF-B", c.links.address())]);
    assert_eq!(a.error("HF-B").await, "the certificate is that of HF-C");
    nothing_happened(&a);
    nothing_happened(&c);
}

#[tokio::test]
async fn a_caller_must_be_a_configured_peer_and_who_its_certificate_says() {
    let Pair { authority, a, b, .. } = Pair::strangers().await;
    b.peers(&[("HF-A", a.links.address())]);
    let told = "it refused the connection: the system is not configured as a peer there";
    assert_eq!(b.error("HF-A").await, told);
    assert_eq!(a.refusal().await, "HF-B is not configured as a peer");
    b.peers(&[]);

    a.peers(&[
        ("HF-B", "127.0.0.1:1".parse().unwrap()),
        ("HF-C", "127.0.0.1:1".parse().unwrap()),
    ]);
    let connector = authority.client(NAME_B, &[&TLS13]);
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert_eq!(cause(raw.greet("HF-C", 9).await), RefusalCause::Identity);
    assert_eq!(raw.hear().await, None);

    let connector = authority.client(Some("holdfast:HF-A"), &[&TLS13]);
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert_eq!(cause(raw.greet("HF-A", 9).await), RefusalCause::SameSystem);
    nothing_happened(&a);
}

#[tokio::test]
async fn certificates_that_name_no_system_are_refused() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    for (name, why) in [
        (
            "https://example.org/HF-B",
            "the certificate has no name holdfast:SYSTEM-ID",
        ),
        (
            "holdfast:HF/B",
            "the certificate's name holdfast:HF/B is no system id",
        ),
    ] {
        let connector = authority.client(Some(name), &[&TLS13]);
        let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
        raw.hear_the_end().await;
        eventually(|| a.links.refusals().last.filter(|(_, last)| last == why)).await;
    }
    nothing_happened(&a);
}

#[tokio::test]
async fn a_caller_of_another_version_is_told_ours() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(NAME_B, &[&TLS13]);
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    raw.say(&hello("HF-B", 9, (7, 9))).await;
    let Some(Message::Refuse(refusal)) = raw.hear().await else {
        panic!("it is refused");
    };
    assert_eq!(
        (refusal.cause, refusal.lowest, refusal.highest),
        (RefusalCause::Version, 1, 1)
    );
    assert!(a.refusal().await.contains("versions 7 to 9"));
    nothing_happened(&a);
}

#[tokio::test]
async fn garbage_and_oversize_inside_tls_end_the_connection() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let connector = authority.client(NAME_B, &[&TLS13]);
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    raw.say(b"not a frame at all, but long enough for one").await;
    assert_eq!(raw.hear().await, None);
    assert_eq!(a.refusal().await, "this is not a frame of the link");
    nothing_happened(&a);

    // The same after the handshake: whatever it was up for, it is down.
    let mut raw = Raw::connect(&connector, a.links.address()).await.unwrap();
    assert!(matches!(raw.greet("HF-B", 9).await, Some(Message::HelloAck(_))));
    let oversize = link_proto::header::Header {
        version: 1,
        kind: link_proto::header::Kind::Write,
        flags: 0,
        length: (1 << 20) + 41,
        unpacked: 0,
        id: 1,
        payload_crc: 0,
    };
    raw.say(&oversize.encode()).await;
    raw.hear_the_end().await;
    let why = a.recorder.down(1).await;
    assert_eq!(
        why,
        "a Write has 1048617 bytes of payload; 41 to 1048616 are accepted"
    );
    assert_eq!(a.recorder.seen(), [Seen::Up(9), Seen::Down(why)]);
}

/// What was recorded on the way is worth nothing: every connection makes its own keys.
#[tokio::test]
async fn a_replayed_connection_is_refused() {
    let Pair { authority, a, .. } = Pair::strangers().await;
    a.peers(&[("HF-B", "127.0.0.1:1".parse().unwrap())]);
    let tap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tapped = tap.local_addr().unwrap();
    let to = a.links.address();
    let recording = tokio::spawn(async move {
        let (mut caller, _) = tap.accept().await.unwrap();
        let mut called = TcpStream::connect(to).await.unwrap();
        let (mut from_caller, mut to_caller) = caller.split();
        let (mut from_called, mut to_called) = called.split();
        let mut record = Vec::new();
        let back = tokio::io::copy(&mut from_called, &mut to_caller);
        let forth = async {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = tokio::io::AsyncReadExt::read(&mut from_caller, &mut buffer).await {
                record.extend_from_slice(&buffer[..count]);
                to_called.write_all(&buffer[..count]).await.unwrap();
            }
        };
        tokio::select! {
            _ = back => {}
            () = forth => {}
        }
        record
    });
    let connector = authority.client(NAME_B, &[&TLS13]);
    let mut raw = Raw::connect(&connector, tapped).await.unwrap();
    assert!(matches!(raw.greet("HF-B", 9).await, Some(Message::HelloAck(_))));
    drop(raw);
    a.recorder.down(1).await;
    let record = recording.await.unwrap();
    let mut again = TcpStream::connect(to).await.unwrap();
    again.write_all(&record).await.unwrap();
    assert!(a.refusal().await.starts_with("TLS failed"));
    assert_eq!(a.recorder.seen().len(), 2, "up and down once");
}

#[tokio::test]
async fn a_link_with_bad_files_does_not_start() {
    let authority = Authority::new();
    let directory = TempDir::new().unwrap();
    let config = authority.config(&directory, "HF-A", "holdfast:HF-A", 1);
    let start = async |change: &dyn Fn(&mut crate::link::LinkConfig)| {
        let mut config = config.clone();
        change(&mut config);
        let checked = crate::link::check(&config).err();
        let started = Site::start(config).await.err();
        // What can be seen beforehand is seen.
        let busy = matches!(started, Some(LinkStartError::Listen { .. }));
        assert!(busy || checked.map(|error| error.to_string()) == started.as_ref().map(ToString::to_string));
        started
    };
    fs::set_permissions(&config.key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        start(&|_| {}).await,
        Some(LinkStartError::KeyMode { mode: 0o640, .. })
    ));
    fs::set_permissions(&config.key, fs::Permissions::from_mode(0o600)).unwrap();
    let another = start(&|config| config.system = id("HF-B")).await;
    assert!(
        matches!(another, Some(LinkStartError::Identity { .. })),
        "{another:?}"
    );
    let missing = start(&|config| config.ca = "/nowhere/ca.pem".into()).await;
    assert!(
        matches!(missing, Some(LinkStartError::File { .. })),
        "{missing:?}"
    );
    let swapped = start(&|config| std::mem::swap(&mut config.cert, &mut config.key)).await;
    assert!(
        matches!(swapped, Some(LinkStartError::File { .. })),
        "{swapped:?}"
    );
    let others = authority.config(&directory, "HF-C", "holdfast:HF-C", 1);
    let key = start(&|config| config.key = others.key.clone()).await;
    assert!(matches!(key, Some(LinkStartError::Tls(_))), "{key:?}");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let busy = start(&|config| config.listen = taken.1).await;
    assert!(matches!(busy, Some(LinkStartError::Listen { .. })), "{busy:?}");
    let itself = start(&|config| {
        config.peers = vec![crate::link::PeerConfig {
            id: id("HF-A"),
            address: "127.0.0.1:1".to_owned(),
            compression: None,
        }];
    })
    .await;
    assert!(matches!(itself, Some(LinkStartError::Peer(_))), "{itself:?}");
    assert!(start(&|_| {}).await.is_none(), "and with all right it starts");
}
