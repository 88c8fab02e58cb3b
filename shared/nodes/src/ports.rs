//! Ports that are free at the moment.

use std::net::{TcpListener, TcpStream};
use std::ops::Range;

use crate::Error;

/// Below those that Linux takes for outgoing connections: one of them could take a port before its
/// node does, and a connection to a closed port among them may come to itself.
const RANGE: Range<u16> = 15_000..32_000;
/// So many are tried before any port will do.
const TRIES: usize = 64;

/// So many free ports on the loopback address, no two the same.
///
/// # Errors
/// The system gives none.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    // All are held until all are chosen, so that no two are the same.
    let listeners = (0..count)
        .map(|_| listen())
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::system("a free port"))?;
    listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()
        .map_err(Error::system("a free port"))
}

fn listen() -> std::io::Result<TcpListener> {
    let one = || TcpListener::bind(("127.0.0.1", fastrand::u16(RANGE))).ok();
    let chosen = (0..TRIES).find_map(|_| one());
    chosen.map_or_else(|| TcpListener::bind(("127.0.0.1", 0)), Ok)
}

/// Whether something listens on a port.
pub fn is_open(port: u16) -> bool {
    let connected = TcpStream::connect(("127.0.0.1", port));
    // A connection that has come to itself says nothing.
    connected.is_ok_and(|it| it.local_addr().ok() != it.peer_addr().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of those was taken by an outgoing connection, or connected to itself, while its node
    /// started: a campaign took a broker that still started for one that worked.
    #[test]
    fn chosen_ports_are_none_that_an_outgoing_connection_could_have() {
        let ports = free(20).unwrap();
        assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
        assert!(ports.iter().all(|port| !is_open(*port)));
    }
}
