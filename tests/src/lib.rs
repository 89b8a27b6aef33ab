//! End-to-end tests: they start real daemons and drive them with real initiators.
//!
//! This library holds what the tests in `tests/` share: [`Daemon`] (a `holdfastd` of the test's own, on loopback,
//! in a directory of its own, ended by pid), [`tool`] (running a program with a time limit), and [`guest`] (the Linux
//! kernel's initiator in a small virtual machine). Nothing here is product code.
//!
//! A test that needs a program fails when the program is missing: `./test` installs them all.

pub mod commands;
mod daemon;
pub mod guest;
pub mod initiator;
pub mod load;
pub mod marks;
pub mod order;
pub mod proxy;
pub mod random;
pub mod stamps;
pub mod store;
pub mod systems;
pub mod tool;
pub mod wire;
pub mod world;

pub use daemon::{Daemon, DaemonConfig, VolumeSpec};

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

/// The checkout.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
        .to_path_buf()
}

/// A program of ours: from `HOLDFAST_BIN_DIR` (`./test` sets it), else from beside the test binary.
pub fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os("HOLDFAST_BIN_DIR").map_or_else(
        || {
            let test = std::env::current_exe().expect("the test binary has a path");
            test.parent()
                .and_then(Path::parent)
                .expect("target/<profile>/deps")
                .to_path_buf()
        },
        PathBuf::from,
    );
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo build --release",
        program.display()
    );
    program
}

/// Waits until it is so; a minute at most.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A TCP port of 127.0.0.1 that is this process's from now on: the socket stays bound to it, so that nobody else is given it, and never
/// listens, so that a program which sets `SO_REUSEADDR` may.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let held = || -> io::Result<(Socket, SocketAddr)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().expect("it is one of IPv4");
        Ok((socket, address))
    };
    let (socket, address) = held().expect("loopback has free ports");
    HELD.lock().expect("nobody panics with it").push(socket);
    address.port()
}
