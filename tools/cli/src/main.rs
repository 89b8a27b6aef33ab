//! holdfast: the command line.

mod args;
mod commands;
mod failure;
mod output;
mod pki;
mod system;
mod transport;

use std::{io::ErrorKind, process::ExitCode};

use clap::Parser as _;

use crate::{args::Args, failure::Failure, output::Output};

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output { json: args.json };
    match commands::run(args, output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}
