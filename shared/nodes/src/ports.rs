//! Ports that are free at the moment.

use std::net::TcpListener;

use crate::Error;

/// So many free ports on the loopback address, no two the same.
///
/// # Errors
/// The system gives none.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    // All are held until all are chosen, so that no two are the same.
    let listeners = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::system("a free port"))?;
    listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()
        .map_err(Error::system("a free port"))
}

/// Whether something listens on a port.
pub fn is_open(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}
