//! As much of HTTP/1.1 as one connection to a server under test needs: the sender must cost little beside the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;

/// Most bytes of a reply that are read.
const REPLY_BYTES_MAX: usize = 1 << 20;

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

    /// Status and text of the reply; `headers` are whole lines.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Outcome<(u16, String)> {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {length}\r\n\r\n", self.host);
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        self.reply()
    }

    fn reply(&mut self) -> Outcome<(u16, String)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no HTTP reply: `{line}`"))?;
        let (mut length, mut chunked) = (0usize, false);
        loop {
            let header = self.line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            chunked |= header.starts_with("transfer-encoding");
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = Vec::new();
        if chunked {
            while self.chunk(&mut body)? {}
        } else {
            self.take(length, &mut body)?;
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Appends one chunk; false after the last.
    fn chunk(&mut self, body: &mut Vec<u8>) -> Outcome<bool> {
        let length = usize::from_str_radix(&self.line()?, 16)?;
        self.take(length, body)?;
        self.line()?;
        Ok(length > 0)
    }

    fn take(&mut self, length: usize, body: &mut Vec<u8>) -> Outcome<()> {
        let start = body.len();
        if start + length > REPLY_BYTES_MAX {
            return Err(format!("a reply of more than {REPLY_BYTES_MAX} bytes").into());
        }
        body.resize(start + length, 0);
        Ok(self.stream.read_exact(&mut body[start..])?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
