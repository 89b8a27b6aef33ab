//! Vital product data pages (SPC-4 7.8, SBC-3 6.6).

use crate::{
    access_state::target_port_group,
    big_endian::push_padded,
    block_commands::{
        MAX_ATOMIC_BYTES, MAX_COMPARE_AND_WRITE_BLOCKS, MAX_TRANSFER_BYTES, MAX_WRITE_SAME_BYTES,
    },
    inquiry,
    logical_block_provisioning::threshold_exponent,
    third_party_copy,
    transport_id::target_port_name,
    unit::{SharedAccess, TargetPort, UnitIdentity},
    unmap::{MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS},
};

/// The pages, ascending, as page 00h lists them.
pub const PAGES: [u8; 10] = [0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8F, 0xB0, 0xB1, 0xB2];

/// OPTIMAL TRANSFER LENGTH in bytes.
const OPTIMAL_TRANSFER_BYTES: u32 = 1 << 20;

/// Smallest piece that UNMAP gives back, in bytes.
const UNMAP_GRANULARITY_BYTES: u32 = 4096;

/// A page with its header, or `None` for one that is not there. The unit is seen through `port`, one of `ports`.
pub fn page(
    code: u8,
    identity: &UnitIdentity,
    shared: Option<SharedAccess>,
    port: &TargetPort,
    ports: &[TargetPort],
) -> Option<Vec<u8>> {
    let body = match code {
        0x00 => PAGES.to_vec(),
        0x80 => identity.serial.as_bytes().to_vec(),
        0x83 => device_identification(identity, shared, port),
        0x86 => extended_inquiry(),
        0x87 => vec![0x3F, 0xFF, 0x00, 0x00],
        0x88 => scsi_ports(ports),
        0x8F => third_party_copy::vpd_descriptors(identity.block_size),
        0xB0 => block_limits(identity),
        0xB1 => block_device_characteristics(),
        0xB2 => logical_block_provisioning(identity),
        _ => return None,
    };
    let mut data = vec![0x00, code];
    data.extend((body.len() as u16).to_be_bytes());
    data.extend(body);
    Some(data)
}

/// 83h: the unit by NAA, T10 vendor id, EUI-64 and UUID, then the port it is seen through and the target. Names, which may be
/// long, come last: some initiators read no more than 255 bytes.
fn device_identification(
    identity: &UnitIdentity,
    shared: Option<SharedAccess>,
    port: &TargetPort,
) -> Vec<u8> {
    let mut t10 = Vec::new();
    push_padded(&mut t10, inquiry::VENDOR, 8);
    t10.extend(identity.serial.as_bytes());

    let mut data = designator(BINARY, 0x03, &identity.naa);
    data.extend(designator(ASCII, 0x01, &t10));
    data.extend(designator(BINARY, 0x02, &identity.eui64));
    data.extend(designator(
        BINARY,
        0x0A,
        &[&[0x10, 0], &identity.uuid[..]].concat(),
    ));
    data.extend(relative_port(port));
    data.extend(designator(
        BINARY | ISCSI,
        PIV | OF_PORT | 0x05,
        &group_bytes(shared),
    ));
    data.extend(port_name(port));
    data.extend(designator(
        UTF8 | ISCSI,
        PIV | OF_DEVICE | 0x08,
        &padded(&port.name),
    ));
    data
}

/// Relative target port identifier.
fn relative_port(port: &TargetPort) -> Vec<u8> {
    let [high, low] = port.relative_id.to_be_bytes();
    designator(BINARY | ISCSI, PIV | OF_PORT | 0x04, &[0, 0, high, low])
}

/// SCSI name of a target port.
fn port_name(port: &TargetPort) -> Vec<u8> {
    let name = padded(&target_port_name(port));
    designator(UTF8 | ISCSI, PIV | OF_PORT | 0x08, &name)
}

const BINARY: u8 = 0x01;
const ASCII: u8 = 0x02;
const UTF8: u8 = 0x03;
/// PROTOCOL IDENTIFIER 5h, valid together with PIV.
const ISCSI: u8 = 0x50;
const PIV: u8 = 0x80;
const OF_PORT: u8 = 0x10;
const OF_DEVICE: u8 = 0x20;

fn designator(code_set: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut data = vec![code_set, kind, 0, value.len() as u8];
    data.extend(value);
    data
}

fn group_bytes(shared: Option<SharedAccess>) -> [u8; 4] {
    let [high, low] = target_port_group(shared).to_be_bytes();
    [0, 0, high, low]
}

/// A SCSI name string: NUL-terminated, a multiple of four long. Names are at most 223 bytes (RFC 7143 4.2.7.1).
fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.truncate(251);
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// 86h: head of queue, ordered and simple tasks; nothing else.
fn extended_inquiry() -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x07;
    body
}

/// 88h: the ports of the target.
fn scsi_ports(ports: &[TargetPort]) -> Vec<u8> {
    let mut body = vec![0, 0];
    for port in ports {
        let designators = [relative_port(port), port_name(port)].concat();
        body.extend(port.relative_id.to_be_bytes());
        body.extend([0; 6]);
        body.extend((designators.len() as u16).to_be_bytes());
        body.extend(designators);
        body.extend([0; 2]);
    }
    body.truncate(body.len() - 2);
    body
}

/// B0h (SBC-3 6.6.4), page length 3Ch.
fn block_limits(identity: &UnitIdentity) -> Vec<u8> {
    let block = identity.block_size;
    let granularity = identity.physical_block_size / block;
    let mut body = vec![0x00, MAX_COMPARE_AND_WRITE_BLOCKS];
    body.extend((granularity as u16).to_be_bytes());
    body.extend((MAX_TRANSFER_BYTES / block).to_be_bytes());
    body.extend((OPTIMAL_TRANSFER_BYTES / block).to_be_bytes());
    body.extend([0; 4]);
    if identity.thin {
        body.extend(MAX_UNMAP_BLOCKS.to_be_bytes());
        body.extend((MAX_UNMAP_DESCRIPTORS as u32).to_be_bytes());
        body.extend((UNMAP_GRANULARITY_BYTES.max(identity.physical_block_size) / block).to_be_bytes());
        body.extend([0x80, 0, 0, 0]);
    } else {
        body.extend([0; 16]);
    }
    body.extend((MAX_WRITE_SAME_BYTES / u64::from(block)).to_be_bytes());
    // No alignment, granularity or boundary.
    body.extend((MAX_ATOMIC_BYTES / block).to_be_bytes());
    body.resize(60, 0);
    body
}

/// B1h: it does not rotate. WABEREQ 01b: blocks erased by SANITIZE are read without an error.
fn block_device_characteristics() -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x01;
    body[3] = 0x40;
    body
}

/// B2h: THRESHOLD EXPONENT, LBPU, LBPWS, LBPWS10, LBPRZ and ANC_SUP; provisioning type thin.
fn logical_block_provisioning(identity: &UnitIdentity) -> Vec<u8> {
    if identity.thin {
        vec![threshold_exponent(identity), 0xE6, 0x02, 0]
    } else {
        vec![0; 4]
    }
}

#[cfg(test)]
mod tests;
