//! LOG SENSE and LOG SELECT (SPC-4 6.7, 6.8, 7.3; SBC-3 6.4).
//!
//! All parameters are in the binary list format, so that the page control says nothing about them. What a page
//! needs from outside comes as [`LogFacts`]. LOG SELECT sets counters to zero; no parameter can be given a value.

use crate::{
    big_endian::field,
    failure::Failure,
    logical_block_provisioning::{Space, threshold_sets},
    plan::Answer,
    sense::Sense,
};

const SUPPORTED: u8 = 0x00;
const PROVISIONING: u8 = 0x0C;
const TEMPERATURE: u8 = 0x0D;
const START_STOP: u8 = 0x0E;
const SELF_TEST: u8 = 0x10;
const BACKGROUND_SCAN: u8 = 0x15;
const STATISTICS: u8 = 0x19;
const EXCEPTIONS: u8 = 0x2F;
pub(crate) const PAGES: [u8; 8] = [
    SUPPORTED,
    PROVISIONING,
    TEMPERATURE,
    START_STOP,
    SELF_TEST,
    BACKGROUND_SCAN,
    STATISTICS,
    EXCEPTIONS,
];

/// No valid temperature.
const NO_TEMPERATURE: u8 = 0xFF;

/// What the counters of page 19h say of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoStatistics {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Bytes sent to initiators.
    pub read_bytes: u64,
    /// Bytes received from initiators.
    pub written_bytes: u64,
}

impl IoStatistics {
    /// What was added since `then`.
    #[must_use]
    pub const fn since(self, then: Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(then.reads),
            writes: self.writes.saturating_sub(then.writes),
            read_bytes: self.read_bytes.saturating_sub(then.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(then.written_bytes),
        }
    }
}

/// What the shell knows about a unit at the moment of a LOG SENSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogFacts {
    /// Bytes per logical block.
    pub block_size: u32,
    /// Space of a thin unit; `None` where there is none to tell of.
    pub space: Option<Space>,
    /// Commands and bytes since the last reset.
    pub statistics: IoStatistics,
    /// Since the unit was started.
    pub minutes: u32,
}

/// A LOG SENSE that may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRequest {
    page: u8,
    list_subpages: bool,
    /// PARAMETER POINTER: parameters from that code on.
    pointer: u16,
    allocation_length: u16,
}

/// Reads a LOG SENSE.
pub(crate) fn parse_sense(cdb: &[u8]) -> Result<LogRequest, Failure> {
    let (page, list_subpages) = page_of(cdb)?;
    Ok(LogRequest {
        page,
        list_subpages,
        pointer: field(cdb, 5..7) as u16,
        allocation_length: field(cdb, 7..9) as u16,
    })
}

/// What a LOG SELECT sets to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogReset {
    /// Page 0Eh.
    pub(crate) start_stop: bool,
    /// Page 19h.
    pub(crate) statistics: bool,
}

impl LogReset {
    /// Is there anything that the others must hear of (6h/2Ah/02h)?
    pub(crate) const fn changes(self) -> bool {
        self.start_stop || self.statistics
    }
}

/// Reads a LOG SELECT (SPC-4 6.7). Without a list it resets one page, or with page 00h all: with PCR, or with PC 11b or
/// 01b, for the default and the saved values are both zero. Thresholds (PC 10b and 00b) there are none.
pub(crate) fn parse_select(cdb: &[u8]) -> Result<LogReset, Failure> {
    let (page, _) = page_of(cdb)?;
    let (reset, control) = (cdb[1] & 0x02 != 0, cdb[2] >> 6);
    if field(cdb, 7..9) != 0 {
        if reset {
            return Err(Sense::invalid_cdb_field(1, Some(1)).into());
        }
        return Err(Sense::invalid_cdb_field(7, Some(7)).into());
    }
    let clears = reset || control & 0x01 != 0;
    let covers = |code: u8| clears && (page == SUPPORTED || page == code);
    Ok(LogReset {
        start_stop: covers(START_STOP),
        statistics: covers(STATISTICS),
    })
}

fn page_of(cdb: &[u8]) -> Result<(u8, bool), Failure> {
    let (page, subpage) = (cdb[2] & 0x3F, cdb[3]);
    if !PAGES.contains(&page) {
        return Err(Sense::invalid_cdb_field(2, Some(5)).into());
    }
    let list_subpages = page == SUPPORTED && subpage == 0xFF;
    if subpage != 0 && !list_subpages {
        return Err(Sense::invalid_cdb_field(3, Some(7)).into());
    }
    Ok((page, list_subpages))
}

