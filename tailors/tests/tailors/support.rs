//! What the end-to-end tests drive: the real binary on a temporary directory, raw HTTP, and remote-write bodies by an encoder of their own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What the clock of most tests' directories shows: the middle of a window.
pub(crate) const NOW: &str = "2026-11-20T18:00:00Z";
/// Start of the window that holds `NOW`.
pub(crate) const OPEN_WINDOW: &str = "2026-11-20T16:00:00Z";
/// A window that is over and closed at `NOW`.
pub(crate) const CLOSED_WINDOW: &str = "2026-11-20T04:00:00Z";
/// Unix milliseconds of `CLOSED_WINDOW`.
pub(crate) const CLOSED_WINDOW_MS: i64 = 1_795_147_200_000;
/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// How a join ends that found nothing wrong.
pub(crate) const EXACT: &str = "missing 0, extra 0, different 0, stored twice 0";

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Stdout of a command that must have ended with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    pub(crate) fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

/// The binary, with an environment that can't disturb it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailors"));
    command.args(arguments).env_remove("TAILORS_URL").env_remove("TAILORS_KEY");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Ended {
    Ended::of(&command(arguments).output().expect("the binary runs"))
}

/// A command that runs beside the test; killed if the test ends before it.
pub(crate) struct Background(Option<Child>);

impl Background {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self(Some(command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| child.try_wait().expect("status").is_none())
    }

    pub(crate) fn end(mut self) -> Ended {
        Ended::of(&self.0.take().expect("not ended yet").wait_with_output().expect("ends"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `tailors up` on a directory, with the keys of its client.json.
pub(crate) struct Server {
    child: Child,
    arguments: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) listen: String,
    pub(crate) key: String,
    pub(crate) admin_key: String,
}

impl Server {
    /// Starts `up` on a new directory whose clock shows `NOW`.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let mut arguments: Vec<String> = ["up", "--data", dir.to_str().expect("UTF-8"), "--listen"].map(str::to_owned).to_vec();
        arguments.push(format!("127.0.0.1:{port}"));
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        let mut first: Vec<&str> = arguments.iter().map(String::as_str).collect();
        first.extend(["--now", NOW]);
        let child = Self::spawn(&first, dir);
        let mut server = Self {
            child,
            arguments,
            dir: dir.to_owned(),
            listen: format!("127.0.0.1:{port}"),
            key: String::new(),
            admin_key: String::new(),
        };
        server.wait_ready();
        let client: Value = serde_json::from_slice(&std::fs::read(dir.join("client.json")).expect("client.json")).expect("JSON");
        assert_eq!(client["url"], format!("http://{}", server.listen));
        server.key = client["key"].as_str().expect("key").to_owned();
        server.admin_key = client["admin_key"].as_str().expect("admin key").to_owned();
        server
    }

    fn spawn(arguments: &[&str], dir: &Path) -> Child {
        // Beside the directory: a full disk must not take the log's words away.
        let log = std::fs::File::options().create(true).append(true).open(dir.with_extension("up.log")).expect("log");
        let out = log.try_clone().expect("log");
        command(arguments).stdout(out).stderr(log).spawn().expect("up starts")
    }

    /// `kill -9`, as a power cut would end it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("reaped");
    }

    /// Starts it again on the same directory and port.
    pub(crate) fn restart(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.child = Self::spawn(&arguments, &self.dir);
        self.wait_ready();
    }

    /// SIGTERM, and what it ended with.
    pub(crate) fn stop(&mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        self.child.wait().expect("reaped").code().unwrap_or(-1)
    }

    fn wait_ready(&mut self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("status") {
                panic!("up ended with {status}:\n{}", self.log());
            }
            // Neither a refusal nor a reset is an answer: the port may still be held by a process that was just forked.
            if self.try_http("GET", "/-/ready", &[], b"").is_ok_and(|reply| reply.status == 200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("up is not ready:\n{}", self.log());
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("up.log")).unwrap_or_default()
    }

    /// A command on this directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&self.with_data(arguments))
    }

