//! The server under test: `tailors up` on a fresh data directory, without builds and seals; stopped when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

use crate::Outcome;
use crate::timing::sleep_ms;

/// How long it may take to be ready, milliseconds.
const READY_MS_MAX: u64 = 20_000;
/// Clock ticks of /proc per second: 100 on every Linux that we run on.
const TICKS_PER_S: f64 = 100.0;
/// Nothing but taking, logging and capturing points.
const SETTINGS: [&str; 4] =
    ["build.enabled=false", "control.provisional=false", "control.quiet_min_s=100000000", "control.close_after_s=100000000"];

/// `client.json`.
#[derive(Deserialize)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) admin_key: String,
    pub(crate) backfill_key: String,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    pub(crate) client: Client,
}

impl Server {
    /// Starts it, waits until it listens.
    pub(crate) fn start(binary: &Path) -> Outcome<Self> {
        // Beside the binary, not in /tmp: that may be memory, where fsync is free.
        let dir = tempfile::Builder::new().prefix("bench-import-").tempdir_in(binary.parent().unwrap_or(Path::new(".")))?;
        let mut command = Command::new(binary);
        command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path());
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        command.stdout(Stdio::null()).stderr(std::fs::File::create(dir.path().join("stderr.txt"))?);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        for _ in 0..READY_MS_MAX / 50 {
            sleep_ms(50);
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(dir.path().join("stderr.txt")).unwrap_or_default();
                return Err(format!("{} ended with {status}: {said}", binary.display()).into());
            }
            let Ok(text) = std::fs::read(dir.path().join("client.json")) else { continue };
            let client: Client = serde_json::from_slice(&text)?;
            return Ok(Self { child, dir, client });
        }
        child.kill()?;
        child.wait()?;
        Err(format!("{} was not ready in {READY_MS_MAX} ms", binary.display()).into())
    }

    /// User and system seconds of all its threads so far.
    pub(crate) fn cpu_s(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).ok_or("no times in /proc/PID/stat");
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_S)
    }

    /// Bytes of all files below a part of the data directory whose names end so.
    pub(crate) fn disk_bytes(&self, part: &str, ending: &str) -> u64 {
        let (mut bytes, mut folders) = (0, vec![self.dir.path().join(part)]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().to_string_lossy().ends_with(ending) {
                    bytes += metadata.len();
                }
            }
        }
        bytes
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is our own child; a failure means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tailors` beside the running benchmark: the same profile.
pub(crate) fn beside_us() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tailors");
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{} is not there; build it with the same profile (cargo build [--release] -p tailors) or give --server PATH",
        path.display()
    )
    .into())
}