/// Answers a LOG SENSE.
pub(crate) fn sense(request: LogRequest, facts: &LogFacts, stops: u32) -> Result<Answer, Failure> {
    let page = request.page;
    let served = PAGES
        .into_iter()
        .filter(|code| *code != PROVISIONING || facts.space.is_some());
    let body = match page {
        SUPPORTED if request.list_subpages => served.flat_map(|page| [page, 0]).collect(),
        SUPPORTED => served.collect(),
        PROVISIONING if facts.space.is_none() => return Err(Sense::invalid_cdb_field(2, Some(5)).into()),
        _ => encode(&parameters(page, facts, stops), request.pointer),
    };
    if (page == SUPPORTED && request.pointer != 0) || body.is_empty() {
        return Err(Sense::invalid_cdb_field(5, Some(7)).into());
    }
    let mut data = vec![
        page | u8::from(request.list_subpages) << 6,
        if request.list_subpages { 0xFF } else { 0 },
    ];
    data.extend((body.len() as u16).to_be_bytes());
    data.extend(body);
    Ok(Answer::data(data, request.allocation_length.into()))
}

/// The parameters of a page, ascending.
fn parameters(page: u8, facts: &LogFacts, stops: u32) -> Vec<(u16, Vec<u8>)> {
    match page {
        PROVISIONING => provisioning(facts.space),
        // The temperature, and the highest that would be good.
        TEMPERATURE => vec![(0, vec![0, NO_TEMPERATURE]), (1, vec![0, NO_TEMPERATURE])],
        START_STOP => vec![
            (1, b"      ".to_vec()),
            (2, b"      ".to_vec()),
            (3, vec![0; 4]),
            (4, stops.to_be_bytes().to_vec()),
        ],
        SELF_TEST => (1..=20).map(|code| (code, vec![0; 16])).collect(),
        // No scan has ever been active.
        BACKGROUND_SCAN => {
            let mut status = facts.minutes.to_be_bytes().to_vec();
            status.resize(12, 0);
            vec![(0, status)]
        }
        STATISTICS => statistics(facts),
        _ => vec![(0, vec![0, 0, NO_TEMPERATURE, 0])],
    }
}

/// What is left belongs to all units of the store (SCOPE 2h), what is used to this one (1h).
fn provisioning(space: Option<Space>) -> Vec<(u16, Vec<u8>)> {
    let resource = |bytes: u64, scope: u8| {
        let mut value = threshold_sets(bytes).to_be_bytes().to_vec();
        value.extend([scope, 0, 0, 0]);
        value
    };
    let of = |space: Space| {
        vec![
            (0x0001, resource(space.available, 0x02)),
            (0x0002, resource(space.used, 0x01)),
        ]
    };
    space.map(of).unwrap_or_default()
}

/// General Statistics and Performance (SPC-4 7.3.8). Times are not measured: the intervals stay zero, counted in microseconds.
fn statistics(facts: &LogFacts) -> Vec<(u16, Vec<u8>)> {
    let blocks = |bytes: u64| bytes / u64::from(facts.block_size.max(1));
    let counted = facts.statistics;
    let counters = [
        counted.reads,
        counted.writes,
        blocks(counted.written_bytes),
        blocks(counted.read_bytes),
        0,
        0,
        0,
        0,
    ];
    vec![
        (0x0001, counters.into_iter().flat_map(u64::to_be_bytes).collect()),
        (0x0003, vec![0, 0, 0, 6, 0, 0, 0, 1]),
    ]
}

