//! Arguments of `generation`.

use admin_api::Period;
use clap::{Args, Subcommand};

use super::{
    names::VolumeName,
    pairs::{How, RestoreOptions, Wait},
};

#[derive(Debug, Subcommand)]
pub(crate) enum GenerationCommand {
    /// Make an image of P, or of several at the same instant, on a mirror that is free.
    Create(CreateArgs),
    /// List the generations.
    List {
        /// Only those of this standard.
        #[arg(value_name = "P")]
        primary: Option<VolumeName>,
    },
    /// Copy the image of P back to it: `restore` on the generation's mirror.
    Restore(GenerationRestoreArgs),
    /// Drop a generation that is not in use.
    Delete {
        /// Number or name.
        #[arg(value_name = "GEN")]
        generation: String,
    },
    /// Make and drop generations on a schedule.
    #[command(subcommand)]
    Rule(RuleCommand),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The standards.
    #[arg(value_name = "P", required = true)]
    pub(crate) primaries: Vec<VolumeName>,
    /// A name of its own; no rule drops it either way.
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerationRestoreArgs {
    /// The standard.
    #[arg(value_name = "P")]
    pub(crate) primary: VolumeName,
    /// Number or name.
    #[arg(value_name = "GEN")]
    pub(crate) generation: String,
    /// Every standard of the generation, as one group.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) options: RestoreOptions,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Make one every so often, and keep the newest. Replaces the rule of the same standards.
    Set(RuleSetArgs),
    /// Show the rules.
    Show,
    /// End the rule that P is in. Its generations stay.
    Clear {
        /// A standard.
        #[arg(value_name = "P")]
        primary: VolumeName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RuleSetArgs {
    /// The standards: one image of all of them each time.
    #[arg(value_name = "P", required = true)]
    pub(crate) primaries: Vec<VolumeName>,
    /// Time from one to the next, like 15m, 1h or 1d.
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Period,
    /// The newest so many stay.
    #[arg(long, value_name = "N")]
    pub(crate) keep: u32,
    /// Older ones go, but never the newest.
    #[arg(long, value_name = "TIME")]
    pub(crate) max_age: Option<Period>,
}
