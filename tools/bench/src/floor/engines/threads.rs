//! One blocking thread for each connection.

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::net::SendFlags;

use crate::{
    clock::now_ns,
    floor::{connection::Connection, store::Store},
};

/// Serves until the clock says `until`.
pub(in crate::floor) fn threads(listener: TcpListener, store: &'static Store, until: u64) {
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(&socket, store));
        }
    });
    thread::sleep(Duration::from_nanos(until.saturating_sub(now_ns())));
}

fn serve(socket: &TcpStream, store: &Store) {
    let _ = socket.set_nodelay(true);
    let mut connection = Connection::default();
    let mut calls = 0;
    while let Ok(1..) = connection.receive(store, socket) {
        if let Err(error) = connection.answer_all(store) {
            eprintln!("floor: {error}");
            return;
        }
        let sent = connection
            .out
            .flush(socket, store, SendFlags::empty(), &mut calls);
        if sent.is_err() {
            return;
        }
    }
}
