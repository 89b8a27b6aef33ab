//! Mode pages: MODE SENSE and MODE SELECT, 6 and 10 (SPC-4 6.11 to 6.14, 7.5; SBC-3 6.5).
//!
//! What can be changed is WCE (Caching), D_SENSE and SWP (Control), and of a thin unit ENABLED and THRESHOLD COUNT of
//! both thresholds (Logical Block Provisioning). Everything else is what it is, and MODE SELECT with another value for
//! it is refused.

use serde::{Deserialize, Serialize};

use crate::{
    big_endian::field,
    failure::Failure,
    logical_block_provisioning::{Threshold, Thresholds},
    plan::Answer,
    sense::Sense,
    sense::SenseFormat,
    sense_codes,
    unit::UnitFacts,
    unit::UnitIdentity,
};

/// The parameters that MODE SELECT changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModeParameters {
    /// WCE: a write may be answered before it is stable.
    pub write_cache: bool,
    /// D_SENSE: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// SWP: software write protect.
    pub write_protect: bool,
    /// Of a thin unit: where it warns.
    pub thresholds: Thresholds,
}

impl Default for ModeParameters {
    fn default() -> Self {
        Self {
            write_cache: true,
            descriptor_sense: false,
            write_protect: false,
            thresholds: Thresholds::default(),
        }
    }
}

/// Current and saved values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModePages {
    /// In force.
    pub current: ModeParameters,
    /// In force after the next start.
    pub saved: ModeParameters,
}

/// What MODE SELECT did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selected {
    /// Some current value is another now: the other nexuses must hear of it.
    pub(crate) changed: bool,
    /// SP: the saved values are to be stored.
    pub(crate) save: bool,
}

/// PAGE CODE and SUBPAGE CODE.
type Code = (u8, u8);

const CACHING: Code = (0x08, 0);
const CONTROL: Code = (0x0A, 0);
const CONTROL_EXTENSION: Code = (0x0A, 1);
const PROVISIONING: Code = (0x1C, 2);
const ALL_PAGES: u8 = 0x3F;
const ALL_SUBPAGES: u8 = 0xFF;
pub(crate) const PAGES: [Code; 9] = [
    (0x01, 0),
    (0x02, 0),
    (0x07, 0),
    CACHING,
    CONTROL,
    CONTROL_EXTENSION,
    (0x1A, 0),
    (0x1C, 0),
    PROVISIONING,
];

const SPF: u8 = 0x40;
const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;
const ENABLED: u8 = 0x80;
/// Where the threshold descriptors are in the Logical Block Provisioning page.
const AVAILABLE_AT: usize = 16;
const USED_AT: usize = 24;
/// PAGE LENGTH of both subpages.
const SUBPAGE_LENGTH: u8 = 0x1C;

impl ModePages {
    /// The pages after a start.
    pub const fn starting_with(saved: ModeParameters) -> Self {
        Self {
            current: saved,
            saved,
        }
    }

    /// The format of sense data.
    pub const fn sense_format(self) -> SenseFormat {
        if self.current.descriptor_sense {
            SenseFormat::Descriptor
        } else {
            SenseFormat::Fixed
        }
    }

    /// MODE SENSE (6) or (10).
    pub(crate) fn sense(self, cdb: &[u8], facts: &UnitFacts<'_>) -> Result<Answer, Failure> {
        let ten = cdb[0] == 0x5A;
        let control = cdb[2] >> 6;
        let codes = asked_for((cdb[2] & 0x3F, cdb[3]), facts.identity)?;
        let long_block = ten && cdb[1] & 0x10 != 0;
        let descriptor = if cdb[1] & 0x08 == 0 {
            block_descriptor(facts.identity, long_block)
        } else {
            Vec::new()
        };
        let mut body = descriptor.clone();
        body.extend(codes.into_iter().flat_map(|code| self.page(code, control)));

        let device_specific = u8::from(facts.read_only || self.current.write_protect) << 7 | 0x10;
        let mut data = header(ten, device_specific, long_block, descriptor.len());
        data.extend(body);
        let allocation_length = if ten { field(cdb, 7..9) } else { field(cdb, 4..5) };
        if ten {
            let length = (data.len() - 2) as u16;
            data[..2].copy_from_slice(&length.to_be_bytes());
        } else {
            data[0] = (data.len() - 1) as u8;
        }
        Ok(Answer::data(data, allocation_length as usize))
    }

