//! holdfastd: the Holdfast daemon.

mod admin;
mod config;
mod difference;
mod fresh;
mod generations;
mod greeting;
mod links;
mod lock;
mod queues;
mod redirecting;
mod reload;
mod runtime;
mod serve;
mod service;
mod systemd;
mod wiring;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::service::Source;

/// iSCSI target with pairs of volumes: establish, split, restore.
///
/// Without --config it serves a small default out of ./holdfast-data, on loopback only. HOLDFAST__SECTION__KEY variables
/// override scalars of the configuration; RUST_LOG sets what is logged. SIGHUP reads the configuration again, SIGTERM and
/// SIGINT end it after everything acknowledged is stable, a second one at once.
#[derive(Debug, Parser)]
#[command(name = "holdfastd", version, max_term_width = 110)]
struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check the configuration: exits 0 when it is good, else 1 with all that is wrong.
    #[arg(long)]
    check: bool,
    /// Log JSON lines.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfastd: {}", told_once(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let source = Source { file: args.config };
    let config = source.load()?;
    if args.check {
        println!("{}: good", config.source);
        return Ok(());
    }
    log(args.log_json);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.system.workers > 0 {
        runtime.worker_threads(config.system.workers);
    }
    runtime
        .enable_all()
        .build()?
        .block_on(serve::serve(source, config))
}

/// An error with its causes, but for those that what comes before has said already.
fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// The log goes to standard error; standard output is for what users and scripts read.
fn log(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
    }
}
