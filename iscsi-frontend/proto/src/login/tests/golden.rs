//! Login sequences as real initiators send them.

use super::*;

#[test]
fn libiscsi_without_authentication_starts_in_the_operational_stage() {
    let mut bench = Bench::new(House::default());
    let (answer, outcome) = bench.finish(
        (1, Some(3)),
        &format!(
            "{} HeaderDigest=None,CRC32C DataDigest=None InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 \
             FirstBurstLength=262144 DefaultTime2Wait=2 DefaultTime2Retain=0 MaxOutstandingR2T=1 ErrorRecoveryLevel=0 \
             IFMarker=No OFMarker=No MaxConnections=1 MaxRecvDataSegmentLength=262144 DataPDUInOrder=Yes \
             DataSequenceInOrder=Yes",
            names()
        ),
    );
    assert_eq!(
        answer,
        "TargetAlias=Holdfast TargetPortalGroupTag=1 MaxRecvDataSegmentLength=262144 HeaderDigest=None \
         DataDigest=None InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 FirstBurstLength=262144 \
         DefaultTime2Wait=2 DefaultTime2Retain=0 MaxOutstandingR2T=1 ErrorRecoveryLevel=0 IFMarker=Reject \
         OFMarker=Reject MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes"
    );
    assert_eq!((outcome.tsih, outcome.authenticated_as.as_deref()), (77, None));
    assert_eq!(outcome.connection.peer_max_recv_data_segment_length, 262_144);
    assert_eq!(leading(&outcome).default_time2retain, 0);
}

#[test]
fn libiscsi_with_chap_repeats_its_names_in_the_operational_stage() {
    let mut bench = Bench::new(House::chap(false));
    let (answer, next) = bench.talk((0, Some(1)), &format!("{} AuthMethod=CHAP,None", names()));
    assert_eq!(
        (answer.as_str(), next),
        (
            "TargetAlias=Holdfast TargetPortalGroupTag=1 AuthMethod=CHAP",
            None
        )
    );
    let challenge = format!("CHAP_A=5 CHAP_I=165 CHAP_C=0x{}", "a5".repeat(32));
    assert_eq!(bench.talk((0, None), "CHAP_A=5"), (challenge, None));
    let response = chap_answer("host-a", "open sesame!", Algorithm::Md5);
    assert_eq!(bench.talk((0, Some(1)), &response), (String::new(), Some(1)));
    let (_, outcome) = bench.finish((1, Some(3)), &format!("{} InitialR2T=Yes", names()));
    assert_eq!(outcome.authenticated_as.as_deref(), Some("host-a"));
    assert!(leading(&outcome).initial_r2t);
}

#[test]
fn open_iscsi_goes_through_both_stages_without_authentication() {
    let mut bench = Bench::new(House::default());
    let first =
        format!("InitiatorName={INITIATOR} InitiatorAlias=host-a TargetName={TARGET} SessionType=Normal");
    let (answer, next) = bench.talk((0, Some(1)), &format!("{first} AuthMethod=None"));
    assert_eq!(
        (answer.as_str(), next),
        (
            "TargetAlias=Holdfast TargetPortalGroupTag=1 AuthMethod=None",
            Some(1)
        )
    );
    let (answer, outcome) = bench.finish(
        (1, Some(3)),
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=16776192 FirstBurstLength=262144 \
         MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes \
         MaxRecvDataSegmentLength=262144",
    );
    // It gives up on any key it did not send.
    assert_eq!(
        answer,
        "MaxRecvDataSegmentLength=262144 HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 \
         IFMarker=Reject OFMarker=Reject ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes \
         MaxBurstLength=1048576 FirstBurstLength=262144 MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes \
         DataSequenceInOrder=Yes"
    );
    assert_eq!(outcome.initiator_alias.as_deref(), Some("host-a"));
}

#[test]
fn open_iscsi_discovery_jumps_from_security_to_full_feature_phase() {
    let mut bench = Bench::new(House::default());
    let text = format!("InitiatorName={INITIATOR} SessionType=Discovery AuthMethod=None");
    let (answer, outcome) = bench.finish((0, Some(3)), &text);
    assert_eq!(answer, "AuthMethod=None");
    assert_eq!(
        (outcome.session_type, outcome.target),
        (SessionType::Discovery, None)
    );
    assert_eq!(outcome.connection.own_max_recv_data_segment_length, 8192);
}

#[test]
fn microsoft_sends_two_stages_with_high_recovery_level_and_mutual_chap() {
    let mut bench = Bench::new(House::chap(true));
    let (_, next) = bench.talk((0, Some(1)), &format!("{} AuthMethod=CHAP", names()));
    assert_eq!(next, None);
    bench.talk((0, None), "CHAP_A=5");
    let response = chap_answer("host-a", "open sesame!", Algorithm::Md5);
    let (answer, next) = bench.talk((0, Some(1)), &format!("{response} CHAP_I=9 CHAP_C=0bAQIDBA=="));
    let proof = Secret::new("it is really me").response(Algorithm::Md5, 9, &[1, 2, 3, 4]);
    assert_eq!(
        (answer, next),
        (format!("CHAP_N=target CHAP_R={}", encode_hex(&proof)), Some(1))
    );
    let (answer, outcome) = bench.finish(
        (1, Some(3)),
        "HeaderDigest=CRC32C,None DataDigest=CRC32C,None ErrorRecoveryLevel=2 InitialR2T=No ImmediateData=Yes \
         MaxRecvDataSegmentLength=65536 MaxBurstLength=262144 FirstBurstLength=65536 MaxConnections=1 \
         DataPDUInOrder=Yes DataSequenceInOrder=Yes DefaultTime2Wait=0 DefaultTime2Retain=60 MaxOutstandingR2T=16",
    );
    assert!(
        answer.contains("ErrorRecoveryLevel=0") && answer.contains("DefaultTime2Wait=2"),
        "{answer}"
    );
    assert_eq!(outcome.connection.header_digest, DigestKind::Crc32c);
    assert_eq!(outcome.connection.data_digest, DigestKind::Crc32c);
    assert_eq!(
        (
            leading(&outcome).default_time2retain,
            leading(&outcome).max_outstanding_r2t
        ),
        (20, 16)
    );
}
