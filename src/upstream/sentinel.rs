//! Redis Sentinel: who the master is, asked anew for each connection, so that a new one is found by
//! reconnecting. <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::resp::push_command;

/// A sentinel that has not answered by then is passed over.
const PATIENCE: Duration = Duration::from_millis(500);
/// An answer is a host's name and a port.
const MAX_ANSWER: u64 = 4096;

/// Host and port of the master, by the first sentinel that knows.
pub(super) async fn ask(sentinels: &[(String, u16)], master: &str) -> io::Result<(String, u16)> {
    let mut why = Vec::new();
    for (host, port) in sentinels {
        let answer = tokio::time::timeout(PATIENCE, ask_one(host, *port, master)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(found) => return Ok(found),
            Err(error) => why.push(format!("{host}:{port}: {error}")),
        }
    }
    Err(io::Error::other(format!("no sentinel names the master: {}", why.join("; "))))
}

async fn ask_one(host: &str, port: u16, master: &str) -> io::Result<(String, u16)> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let mut request = Vec::new();
    push_command(&[&b"SENTINEL"[..], b"get-master-addr-by-name", master.as_bytes()], &mut request);
    stream.write_all(&request).await?;
    let mut lines = BufReader::new(stream.take(MAX_ANSWER)).lines();
    let mut line = async || {
        let line = lines.next_line().await?;
        line.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let first = line().await?;
    match first.as_str() {
        "*2" => {}
        "*-1" => return Err(io::Error::other(format!("it does not know {master}"))),
        other => return Err(io::Error::other(other.to_owned())),
    }
    // Each of the two has its length before it.
    let (_, host, _, port) = (line().await?, line().await?, line().await?, line().await?);
    let port = port.parse().map_err(|_| io::Error::other("the port is no number"))?;
    Ok((host, port))
}