    /// A page: PC 0 current, 1 changeable bits, 2 default, 3 saved.
    fn page(self, code: Code, control: u8) -> Vec<u8> {
        match control {
            0 => encode_page(code, self.current),
            1 => changeable(code),
            2 => encode_page(code, ModeParameters::default()),
            _ => encode_page(code, self.saved),
        }
    }

    /// MODE SELECT (6) or (10). Everything is checked before anything is changed.
    pub(crate) fn select(
        &mut self,
        cdb: &[u8],
        data_out: &[u8],
        identity: &UnitIdentity,
    ) -> Result<Selected, Failure> {
        let ten = cdb[0] == 0x55;
        if cdb[1] & 0x10 == 0 {
            return Err(Sense::invalid_cdb_field(1, Some(4)).into());
        }
        let save = cdb[1] & 0x01 != 0;
        let length = list_length(cdb);
        if length == 0 {
            return Ok(Selected {
                changed: false,
                save: false,
            });
        }
        let too_short = Failure::from(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR));
        let list = data_out.get(..length).ok_or(too_short)?;
        let header_length = if ten { 8 } else { 4 };
        if list.len() < header_length {
            return Err(too_short);
        }
        let descriptor_length = if ten {
            field(list, 6..8) as usize
        } else {
            usize::from(list[3])
        };
        let pages_at = header_length + descriptor_length;
        let descriptor = list.get(header_length..pages_at).ok_or(too_short)?;
        check_block_descriptor(descriptor, header_length, ten && list[4] & 0x01 != 0, identity)?;

        let mut wanted = self.current;
        let mut at = pages_at;
        while at < list.len() {
            let subpage = if list[at] & SPF == 0 {
                0
            } else {
                *list.get(at + 1).ok_or(too_short)?
            };
            let code = (list[at] & 0x3F, subpage);
            let names_subpage_0 = list[at] & SPF != 0 && subpage == 0;
            if names_subpage_0 || !pages_of(identity).any(|known| known == code) {
                return Err(Sense::invalid_parameter(at as u16, None).into());
            }
            let present = encode_page(code, self.current);
            let page = list.get(at..at + present.len()).ok_or(too_short)?;
            check_unchangeable(code, page, &present, at)?;
            read_changeable(code, page, &mut wanted);
            at += present.len();
        }
        let changed = wanted != self.current;
        self.current = wanted;
        if save {
            self.saved = wanted;
        }
        Ok(Selected { changed, save })
    }
}

/// The pages that a unit has.
fn pages_of(identity: &UnitIdentity) -> impl Iterator<Item = Code> {
    let thin = identity.thin;
    PAGES
        .into_iter()
        .filter(move |code| *code != PROVISIONING || thin)
}

/// What PAGE CODE and SUBPAGE CODE of a MODE SENSE name; FFh stands for all subpages, 3Fh for all pages.
fn asked_for((page, subpage): Code, identity: &UnitIdentity) -> Result<Vec<Code>, Failure> {
    let of_page = |code: &Code| page == ALL_PAGES || page == code.0;
    let codes: Vec<Code> = pages_of(identity).filter(of_page).collect();
    if codes.is_empty() {
        return Err(Sense::invalid_cdb_field(2, Some(5)).into());
    }
    let of_subpage = |code: &Code| subpage == ALL_SUBPAGES || subpage == code.1;
    let codes: Vec<Code> = codes.into_iter().filter(of_subpage).collect();
    if codes.is_empty() || (page == ALL_PAGES && !matches!(subpage, 0 | ALL_SUBPAGES)) {
        return Err(Sense::invalid_cdb_field(3, Some(7)).into());
    }
    Ok(codes)
}

