#![no_main]
//! Any bytes as what a connection receives: whole PDUs are found and opened without a panic, and never longer than
//! what is there.
use iscsi_proto::framer::Framer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((flags, mut bytes)) = data.split_first() else { return };
    let framer = Framer {
        header_digest: flags & 1 != 0,
        data_digest: flags & 2 != 0,
        max_data_segment: 1 << (9 + (flags >> 4)),
        max_ahs: if flags & 4 != 0 { 256 } else { 0 },
    };
    let Ok(survey) = framer.survey(bytes) else { return };
    let mut whole = survey.whole;
    assert!(whole <= bytes.len());
    while whole > 0 {
        let frame = framer.open(bytes).expect("the survey found it whole");
        assert!(frame.data.end <= frame.length && frame.length <= whole);
        assert!(frame.data.len() <= framer.max_data_segment as usize);
        whole -= frame.length;
        bytes = &bytes[frame.length..];
    }
});
