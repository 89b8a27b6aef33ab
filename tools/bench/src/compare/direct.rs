//! O_DIRECT on a disk, beside tgt with its backing store `aio`, which does the same.

use super::{
    Plan, fill,
    gate::Figure,
    median,
    servers::{Volume, product, tgt},
    shuffled,
};

const LOADS: &[(&str, &[&str])] = &[
    ("O_DIRECT, random read 4k QD32", &["--bs", "4k", "--qd", "32"]),
    (
        "O_DIRECT, random write 4k QD32",
        &["--bs", "4k", "--qd", "32", "--read", "0"],
    ),
];

/// Measures it, where tgt is installed.
pub(super) fn measure(plan: &Plan) -> Vec<Figure> {
    let volume = Volume {
        name: "direct",
        mirror: false,
        direct: true,
    };
    let mut servers = vec![product(plan, &plan.disk, &[volume])];
    servers.extend(tgt(&plan.disk, "aio"));
    for server in &servers {
        // The whole file, so that no write finds a hole.
        fill(server);
        server.load(&server.lun, &["--bs", "1m", "--qd", "8", "--fill"], "0.1", "1");
    }
    let mut figures = Vec::new();
    for (name, arguments) in LOADS {
        let mut values = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
        for _ in 0..plan.rounds {
            for index in shuffled(servers.len()) {
                let server = &servers[index];
                let line = server.load(&server.lun, arguments, &plan.seconds, "1");
                for (key, values) in ["tgt_cpu_us_per_io", "iops"].iter().zip(&mut values[index]) {
                    values.push(line[*key].as_f64().unwrap_or(f64::NAN));
                }
            }
        }
        let [[p, p_iops], [t, t_iops]] = values.map(|both| both.map(|mut values| median(&mut values)));
        let figure = |what: &str, value, goal, judged| Figure {
            name: format!("{name}{what} / tgt aio"),
            value,
            goal: Some(goal),
            judged,
            measured: format!("{p:.2} us, T {t:.2}; {p_iops:.0} IOPS, T {t_iops:.0}"),
        };
        figures.push(figure("", p / t, 0.6, true));
        // The disk's and its neighbours' noise.
        figures.push(figure(", time of an I/O", t_iops / p_iops, 1.0, false));
    }
    figures
}
