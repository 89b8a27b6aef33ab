//! The framer and the CRC of digests: `cargo bench -p iscsi-proto`.
#![allow(missing_docs)]

use divan::{Bencher, black_box, counter::BytesCount};
use iscsi_proto::{
    digest::crc32c,
    framer::{Framer, MAX_AHS},
};

fn main() {
    divan::main();
}

#[divan::bench(args = [48, 4096, 65536, 262_144])]
fn crc(bencher: Bencher, length: usize) {
    let bytes = vec![7; length];
    bencher
        .counter(BytesCount::new(length))
        .bench(|| crc32c(black_box(&bytes)));
}

/// A receive with 32 reads, as commands without data: all of them are found and opened.
#[divan::bench(args = [false, true])]
fn thirty_two_commands(bencher: Bencher, digests: bool) {
    let framer = Framer {
        header_digest: digests,
        data_digest: digests,
        max_data_segment: 262_144,
        max_ahs: MAX_AHS,
    };
    let mut command = vec![0; 48];
    command[0] = 0x01;
    if digests {
        let digest = crc32c(&command);
        command.extend(digest);
    }
    let received = command.repeat(32);
    bencher.bench(|| {
        let survey = framer.survey(black_box(&received)).expect("they are good");
        let mut at = 0;
        while at < survey.whole {
            let frame = framer.open(&received[at..]).expect("it is whole");
            at += frame.length;
        }
        at
    });
}