/// PARAMETER LIST LENGTH of MODE SELECT.
pub(crate) fn list_length(cdb: &[u8]) -> usize {
    if cdb[0] == 0x55 {
        field(cdb, 7..9) as usize
    } else {
        usize::from(cdb[4])
    }
}

fn header(ten: bool, device_specific: u8, long_block: bool, descriptor_length: usize) -> Vec<u8> {
    let length = descriptor_length as u8;
    if ten {
        vec![0, 0, 0, device_specific, u8::from(long_block), 0, 0, length]
    } else {
        vec![0, 0, device_specific, length]
    }
}

/// Short (8 bytes) or long LBA (16 bytes) mode parameter block descriptor (SBC-3 6.5.2).
fn block_descriptor(identity: &UnitIdentity, long: bool) -> Vec<u8> {
    let mut data = Vec::new();
    if long {
        data.extend(identity.blocks.to_be_bytes());
        data.extend([0; 4]);
    } else {
        data.extend(u32::try_from(identity.blocks).unwrap_or(u32::MAX).to_be_bytes());
    }
    data.extend(identity.block_size.to_be_bytes());
    data
}

/// A block descriptor may name the present capacity (or zero, "leave it") and the present block size.
fn check_block_descriptor(
    descriptor: &[u8],
    at: usize,
    long: bool,
    identity: &UnitIdentity,
) -> Result<(), Failure> {
    let wanted = if long { 16 } else { 8 };
    if descriptor.is_empty() {
        return Ok(());
    }
    if descriptor.len() != wanted {
        return Err(Sense::invalid_parameter(if at == 8 { 6 } else { 3 }, None).into());
    }
    let present = block_descriptor(identity, long);
    let count_width = wanted / 2;
    let leaves_capacity = descriptor[..count_width].iter().all(|byte| *byte == 0);
    if !leaves_capacity && descriptor[..count_width] != present[..count_width] {
        return Err(Sense::invalid_parameter(at as u16, None).into());
    }
    if descriptor[count_width..] != present[count_width..] {
        return Err(Sense::invalid_parameter((at + count_width) as u16, None).into());
    }
    Ok(())
}

/// The page with its PS bit. Pages without changeable bits are all zeros but for what they must say.
fn encode_page(code: Code, parameters: ModeParameters) -> Vec<u8> {
    let mut page = blank_page(code);
    match code {
        CACHING => page[2] = if parameters.write_cache { WCE } else { 0 },
        CONTROL => {
            // GLTSD: no log parameters are saved. QUEUE ALGORITHM MODIFIER 1h: unrestricted reordering.
            page[2] = 0x02 | if parameters.descriptor_sense { D_SENSE } else { 0 };
            page[3] = 0x10;
            page[4] = if parameters.write_protect { SWP } else { 0 };
        }
        // DEXCPT: no informational exceptions are reported.
        (0x1C, 0) => page[2] = 0x08,
        // THRESHOLD TYPE 000b: soft thresholds; armed by less of what is available (2h), by more of what is used (1h).
        PROVISIONING => {
            let Thresholds { available, used } = parameters.thresholds;
            page[AVAILABLE_AT..USED_AT].copy_from_slice(&encode_threshold(available, 0x02, 0x01));
            page[USED_AT..].copy_from_slice(&encode_threshold(used, 0x01, 0x02));
        }
        _ => {}
    }
    page
}

/// Header and zeros.
fn blank_page((code, subpage): Code) -> Vec<u8> {
    if subpage != 0 {
        let mut page = vec![0; 4 + usize::from(SUBPAGE_LENGTH)];
        page[..4].copy_from_slice(&[0x80 | SPF | code, subpage, 0, SUBPAGE_LENGTH]);
        return page;
    }
    let length = match code {
        0x02 => 0x0E,
        0x08 => 0x12,
        0x1A => 0x26,
        _ => 0x0A,
    };
    let mut page = vec![0; 2 + usize::from(length)];
    page[..2].copy_from_slice(&[0x80 | code, length]);
    page
}

