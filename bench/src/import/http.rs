//! As much of HTTP/1.1 as one connection to our own server needs: the sender must cost little beside the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;

/// One connection, kept alive.
pub(crate) struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// To `http://host:port`.
    pub(crate) fn open(url: &str) -> Outcome<Self> {
        let host = url.strip_prefix("http://").ok_or("no http URL")?.trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { host, stream: BufReader::new(stream) })
    }

    /// Status and text of the reply.
    pub(crate) fn post(&mut self, path: &str, key: &str, headers: &str, body: &[u8]) -> Outcome<(u16, String)> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\n{headers}content-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        self.reply()
    }

    fn reply(&mut self) -> Outcome<(u16, String)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no HTTP reply: `{line}`"))?;
        let mut length = 0usize;
        loop {
            let header = self.line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if header.starts_with("transfer-encoding") {
                return Err("a chunked reply".into());
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length.min(1 << 20)];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
