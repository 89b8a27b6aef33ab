//! What sessions may agree on is for the target, and for the initiator, to say (RFC 7143 13).

use holdfast_tests::{Daemon, VolumeSpec, commands, wire::Wire};

use crate::{TO_FULL, daemon_of};

const SMALL: &str = "iqn.2026-11.test:small";
const OTHER: &str = "iqn.2026-11.test:other";
/// The pattern's, under which [`SMALL`] is.
const OF_ALL: &str = "keys = { max_burst_length = 8192, immediate_data = false }";
const OF_SMALL: &str = "keys = { max_burst_length = 4096, max_recv_data_segment_length = 512, initial_r2t = true, \
                        data_digest = [\"CRC32C\"], default_time2retain = 0, error_recovery_level = 1 }";

fn keyed() -> Daemon {
    let initiators = format!(
        "keys = {{ max_burst_length = \"16KiB\", default_time2wait = 5 }}\n\
         [[target.initiator]]\nname = \"iqn.2026-11.test:*\"\n{OF_ALL}\n\
         [[target.initiator]]\nname = \"{SMALL}\"\n{OF_SMALL}\n"
    );
    let daemon = daemon_of(vec![VolumeSpec::standard("disk", "1MiB")], initiators);
    daemon.reconfigure("[iscsi]\n", "[iscsi]\nkeys = { max_outstanding_r2t = 3 }\n");
    daemon
}

/// What none of the three places has to add anything to.
const OFFERED: &str =
    "ImmediateData=Yes MaxBurstLength=8192 FirstBurstLength=4096 DefaultTime2Wait=0 MaxOutstandingR2T=1";

/// Offers everything that there is, and gives what was answered.
fn agreed(daemon: &Daemon, initiator: &str, digest: &str) -> ((u8, u8), String) {
    let text = format!(
        "InitiatorName={initiator} TargetName={} SessionType=Normal DataDigest={digest} InitialR2T=No ImmediateData=Yes \
         MaxBurstLength=1048576 FirstBurstLength=1048576 DefaultTime2Wait=0 DefaultTime2Retain=60 MaxOutstandingR2T=8 \
         ErrorRecoveryLevel=2",
        daemon.iqn()
    );
    let (status, _, answer) = Wire::connect(daemon.port()).login(TO_FULL, &text);
    (status, answer)
}

fn assert_agreed(answer: &str, keys: &[&str]) {
    for key in keys {
        assert!(answer.contains(&format!("{key} ")), "{key}: {answer}");
    }
}

/// 6.2, 13: two initiators of one target get different answers, and each key is that of the narrowest place that names it.
#[test]
fn initiators_of_a_target_agree_on_different_things() {
    let daemon = keyed();
    let (status, answer) = agreed(&daemon, OTHER, "None,CRC32C");
    assert_eq!(status, (0, 0), "{answer}");
    assert_agreed(
        &answer,
        &[
            "DataDigest=None",
            "InitialR2T=No",
            "ImmediateData=No",
            "MaxRecvDataSegmentLength=262144",
            "MaxBurstLength=8192",
            "FirstBurstLength=8192",
            "DefaultTime2Wait=5",
            "DefaultTime2Retain=20",
            "MaxOutstandingR2T=3",
            "ErrorRecoveryLevel=0",
        ],
    );
    let (status, answer) = agreed(&daemon, SMALL, "None,CRC32C");
    assert_eq!(status, (0, 0), "{answer}");
    assert_agreed(
        &answer,
        &[
            "DataDigest=CRC32C",
            "InitialR2T=Yes",
            "ImmediateData=Yes",
            "MaxRecvDataSegmentLength=512",
            "MaxBurstLength=4096",
            "FirstBurstLength=4096",
            "DefaultTime2Wait=5",
            "DefaultTime2Retain=0",
            // With error recovery, whatever is configured.
            "MaxOutstandingR2T=1",
            "ErrorRecoveryLevel=1",
        ],
    );
}

/// 6.2.1, 13.1: an initiator that declines a digest that is required is refused (0200h); another one of the target is not.
#[test]
fn a_digest_may_be_required_of_one_initiator() {
    let daemon = keyed();
    let (status, answer) = agreed(&daemon, SMALL, "None");
    assert_eq!(status.0, 2, "{answer}");
    assert_eq!(agreed(&daemon, OTHER, "None").0, (0, 0));
}

/// A reload changes what is agreed on from then on, and leaves the sessions there are.
#[test]
fn a_reload_changes_what_new_sessions_agree_on() {
    let daemon = keyed();
    let names = format!(
        "InitiatorName={OTHER} TargetName={} SessionType=Normal",
        daemon.iqn()
    );
    let mut wire = Wire::session_as(daemon.port(), daemon.iqn(), OTHER, 1, OFFERED);
    wire.attentions(0);
    daemon.reconfigure(OF_ALL, "keys = { max_burst_length = 512 }");
    wire.assert_alive();
    assert!(wire.scsi(0, &commands::read(0, 1)).is_good());
    assert_eq!(wire.attentions(0), [], "nothing has changed for it");
    let text = format!("{names} MaxBurstLength=4096 ImmediateData=Yes");
    let answer = Wire::connect(daemon.port()).login(TO_FULL, &text).2;
    assert_agreed(&answer, &["MaxBurstLength=512", "ImmediateData=Yes"]);
}
