//! What each command does.

mod administration;
mod backup;
mod deep;
mod far_restore;
mod generations;
mod hooks;
mod interrupt;
mod link;
mod pairs;
mod reports;
mod verify;
mod waiting;

use clap::CommandFactory as _;

use crate::{
    args::{Args, Command},
    failure::Failure,
    output::Output,
    system::System,
};

/// Does what the command line says.
pub(crate) fn run(args: Args, output: Output) -> Result<(), Failure> {
    let Args { way, command, .. } = args;
    if let Command::Completion { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "holdfast", &mut script);
        return Output::line(&String::from_utf8_lossy(&script));
    }
    if let Command::Pki(command) = &command {
        return link::pki(output, command);
    }
    let mut system = System::reach(&way)?;
    let system = &mut system;
    match command {
        Command::Setup => reports::setup(system, output),
        Command::Establish(args) => pairs::establish(system, output, &args),
        Command::Split(args) => pairs::split(system, output, &args),
        Command::Backup(args) => backup::backup(system, output, &args),
        Command::RestoreFiles(args) => far_restore::files(system, output, &args),
        Command::RestoreVolume(args) => far_restore::volume(system, output, &args),
        Command::Restore(args) => pairs::restore(system, output, &args),
        Command::Config(args) => pairs::config(system, output, &args),
        Command::Cancel(args) => pairs::cancel(system, output, &args),
        Command::Swap(args) => pairs::swap(system, output, &args),
        Command::Suspend(args) => pairs::suspend(system, output, &args),
        Command::OnLinkLoss(args) => pairs::on_link_loss(system, output, &args),
        Command::Query(args) => reports::query(system, output, &args),
        Command::Verify(args) => verify::verify(system, output, &args),
        Command::Pending(args) => reports::pending(system, output, &args),
        Command::Table { volume } => reports::table(system, output, &volume),
        Command::Group(command) => pairs::group(system, output, &command),
        Command::Generation(command) => generations::run(system, output, &command),
        Command::Volume(command) => administration::volume(system, output, &command),
        Command::Map(args) => administration::map(system, output, &args),
        Command::Unmap(args) => administration::unmap(system, output, &args),
        Command::Sessions => administration::sessions(system, output),
        Command::Events(args) => administration::events(system, output, &args),
        Command::Reload(args) => administration::reload(system, output, &args),
        Command::Link => link::link(system, output),
        Command::Completion { .. } | Command::Pki(_) => Ok(()),
    }
}