fn encode_threshold(threshold: Threshold, arming: u8, resource: u8) -> [u8; 8] {
    let enabled = if threshold.enabled { ENABLED } else { 0 };
    let [a, b, c, d] = threshold.count.to_be_bytes();
    [enabled | arming, resource, 0, 0, a, b, c, d]
}

fn read_threshold(descriptor: &[u8]) -> Threshold {
    Threshold {
        enabled: descriptor[0] & ENABLED != 0,
        count: field(descriptor, 4..8) as u32,
    }
}

/// The page with ones where a bit can be changed.
fn changeable(code: Code) -> Vec<u8> {
    let mut page = blank_page(code);
    match code {
        CACHING => page[2] = WCE,
        CONTROL => {
            page[2] = D_SENSE;
            page[4] = SWP;
        }
        PROVISIONING => {
            for at in [AVAILABLE_AT, USED_AT] {
                page[at] = ENABLED;
                page[at + 4..at + 8].fill(0xFF);
            }
        }
        _ => {}
    }
    page
}

/// Every bit that cannot be changed must be as it is. PS is reserved in MODE SELECT and not looked at.
fn check_unchangeable(code: Code, page: &[u8], present: &[u8], at: usize) -> Result<(), Failure> {
    let changeable = changeable(code);
    let header = if code.1 == 0 { 2 } else { 4 };
    for index in 1..present.len() {
        let mask = if index < header { 0 } else { changeable[index] };
        let wrong = (page[index] ^ present[index]) & !mask;
        if wrong != 0 {
            let bit = 7 - wrong.leading_zeros() as u8;
            return Err(Sense::invalid_parameter((at + index) as u16, Some(bit)).into());
        }
    }
    Ok(())
}

