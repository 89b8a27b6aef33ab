//! What is about other systems.

use admin_api::LinkDocument;

use crate::{
    args::PkiCommand,
    failure::Failure,
    output::{Output, table},
    pki,
    system::System,
};

pub(super) fn link(system: &mut System, output: Output) -> Result<(), Failure> {
    let document: LinkDocument = system.admin("link")?.get("/v1/link")??;
    output.print(&document, table::link)
}

/// Needs no daemon.
pub(super) fn pki(output: Output, command: &PkiCommand) -> Result<(), Failure> {
    let failed = |error: pki::PkiError| Failure::Failed(error.to_string());
    match command {
        PkiCommand::Init { directory, days } => {
            let made = pki::init(directory, *days).map_err(failed)?;
            output.print(&made, |made| {
                format!(
                    "{} is for every system; {} stays here\nnext: holdfast pki issue {} SYSTEM-ID",
                    made.cert.display(),
                    made.key.display(),
                    directory.display()
                )
            })
        }
        PkiCommand::Issue {
            directory,
            system,
            days,
        } => {
            let made = pki::issue(directory, system, *days).map_err(failed)?;
            output.print(&made, |made| {
                format!(
                    "for {system}:\n\n[link]\nlisten = \"ADDRESS:3261\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"",
                    made.cert.display(),
                    made.key.display(),
                    made.ca.display()
                )
            })
        }
    }
}
