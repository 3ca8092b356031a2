//! The servers under test: `tailors up` and its rivals, each on a fresh data directory and pinned to one core; stopped when dropped.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

use super::http::Connection;
use crate::Outcome;
use crate::timing::sleep_ms;

/// How long one may take to be ready, milliseconds.
const READY_MS_MAX: u64 = 60_000;
const READY_EVERY_MS: u64 = 50;
/// Clock ticks of /proc per second: 100 on every Linux that we run on.
const TICKS_PER_S: f64 = 100.0;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Contender {
    Tailors,
    Victoria,
    Prometheus,
}

impl Contender {
    /// Its name in the issues.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tailors => "tailors",
            Self::Victoria => "VictoriaMetrics",
            Self::Prometheus => "Prometheus",
        }
    }

    /// Its binary, if there is one: ours as asked for or beside this one, a rival's where `cargo xtask rivals` puts it.
    pub(crate) fn binary(self, ours: Option<&Path>) -> Option<PathBuf> {
        let rival = |name: &str| Some(rivalsdir()?.join(name));
        let path = match self {
            Self::Tailors => ours.map_or_else(beside_us, |path| Some(path.to_owned())),
            Self::Victoria => rival("vm"),
            Self::Prometheus => rival("prom"),
        };
        path.filter(|path| path.is_file())
    }
}

/// `tailors` beside the running benchmark: the same profile.
fn beside_us() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name("tailors"))
}

/// As `xtask` has it.
fn rivalsdir() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/tailors-bench/tsdb"));
    std::env::var_os("TSDB_CACHE").map(PathBuf::from).or_else(home)
}

/// `client.json`.
#[derive(Deserialize)]
struct Client {
    url: String,
    admin_key: String,
    backfill_key: String,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Removed with it.
    dir: TempDir,
    pub(crate) url: String,
    /// Header line that lets points in.
    pub(crate) write_key: String,
    /// Header line of admin requests, ours alone.
    pub(crate) admin_key: String,
}

impl Server {
    /// Starts it, waits until it takes requests.
    pub(crate) fn start(contender: Contender, binary: &Path) -> Outcome<Self> {
        // In the build directory, not in /tmp: that may be memory, where fsync is free.
        let place = std::env::current_exe()?.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
        let dir = tempfile::Builder::new().prefix("bench-import-").tempdir_in(place)?;
        let log = dir.path().join("log.txt");
        let address = free_address()?;
        let mut command = pinned(binary);
        command.args(arguments(contender, dir.path(), &address)?).stdin(Stdio::null());
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        let url = format!("http://{address}");
        let mut server = Self { child, dir, url, write_key: String::new(), admin_key: String::new() };
        let path = if contender == Contender::Victoria { "/health" } else { "/-/ready" };
        for _ in 0..READY_MS_MAX / READY_EVERY_MS {
            sleep_ms(READY_EVERY_MS);
            if let Some(status) = server.child.try_wait()? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{} ended with {status}: {said}", binary.display()).into());
            }
            // No connection and any other status mean: not yet.
            if matches!(Connection::open(&server.url).and_then(|mut c| c.request("GET", path, "", b"")), Ok((200, _))) {
                server.take_keys(contender)?;
                return Ok(server);
            }
        }
        Err(format!("{} was not ready in {READY_MS_MAX} ms", binary.display()).into())
    }

    fn take_keys(&mut self, contender: Contender) -> Outcome<()> {
        if contender == Contender::Tailors {
            let client: Client = serde_json::from_slice(&std::fs::read(self.dir.path().join("data/client.json"))?)?;
            self.url = client.url;
            self.write_key = format!("authorization: Bearer {}\r\n", client.backfill_key);
            self.admin_key = format!("authorization: Bearer {}\r\n", client.admin_key);
        }
        Ok(())
    }

    /// User and system seconds of all its threads so far.
    pub(crate) fn cpu_s(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).ok_or("no times in /proc/PID/stat");
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_S)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is our own child; a failure means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it on the last core, where `taskset` is there: both runtimes then have one thread at work, and the sender is on another core.
fn pinned(binary: &Path) -> Command {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let runs = Command::new("taskset").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if cores < 2 || !runs {
        return Command::new(binary);
    }
    let mut command = Command::new("taskset");
    command.arg("-c").arg((cores - 1).to_string()).arg(binary);
    command
}

fn arguments(contender: Contender, dir: &Path, address: &str) -> Outcome<Vec<String>> {
    let data = dir.join("data").display().to_string();
    let arguments = match contender {
        Contender::Tailors => ["up", "--set", "build.enabled=false", "--listen", address, "--data", &data].map(str::to_owned).to_vec(),
        Contender::Victoria => {
            vec![format!("-storageDataPath={data}"), format!("-httpListenAddr={address}"), "-retentionPeriod=10y".to_owned()]
        }
        Contender::Prometheus => {
            let config = dir.join("prometheus.yml");
            std::fs::write(&config, "global: {scrape_interval: 1h}\n")?;
            vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={address}"),
                "--web.enable-remote-write-receiver".to_owned(),
                "--storage.tsdb.retention.time=10y".to_owned(),
            ]
        }
    };
    Ok(arguments)
}

/// A port that was free a moment ago.
fn free_address() -> Outcome<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