    /// A command's arguments with `--data`.
    pub(crate) fn with_data<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = arguments.to_vec();
        all.extend(["--data", self.dir.to_str().expect("UTF-8")]);
        all
    }

    /// Seals and builds a window by hand.
    #[track_caller]
    pub(crate) fn seal_and_build(&self, window: &str) {
        self.run(&["seal", "--window", window]).ok();
        self.run(&["build", "--window", window]).ok();
    }

    /// The row of a window in `status --json`.
    #[track_caller]
    pub(crate) fn status_of(&self, window: &str) -> Value {
        let status: Value = serde_json::from_str(&self.run(&["status", "--json"]).ok()).expect("JSON");
        assert!(status["captured_to_ms"].is_i64(), "{status}");
        let row = status["windows"].as_array().expect("rows").iter().find(|row| row["window"] == window);
        row.unwrap_or_else(|| panic!("no row of {window} in {status}")).clone()
    }

    /// An instant query of the org's key, as the rows of its answer.
    #[track_caller]
    pub(crate) fn query(&self, promql: &str, at_s: &str) -> Vec<Value> {
        let body = format!("query={}&time={at_s}", escape(promql));
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", &format!("Bearer {}", self.key))];
        let answer = self.http("POST", "/api/v1/query", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert!(answer["tailors"]["feed"].is_u64(), "{answer}");
        answer["data"]["result"].as_array().expect("rows").clone()
    }

    /// Remote write of a body.
    pub(crate) fn write(&self, key: &str, body: &[u8]) -> Reply {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
        self.http("POST", "/api/v1/write", &headers, body)
    }

    /// One request that must be answered.
    #[track_caller]
    pub(crate) fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_http(method, path, headers, body).expect("an answer")
    }

    /// One request; HTTP/1.0, so that the reply ends with the connection.
    fn try_http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Reply> {
        let mut request = format!("{method} {path} HTTP/1.0\r\nhost: {}\r\ncontent-length: {}\r\n", self.listen, body.len());
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        let mut bytes = [request.as_bytes(), b"\r\n", body].concat();
        let mut socket = TcpStream::connect(&self.listen)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(&bytes)?;
        bytes.clear();
        socket.read_to_end(&mut bytes)?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        Ok(Reply { status, head, body: bytes[end + 4..].to_vec() })
    }
}

/// A free port below the range from which the system takes its own: while a killed server is away nobody else gets it.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (number % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- up on {}:\n{}", self.dir.display(), self.log());
        }
    }
}

/// A reply as it came.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Percent-encoded.
pub(crate) fn escape(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// One series of a remote-write body: labels with the name among them, and points.
pub(crate) type Series = (Vec<(String, String)>, Vec<(i64, f64)>);

/// A series of a metric with one tag.
pub(crate) fn series(metric: &str, tag: &str, points: &[(i64, f64)]) -> Series {
    (vec![("__name__".to_owned(), metric.to_owned()), ("tag".to_owned(), tag.to_owned())], points.to_vec())
}

/// A remote write 1.0 body.
pub(crate) fn write_request(all: &[Series]) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, points) in all {
        let mut one = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            message(&mut label, 1, name.as_bytes());
            message(&mut label, 2, value.as_bytes());
            message(&mut one, 1, &label);
        }
        for (at_ms, value) in points {
            let mut sample = vec![0x09];
            sample.extend(value.to_le_bytes());
            sample.push(0x10);
            varint(&mut sample, *at_ms as u64);
            message(&mut one, 2, &sample);
        }
        message(&mut body, 1, &one);
    }
    snap::raw::Encoder::new().compress_vec(&body).expect("compresses")
}

fn message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The next number of a seeded row.
pub(crate) fn next(state: &mut u64) -> u64 {
    // xorshift64*
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