/// Parameters in the binary list format.
fn encode(parameters: &[(u16, Vec<u8>)], pointer: u16) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, value) in parameters.iter().filter(|(code, _)| *code >= pointer) {
        body.extend(code.to_be_bytes());
        body.extend([0x03, value.len() as u8]);
        body.extend(value);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIN: LogFacts = LogFacts {
        block_size: 512,
        space: Some(Space {
            available: 5 << 20,
            used: 3 << 20,
        }),
        statistics: IoStatistics {
            reads: 7,
            writes: 9,
            read_bytes: 1024,
            written_bytes: 4096,
        },
        minutes: 90,
    };

    fn ask(page: u8, pointer: u8, facts: &LogFacts) -> Result<Vec<u8>, Failure> {
        let request = parse_sense(&[0x4D, 0, 0x40 | page, 0, 0, 0, pointer, 2, 0, 0])?;
        sense(request, facts, 3).map(|answer| answer.data_in)
    }

    #[test]
    fn the_pages_are_there() {
        let listed = ask(0, 0, &THIN).unwrap();
        assert_eq!(listed, [0, 0, 0, 8, 0, 0x0C, 0x0D, 0x0E, 0x10, 0x15, 0x19, 0x2F]);
        assert!(listed[4..].iter().all(|page| ask(*page, 0, &THIN).is_ok()));
        assert_eq!(
            ask(0x2F, 0, &THIN).unwrap(),
            [0x2F, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0xFF, 0]
        );
        assert_eq!(ask(0x10, 0, &THIN).unwrap().len(), 404);
        assert_eq!(ask(0x10, 20, &THIN).unwrap().len(), 24);
        let nothing_there = Err(Sense::invalid_cdb_field(5, Some(7)).into());
        assert_eq!(ask(0x10, 21, &THIN), nothing_there);
        assert_eq!(
            ask(0x3E, 0, &THIN),
            Err(Sense::invalid_cdb_field(2, Some(5)).into())
        );
        assert_eq!(ask(0x0E, 4, &THIN).unwrap()[8..], [0, 0, 0, 3]);
        assert_eq!(ask(0x15, 0, &THIN).unwrap()[8..12], [0, 0, 0, 90]);
    }

    #[test]
    fn subpages_are_listed_in_pairs() {
        let request = parse_sense(&[0x4D, 0, 0x40, 0xFF, 0, 0, 0, 2, 0, 0]).unwrap();
        let data = sense(request, &THIN, 0).unwrap().data_in;
        assert_eq!(data[..8], [0x40, 0xFF, 0, 16, 0, 0, 0x0C, 0]);
        assert_eq!(
            parse_sense(&[0x4D, 0, 0x59, 1, 0, 0, 0, 2, 0, 0]),
            Err(Sense::invalid_cdb_field(3, Some(7)).into())
        );
    }

    #[test]
    fn space_is_told_in_threshold_sets_where_there_is_any() {
        assert_eq!(
            ask(0x0C, 0, &THIN).unwrap()[4..],
            [
                0, 1, 3, 8, 0, 0, 0, 5, 2, 0, 0, 0, 0, 2, 3, 8, 0, 0, 0, 3, 1, 0, 0, 0
            ]
        );
        let thick = LogFacts { space: None, ..THIN };
        assert!(!ask(0, 0, &thick).unwrap()[4..].contains(&0x0C));
        assert_eq!(
            ask(0x0C, 0, &thick),
            Err(Sense::invalid_cdb_field(2, Some(5)).into())
        );
    }

    #[test]
    fn statistics_count_commands_and_blocks() {
        let data = ask(0x19, 0, &THIN).unwrap();
        assert_eq!(data[4..8], [0, 1, 3, 64]);
        let counters: Vec<u8> = data[8..40].chunks(8).map(|counter| counter[7]).collect();
        assert_eq!(counters, [7, 9, 8, 2]);
        assert_eq!(data[72..], [0, 3, 3, 8, 0, 0, 0, 6, 0, 0, 0, 1]);
    }

    #[test]
    fn log_select_resets_one_page_or_all() {
        let select = |flags, page, length| parse_select(&[0x4C, flags, page, 0, 0, 0, 0, 0, length, 0]);
        let all = LogReset {
            start_stop: true,
            statistics: true,
        };
        assert_eq!(select(2, 0, 0), Ok(all));
        assert_eq!(
            select(0, 0xC0 | 0x19, 0),
            Ok(LogReset {
                start_stop: false,
                statistics: true
            })
        );
        assert_eq!(select(0, 0x80 | 0x19, 0), Ok(LogReset::default()));
        assert_eq!(select(2, 0, 4), Err(Sense::invalid_cdb_field(1, Some(1)).into()));
        assert_eq!(select(0, 0, 4), Err(Sense::invalid_cdb_field(7, Some(7)).into()));
        assert_eq!(
            select(2, 0x3E, 0),
            Err(Sense::invalid_cdb_field(2, Some(5)).into())
        );
    }
}
