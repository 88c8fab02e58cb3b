//! RabbitMQ's management interface, as far as tests need it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, ensure};
use nodes::shared::{ADMINISTRATOR, Nodes, PASSWORD};

/// `admin:secret` in base64.
const AUTHORIZATION: &str = "Basic YWRtaW46c2VjcmV0";

/// Sends one request; an answer below 300 is success.
pub(crate) fn request(nodes: &Nodes, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
    debug_assert_eq!((ADMINISTRATOR, PASSWORD), ("admin", "secret"));
    let mut stream = TcpStream::connect(("127.0.0.1", nodes.management_port))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {AUTHORIZATION}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status: u16 =
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
    ensure!(status < 300, "{method} {path}: {answer}");
    Ok(())
}
