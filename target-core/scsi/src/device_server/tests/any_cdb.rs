//! Commands as nobody would send them: each reserved bit, and bytes of any kind.

use proptest::prelude::*;

use super::*;

/// Puts the command's service action where it belongs.
fn name_action(cdb: &mut [u8], entry: &Opcode) {
    match entry.service_action {
        Some(action) if entry.code() == VARIABLE_LENGTH => {
            cdb[7] = ADDITIONAL_LENGTH;
            cdb[8..10].copy_from_slice(&action.to_be_bytes());
        }
        Some(action) => cdb[1] = cdb[1] & !0x1F | action as u8,
        None => {}
    }
}

/// CDBs: most of them start like a command there is, so that they get past the lookup.
fn cdbs() -> impl Strategy<Value = Vec<u8>> {
    let rows = opcode_table::table().len();
    let known =
        (0..rows, prop::collection::vec(any::<u8>(), 32), any::<bool>()).prop_map(|(row, noise, clean)| {
            let entry = &opcode_table::table()[row];
            let mut cdb: Vec<u8> = entry.usage.to_vec();
            for (byte, noise) in cdb.iter_mut().zip(noise).skip(1) {
                *byte = if clean { noise & *byte } else { noise };
            }
            name_action(&mut cdb, entry);
            cdb
        });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..33), 4 => known]
}

/// Each reserved bit of each command, set alone in an otherwise acceptable CDB, is refused and named.
#[test]
fn every_reserved_bit_is_refused_where_it_is() {
    let mut server = server();
    for entry in opcode_table::table() {
        for (byte, bit) in (1..entry.usage.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let of_action = match (entry.code(), byte) {
                // Another length is told of first, whatever the bit.
                (VARIABLE_LENGTH, 7..10) => 0xFF,
                (VARIABLE_LENGTH, _) => 0,
                (_, 1) if entry.service_action.is_some() => 0x1F,
                _ => 0,
            };
            if (entry.usage[byte] | of_action) & (1 << bit) != 0 {
                continue;
            }
            let mut cdb = vec![0; entry.usage.len()];
            cdb[0] = entry.code();
            name_action(&mut cdb, entry);
            cdb[byte] |= 1 << bit;
            let plan = run(&mut server, A, &cdb);
            let wanted = Sense::invalid_cdb_field(byte as u16, Some(bit));
            assert_eq!(
                Sense::decode(&answer(&plan).sense),
                Some(wanted),
                "{}",
                entry.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_panics_and_every_range_is_inside(
        commands in prop::collection::vec((cdbs(), prop::collection::vec(any::<u8>(), 0..600), any::<bool>()), 1..8),
        thin in any::<bool>(),
    ) {
        let unit = UnitIdentity { thin, ..identity() };
        let capacity = unit.bytes();
        let mut server = server();
        for (cdb, data, from_a) in commands {
            let nexus = if from_a { A } else { NexusId(3) };
            let plan = server.plan(nexus, &cdb, &data, &facts(&unit));
            let ranges = match plan.action {
                Action::Read { offset, length, .. }
                | Action::Verify { offset, length }
                | Action::Zero { offset, length, .. }
                | Action::Flush { offset, length, .. }
                | Action::Prefetch { offset, length } => vec![ByteRange { offset, length }],
                Action::Write { offset, length, .. }
                | Action::OrWrite { offset, length, .. }
                | Action::ChangeGeneration { offset, length, .. }
                | Action::WriteVerify { offset, length, .. } => {
                    prop_assert!(length <= data.len() as u64);
                    vec![ByteRange { offset, length }]
                }
                Action::Compare { offset, length, repeat } => {
                    prop_assert!(repeat || length <= data.len() as u64);
                    vec![ByteRange { offset, length }]
                }
                Action::CompareAndWrite { offset, length, .. } => {
                    prop_assert_eq!(2 * length, data.len() as u64);
                    vec![ByteRange { offset, length }]
                }
                Action::WriteSame { offset, length } => {
                    prop_assert_eq!(data.len(), 512);
                    vec![ByteRange { offset, length }]
                }
                Action::Unmap(ranges) => ranges,
                _ => Vec::new(),
            };
            for range in ranges {
                prop_assert!(range.offset % 512 == 0 && range.length % 512 == 0);
                prop_assert!(range.offset + range.length <= capacity);
            }
        }
    }

    #[test]
    fn sense_data_of_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let decoded = Sense::decode(&bytes);
        if let Some(sense) = decoded {
            prop_assert!(Sense::decode(&sense.encode(SenseFormat::Descriptor)).is_some());
        }
    }
}
