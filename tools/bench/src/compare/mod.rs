//! `iscsi-bench compare`: the product, the floor and, where installed, tgt, interleaved in one run.
//!
//! Each server gets a sparse file of its own in the same directory (tmpfs unless `--dir` says otherwise), is pinned to CPU 0
//! and loaded from CPU 1. The order is shuffled inside every round; the figures are medians over the rounds. What
//! holds on a shared machine is the CPU time of the target per I/O, and of that the ratio to the floor F (`floor
//! --engine tokio --back pread`) and to tgt T (rdwr) of the same run.
//!
//! Every figure is such that less is better, so that one rule serves for goals and for the gate (`--gate`, [`gate`]).

mod copies;
mod direct;
mod gate;
mod machine;
mod servers;
mod sessions;
mod workloads;

use std::{fs, path::PathBuf, process::ExitCode};

use crate::{
    arguments::{CompareArguments, Part},
    clock::now_ns,
};
use gate::Figure;
use servers::Server;

pub(crate) use holdfast_tests::free_port;

/// Where to work, and how much.
struct Plan {
    /// In memory.
    dir: PathBuf,
    /// On a disk.
    disk: PathBuf,
    /// The directory of holdfastd.
    program: PathBuf,
    rounds: u64,
    /// Seconds of one load.
    seconds: String,
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs what `--only` names, or everything; prints Markdown; 1 when a figure is worse than `--gate` allows.
pub(crate) fn run(arguments: &CompareArguments) -> ExitCode {
    let name = format!("holdfast-bench-{}", std::process::id());
    let plan = Plan {
        dir: arguments.places.dir.join(&name),
        disk: arguments.places.disk.join(&name),
        program: arguments.places.product.clone(),
        rounds: arguments.rounds,
        seconds: arguments.time.to_string(),
    };
    for dir in [&plan.dir, &plan.disk] {
        fs::create_dir_all(dir).expect("--dir and --disk are writable");
    }
    let tidy = Tidy(&plan);
    let accepted = arguments.gate.as_deref().map(gate::read);
    machine::describe();
    let mut figures = Vec::new();
    println!("\n| figure | value | goal | | measured |\n|---|---:|---:|---|---|");
    for part in &arguments.only {
        let measured = match part {
            Part::Load => workloads::measure(&plan, accepted.as_ref()),
            Part::Sessions => sessions::measure(&plan),
            Part::Direct => direct::measure(&plan),
            Part::Copies => copies::measure(&plan),
        };
        print(&measured);
        figures.extend(measured);
    }
    machine::load_average();
    if let Some(path) = &arguments.accept {
        gate::write(path, &figures);
    }
    let worse = accepted.map_or(0, |accepted| gate::judge(&accepted, &figures));
    drop(tidy);
    ExitCode::from(u8::from(worse > 0))
}

struct Tidy<'a>(&'a Plan);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.dir);
        let _ = fs::remove_dir_all(&self.0.disk);
    }
}

fn print(figures: &[Figure]) {
    for figure in figures {
        let (goal, met) = match figure.goal {
            Some(goal) if figure.value <= goal => (format!("{goal}"), "met"),
            Some(goal) if figure.value.is_nan() => (format!("{goal}"), "not measured"),
            Some(goal) => (format!("{goal}"), "**missed**"),
            None => (String::new(), ""),
        };
        println!(
            "| {} | {:.2} | {goal} | {met} | {} |",
            figure.name, figure.value, figure.measured
        );
    }
}

/// The indices below `count`, in an order of its own each time.
fn shuffled(count: usize) -> Vec<usize> {
    let mut seed = now_ns();
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..order.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, (seed >> 33) as usize % (i + 1));
    }
    order
}

/// So that reads meet data and not holes.
fn fill(server: &Server) {
    server.load(
        &server.lun,
        &["--bs", "1m", "--qd", "4", "--seq", "--read", "0"],
        "2",
        "1",
    );
}
