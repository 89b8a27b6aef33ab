//! Arguments of what is about other systems.

use std::path::PathBuf;

use clap::Subcommand;
use scsi_model::control::SystemId;

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make an authority: DIR/ca.pem, which every system needs, and DIR/ca.key, which none does.
    Init {
        /// Where; made if it does not exist.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// How long it is good.
        #[arg(long, default_value_t = 7300, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Make a certificate for a system: DIR/SYSTEM-ID.pem and DIR/SYSTEM-ID.key.
    Issue {
        /// Where the authority is.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The system's id, as in its configuration.
        #[arg(value_name = "SYSTEM-ID", value_parser = system)]
        system: SystemId,
        /// How long it is good.
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
}

fn system(text: &str) -> Result<SystemId, String> {
    SystemId::new(text).map_err(|error| error.to_string())
}