fn read_changeable(code: Code, page: &[u8], wanted: &mut ModeParameters) {
    match code {
        CACHING => wanted.write_cache = page[2] & WCE != 0,
        CONTROL => {
            wanted.descriptor_sense = page[2] & D_SENSE != 0;
            wanted.write_protect = page[4] & SWP != 0;
        }
        PROVISIONING => {
            wanted.thresholds = Thresholds {
                available: read_threshold(&page[AVAILABLE_AT..USED_AT]),
                used: read_threshold(&page[USED_AT..]),
            };
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_commands::tests::{facts, identity};

    fn sense6(pages: ModePages, page: u8) -> Result<Vec<u8>, Failure> {
        let identity = identity();
        pages
            .sense(&[0x1A, 0, page, 0, 255, 0], &facts(&identity))
            .map(|answer| answer.data_in)
    }

    #[test]
    fn the_caching_page_in_all_its_values() {
        let pages = ModePages::default();
        let data = sense6(pages, 0x08).unwrap();
        assert_eq!(data[..12], [31, 0, 0x10, 8, 0, 0, 8, 0, 0, 0, 2, 0]);
        assert_eq!(
            data[12..],
            [0x88, 0x12, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(sense6(pages, 0x48).unwrap()[12..15], [0x88, 0x12, 4]);
        assert_eq!(sense6(pages, 0x4A).unwrap()[12..17], [0x8A, 0x0A, 4, 0, 8]);
        assert_eq!(sense6(pages, 0x0A).unwrap()[12..17], [0x8A, 0x0A, 2, 0x10, 0]);
        assert_eq!(
            sense6(pages, 0x03),
            Err(Sense::invalid_cdb_field(2, Some(5)).into())
        );
    }

    #[test]
    fn ten_byte_sense_gives_all_pages_and_a_long_descriptor() {
        let identity = identity();
        let cdb = [0x5A, 0x10, 0x3F, 0xFF, 0, 0, 0, 1, 0, 0];
        let data = ModePages::default()
            .sense(&cdb, &facts(&identity))
            .unwrap()
            .data_in;
        assert_eq!(data[..8], [0, 210, 0, 0x10, 1, 0, 0, 16]);
        assert_eq!(data[8..24], [0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        assert_eq!(data[24..26], [0x81, 0x0A]);
        assert_eq!(data.len(), 24 + 12 + 16 + 12 + 20 + 12 + 32 + 40 + 12 + 32);
    }

    #[test]
    fn subpages_are_asked_for_by_number_all_or_none() {
        let identity = identity();
        let ask = |page, subpage| {
            let cdb = [0x5A, 0x08, page, subpage, 0, 0, 0, 1, 0, 0];
            let answer = ModePages::default().sense(&cdb, &facts(&identity));
            answer.map(|answer| answer.data_in[8..].to_vec())
        };
        assert_eq!(ask(0x0A, 1).unwrap()[..4], [0xCA, 1, 0, 0x1C]);
        assert_eq!(ask(0x0A, 0xFF).unwrap().len(), 12 + 32);
        assert_eq!(ask(0x3F, 0).unwrap().len(), 12 + 16 + 12 + 20 + 12 + 40 + 12);
        for (page, subpage) in [(0x0A, 5), (0x3F, 1), (0x3F, 2)] {
            assert_eq!(
                ask(page, subpage),
                Err(Sense::invalid_cdb_field(3, Some(7)).into())
            );
        }
        let thick = UnitIdentity {
            thin: false,
            ..identity.clone()
        };
        let cdb = [0x5A, 0x08, 0x1C, 2, 0, 0, 0, 1, 0, 0];
        assert_eq!(
            ModePages::default().sense(&cdb, &facts(&thick)),
            Err(Sense::invalid_cdb_field(3, Some(7)).into())
        );
    }

    #[test]
    fn thresholds_are_enabled_and_counted_but_keep_their_resources() {
        let identity = identity();
        let mut pages = ModePages::default();
        let mut list = vec![0; 8];
        list.extend(encode_page(PROVISIONING, ModeParameters::default()));
        assert_eq!(list[8..12], [0xDC, 2, 0, 0x1C]);
        assert_eq!(list[24..28], [0x02, 0x01, 0, 0], "available, armed by less");
        assert_eq!(list[32..36], [0x01, 0x02, 0, 0], "used, armed by more");
        list[24] |= ENABLED;
        list[31] = 40;
        let cdb = [0x55, 0x11, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
        assert!(pages.select(&cdb, &list, &identity).unwrap().changed);
        let available = Threshold {
            enabled: true,
            count: 40,
        };
        assert_eq!(pages.saved.thresholds.available, available);
        assert!(!pages.saved.thresholds.used.enabled);
        list[25] = 2;
        assert_eq!(
            pages.select(&cdb, &list, &identity),
            Err(Sense::invalid_parameter(25, Some(1)).into())
        );
        let thick = UnitIdentity {
            thin: false,
            ..identity
        };
        assert_eq!(
            pages.select(&cdb, &list, &thick),
            Err(Sense::invalid_parameter(8, None).into())
        );
    }

    #[test]
    fn select_changes_three_bits_and_refuses_the_rest() {
        let identity = identity();
        let mut pages = ModePages::default();
        let mut list = vec![0, 0, 0, 0];
        list.extend(encode_page(CONTROL, ModeParameters::default()));
        list[6] |= D_SENSE;
        list[8] |= SWP;
        let cdb = [0x15, 0x11, 0, 0, list.len() as u8, 0];
        let selected = pages.select(&cdb, &list, &identity).unwrap();
        assert_eq!(
            selected,
            Selected {
                changed: true,
                save: true
            }
        );
        assert_eq!(pages.current, pages.saved);
        assert_eq!(pages.sense_format(), SenseFormat::Descriptor);
        assert_eq!(sense6(pages, 0x0A).unwrap()[2], 0x90);

        list[7] = 0x20;
        let before = pages;
        assert_eq!(
            pages.select(&cdb, &list, &identity),
            Err(Sense::invalid_parameter(7, Some(5)).into())
        );
        assert_eq!(pages, before);
        assert_eq!(
            pages.select(&cdb, &list[..8], &identity),
            Err(Sense::illegal(sense_codes::PARAMETER_LIST_LENGTH_ERROR).into())
        );
    }
}
