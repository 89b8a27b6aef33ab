//! The command line as it is typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use thiserror::Error;

/// Load generator for iSCSI targets, a target that does the least a target can do, and comparisons of both with Holdfast.
#[derive(Debug, Parser)]
#[command(
    name = "iscsi-bench",
    version,
    about,
    max_term_width = 110,
    args_override_self = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load a target, print one JSON line: 0 fine, 1 could not run, 3 errors or bad data.
    Load(LoadArguments),
    /// Log in and out again and again, print one JSON line.
    Login(LoginArguments),
    /// Memory and CPU time of a target with idle sessions, one JSON line.
    Idle(IdleArguments),
    /// The null target: no authentication, no task management, one LUN (0), 512-byte blocks.
    Floor(FloorArguments),
    /// Speed of the CRC32C used.
    Crc,
    /// Holdfast beside the floor and, where installed, tgt; a Markdown table.
    Compare(CompareArguments),
    /// Eight questions about pairs and scale, with daemons of its own.
    Cost(CostArguments),
    /// Three questions about remote pairs, with two daemons of its own.
    Remote(RemoteArguments),
}

/// Where to log in, and what to offer there.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// Address and port of the target.
    #[arg(long, default_value = "127.0.0.1:3260")]
    pub(crate) addr: String,
    /// Name of the target.
    #[arg(long, default_value = "iqn.2024-01.bench:floor")]
    pub(crate) iqn: String,
    /// Name to log in by (no authentication).
    #[arg(long, default_value = "iqn.2024-01.bench:iload")]
    pub(crate) initiator: String,
    #[arg(long, default_value_t = 0)]
    pub(crate) lun: u8,
    /// ImmediateData offered.
    #[arg(long, value_enum, value_name = "YES|NO", default_value_t = YesNo::Yes)]
    pub(crate) immediate: YesNo,
    /// InitialR2T offered.
    #[arg(long, value_enum, value_name = "YES|NO", default_value_t = YesNo::No)]
    pub(crate) initial_r2t: YesNo,
    /// FirstBurstLength offered.
    #[arg(long, value_name = "BYTES", default_value = "256k", value_parser = bytes_of_a_pdu)]
    pub(crate) first_burst: usize,
    /// MaxBurstLength offered.
    #[arg(long, value_name = "BYTES", default_value = "1m", value_parser = bytes_of_a_pdu)]
    pub(crate) max_burst: usize,
    /// MaxRecvDataSegmentLength declared.
    #[arg(long, value_name = "BYTES", default_value = "256k", value_parser = bytes_of_a_pdu)]
    pub(crate) mrdsl: usize,
    /// CRC32C offered without alternative; the answer is in the output: check it.
    #[arg(long, value_enum, default_value_t = Digests::None)]
    pub(crate) digest: Digests,
}

/// What the commands of a load are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Commands in flight for each session; the target's command window is honoured.
    #[arg(long, value_name = "DEPTH", default_value_t = 1, value_parser = queue_depth)]
    pub(crate) qd: usize,
    /// Bytes of a command: 4k, 1m.
    #[arg(long, value_name = "BYTES", default_value = "4k", value_parser = command_length)]
    pub(crate) bs: usize,
    /// Sequential, every session in its own stretch; else uniformly random.
    #[arg(long)]
    pub(crate) seq: bool,
    /// Percent of reads; 0 is all writes.
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    pub(crate) read: u64,
    /// Use only so many bytes of the LUN; 0 is all.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes)]
    pub(crate) span: u64,
    /// Where chance begins, and what verified content is made of.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write a content that is a function of the address over the whole span first, then check every read; writes of the mix write the
    /// same content. Use a small --span.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Don't verify received digests (takes the cost off the generator's core).
    #[arg(long)]
    pub(crate) no_check_digest: bool,
    /// Copy read payload out of the kernel instead of dropping it there (MSG_TRUNC).
    #[arg(long)]
    pub(crate) no_discard: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Sessions of one connection each.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) sessions: u32,
    /// Threads that the sessions are spread over.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) threads: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(crate) time: f64,
    /// Seconds of load before that.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub(crate) warm: f64,
    /// Write the whole span once before the load.
    #[arg(long)]
    pub(crate) fill: bool,
    /// Processes whose CPU time is measured.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Print what was negotiated to stderr.
    #[arg(long)]
    pub(crate) describe: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    #[command(flatten)]
    pub(crate) access: Access,
    /// Threads that log in at the same time.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) threads: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(crate) time: f64,
    /// Processes whose CPU time is measured.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct IdleArguments {
    #[command(flatten)]
    pub(crate) access: Access,
    /// Sessions that do nothing.
    #[arg(long, default_value_t = 100)]
    pub(crate) sessions: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) time: f64,
    /// Processes whose memory and CPU time are measured.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3299")]
    pub(crate) addr: String,
    #[arg(long, value_enum, default_value_t = Engine::Epoll)]
    pub(crate) engine: Engine,
    #[arg(long, value_enum, default_value_t = Back::Mem)]
    pub(crate) back: Back,
    /// Bytes of the LUN.
    #[arg(long, value_name = "BYTES", default_value = "1g", value_parser = whole_blocks)]
    pub(crate) size: u64,
    /// What the LUN is kept in.
    #[arg(long, required_if_eq("back", "pread"))]
    pub(crate) file: Option<PathBuf>,
    /// Ends by itself after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 600)]
    pub(crate) seconds: u64,
    /// Engines of epoll: keep looking for so many microseconds after the last event before sleeping.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pub(crate) spin_us: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    #[command(flatten)]
    pub(crate) places: Places,
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u64,
    /// Seconds of one load.
    #[arg(long, value_name = "SECONDS", default_value = "0.7", value_parser = seconds)]
    pub(crate) time: f64,
    /// Some of the parts.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "load,sessions,direct,copies"
    )]
    pub(crate) only: Vec<Part>,
    /// Exit with 1 when a figure is more than 8 % worse than in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) gate: Option<PathBuf>,
    /// Write what was measured as accepted.
    #[arg(long, value_name = "FILE")]
    pub(crate) accept: Option<PathBuf>,
}

