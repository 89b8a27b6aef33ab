//! INQUIRY: standard data (SPC-4 6.6.2). The vital product data pages are in [`crate::vpd`].

use crate::{
    big_endian::{field, push_padded},
    failure::Failure,
    plan::Answer,
    sense::Sense,
    unit::{TargetPort, UnitFacts, UnitIdentity},
    vpd,
};

/// T10 VENDOR IDENTIFICATION.
pub const VENDOR: &str = "HOLDFAST";

/// PRODUCT REVISION LEVEL.
pub const REVISION: &str = "0001";

/// SAM-5, iSCSI, SPC-4, SBC-3: no version claimed.
const VERSION_DESCRIPTORS: [u16; 4] = [0x00A0, 0x0960, 0x0460, 0x04C0];

/// PRODUCT IDENTIFICATION.
pub fn product(identity: &UnitIdentity) -> &'static str {
    if identity.mirror_class { "MIRROR" } else { "VOLUME" }
}

/// INQUIRY of a unit that exists.
pub(crate) fn inquiry(cdb: &[u8], facts: &UnitFacts<'_>, port: &TargetPort) -> Result<Answer, Failure> {
    let allocation_length = field(cdb, 3..5) as usize;
    let evpd = cdb[1] & 0x01 != 0;
    let data = match (evpd, cdb[2]) {
        (false, 0) => standard_data(facts.identity, facts.shared.is_some()),
        (false, _) => return Err(Sense::invalid_cdb_field(2, Some(7)).into()),
        (true, page) => vpd::page(page, facts.identity, facts.shared, port, facts.target_ports)
            .ok_or_else(|| Sense::invalid_cdb_field(2, Some(7)))?,
    };
    Ok(Answer::data(data, allocation_length))
}

/// Standard INQUIRY data of a unit: 96 bytes. The state of the port group of one that is `shared` is set by no initiator.
pub fn standard_data(identity: &UnitIdentity, shared: bool) -> Vec<u8> {
    let mut data = vec![
        0x00,
        u8::from(identity.removable) << 7,
        0x06, // SPC-4
        0x12, // HISUP, response data format 2
        91,
        if shared { 0x18 } else { 0x38 }, // TPGS 01b or 11b, 3PC
        0x10,                             // MULTIP
        0x02,                             // CMDQUE
    ];
    finish_standard_data(&mut data, product(identity));
    data
}

/// Standard INQUIRY data of a LUN where nothing is: peripheral qualifier 011b, device type 1Fh.
pub fn absent_unit_data() -> Vec<u8> {
    let mut data = vec![0x7F, 0, 0x06, 0x12, 91, 0, 0, 0x02];
    finish_standard_data(&mut data, "");
    data
}

fn finish_standard_data(data: &mut Vec<u8>, product: &str) {
    push_padded(data, VENDOR, 8);
    push_padded(data, product, 16);
    push_padded(data, REVISION, 4);
    data.resize(58, 0);
    data.extend(
        VERSION_DESCRIPTORS
            .iter()
            .flat_map(|version| version.to_be_bytes()),
    );
    data.resize(96, 0);
}