/// Of `cost` and `remote`.
#[derive(Debug, Args)]
pub(crate) struct Effort {
    #[command(flatten)]
    pub(crate) places: Places,
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: u64,
    /// Seconds of one load.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) time: f64,
}

#[derive(Debug, Args)]
pub(crate) struct CostArguments {
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// Some of the questions.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5,6,7,8", value_parser = value_parser!(u8).range(1..=8))]
    pub(crate) only: Vec<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoteArguments {
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// Some of the questions.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5", value_parser = value_parser!(u8).range(1..=5))]
    pub(crate) only: Vec<u8>,
    /// Differences that a resync moves.
    #[arg(long, value_name = "BYTES", default_value = "1g", value_parser = bytes)]
    pub(crate) size: u64,
}

/// Where a comparison works.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// The directory of holdfastd.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/release")]
    pub(crate) product: PathBuf,
    /// A directory in memory.
    #[arg(long, value_name = "DIRECTORY", default_value = "/dev/shm")]
    pub(crate) dir: PathBuf,
    /// A directory on a disk.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/tmp")]
    pub(crate) disk: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Digests {
    None,
    Header,
    Data,
    Both,
}

/// What drives the floor's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// One thread, all answers of one receive in one `sendmsg`.
    Epoll,
    /// One system call for each answer.
    EpollUnbatched,
    /// One blocking thread per connection.
    Threads,
    /// Current-thread runtime, one task per connection.
    Tokio,
    /// Two workers.
    TokioMulti,
    /// As `tokio`, and every command also goes through the blocking pool.
    TokioHandoff,
}

/// What the floor keeps its blocks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Back {
    /// Constant data, writes dropped.
    Null,
    /// Anonymous memory, or --file mapped shared.
    Mem,
    /// One `pread` or `pwrite` on --file for each command.
    Pread,
}

/// A part of `compare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// CPU time of the target per I/O beside floor and tgt; digests; pairs; latencies.
    Load,
    /// System calls of a read, logins, memory of idle sessions.
    Sessions,
    /// O_DIRECT beside tgt's `aio`.
    Direct,
    /// Background copies.
    Copies,
}

impl YesNo {
    pub(crate) fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl Digests {
    pub(crate) fn of_headers(self) -> bool {
        matches!(self, Self::Header | Self::Both)
    }

    pub(crate) fn of_data(self) -> bool {
        matches!(self, Self::Data | Self::Both)
    }
}

/// Of sessions that the comparisons make themselves: as if nothing had been typed.
impl Default for Access {
    fn default() -> Self {
        #[derive(Parser)]
        struct Nothing {
            #[command(flatten)]
            access: Access,
        }
        Nothing::parse_from(["iscsi-bench"]).access
    }
}

impl Default for Shape {
    fn default() -> Self {
        #[derive(Parser)]
        struct Nothing {
            #[command(flatten)]
            shape: Shape,
        }
        Nothing::parse_from(["iscsi-bench"]).shape
    }
}

/// What a number on the command line cannot be.
#[derive(Debug, Error, PartialEq, Eq)]
enum NumberError {
    #[error("a number of bytes: digits, and k, m or g for their multiples of 1024")]
    NotBytes,
    #[error("more bytes than 64 bits can count")]
    TooLarge,
    #[error("between 512 and 16777215 bytes, as RFC 7143 has it")]
    NotOfAPdu,
    #[error("whole blocks of 512 bytes, at least one")]
    NotBlocks,
    #[error("at most 64 MiB, and whole blocks of 512 bytes")]
    NotOfACommand,
    #[error("between 1 and 65536 commands")]
    NotADepth,
    #[error("seconds: a number that is not negative, and below 10^6")]
    NotSeconds,
}

/// `4096`, `4k`, `1m`, `16g`.
fn bytes(text: &str) -> Result<u64, NumberError> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotBytes);
    }
    let number: u64 = digits.parse().map_err(|_| NumberError::TooLarge)?;
    number.checked_mul(1 << shift).ok_or(NumberError::TooLarge)
}

/// RFC 7143 13.12 to 13.14: 512 to 2^24-1. The receive buffer is as long.
fn bytes_of_a_pdu(text: &str) -> Result<usize, NumberError> {
    match bytes(text)? {
        length @ 512..=0xff_ffff => Ok(length as usize),
        _ => Err(NumberError::NotOfAPdu),
    }
}

fn whole_blocks(text: &str) -> Result<u64, NumberError> {
    match bytes(text)? {
        length if length >= 512 && length % 512 == 0 => Ok(length),
        _ => Err(NumberError::NotBlocks),
    }
}

fn command_length(text: &str) -> Result<usize, NumberError> {
    match bytes(text)? {
        length @ 512..=0x400_0000 if length % 512 == 0 => Ok(length as usize),
        _ => Err(NumberError::NotOfACommand),
    }
}

fn queue_depth(text: &str) -> Result<usize, NumberError> {
    match text.parse() {
        Ok(depth @ 1..=65536) => Ok(depth),
        _ => Err(NumberError::NotADepth),
    }
}

fn seconds(text: &str) -> Result<f64, NumberError> {
    match text.parse() {
        Ok(seconds) if (0.0..1e6).contains(&seconds) => Ok(seconds),
        _ => Err(NumberError::NotSeconds),
    }
}

#[cfg(test)]
mod tests;
