//! `DIR/{lock, client.json, clock.json, settings.toml, tailors.toml, imports/, log/, spill/, store/}`: who may use it, and where its parts lie.
//!
//! The lock is an advisory `flock` that dies with its holder: whoever gets it knows that the old process is gone. `client.json` is 0600 and holds the
//! only usable keys on disk.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Failure};

/// Settings that `up` last ran with.
const SETTINGS: &str = "settings.toml";

/// A data directory; made by `up`.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

/// Held while a process runs roles on a directory.
#[derive(Debug)]
pub(crate) struct DirLock(#[allow(dead_code, reason = "holding it is the point")] File);

/// What commands need to talk to a running `up`.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientFile {
    /// Where `up` listens.
    pub(crate) url: String,
    /// Admin key, without an org.
    pub(crate) admin_key: String,
    /// Write and query key of org 1.
    pub(crate) key: String,
    /// Backfill key of org 1.
    pub(crate) backfill_key: String,
}

/// Keys never reach a log.
impl std::fmt::Debug for ClientFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientFile {{ url: {:?}, keys: [redacted] }}", self.url)
    }
}

impl DataDir {
    /// The directory at `path`; nothing is touched.
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The embedded log.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The local object store.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Where spill files of builds go.
    pub(crate) fn spill(&self) -> PathBuf {
        self.0.join("spill")
    }

    /// Removes what killed builds left there; the caller holds the lock.
    pub(crate) fn clear_spill(&self) -> Result<(), Failure> {
        let spill = self.spill();
        match std::fs::remove_dir_all(&spill) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(std::fs::create_dir(&spill)?),
        }
    }

    /// The settings that `up` last ran with.
    pub(crate) fn kept_settings(&self) -> Option<PathBuf> {
        Some(self.0.join(SETTINGS)).filter(|path| path.is_file())
    }

    /// Keeps them for commands that run without `up`.
    pub(crate) fn keep_settings(&self, text: &str) -> Result<(), Failure> {
        // Untouched when it says this already: a start must not need space on a full disk.
        match std::fs::read_to_string(self.0.join(SETTINGS)) {
            Ok(kept) if kept == text => Ok(()),
            _ => self.replace(SETTINGS, text.as_bytes()),
        }
    }

    /// State of an import, by hash of its file.
    pub(crate) fn import_state(&self, file_hash: &str) -> PathBuf {
        self.0.join("imports").join(file_hash)
    }

    /// Keeps the shift of an import, milliseconds; none forgets it.
    pub(crate) fn keep_shift(&self, file_hash: &str, shift_ms: Option<i64>) -> Result<(), Failure> {
        match shift_ms {
            Some(shift_ms) => self.replace(&format!("imports/{file_hash}"), shift_ms.to_string().as_bytes()),
            None => Ok(std::fs::remove_file(self.import_state(file_hash))?),
        }
    }

    /// `DIR/tailors.toml`, if somebody put one there.
    pub(crate) fn settings_file(&self) -> Option<PathBuf> {
        Some(self.0.join("tailors.toml")).filter(|path| path.is_file())
    }

    /// Whether `up` was ever started here.
    pub(crate) fn exists(&self) -> bool {
        self.store().is_dir()
    }

    /// Makes the directory and its parts.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        for part in ["imports", "log", "store"] {
            make_durable_dir(&self.0.join(part))?;
        }
        Ok(())
    }

    /// Takes the lock; `None` when another process holds it.
    pub(crate) fn try_lock(&self) -> Result<Option<DirLock>, Failure> {
        let path = self.0.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Failure::unavailable(format!("{}: {error}", path.display())))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(DirLock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Failure::unavailable(format!("{}: {error}", path.display()))),
        }
    }

    /// Takes the lock or says who can't.
    pub(crate) fn lock(&self) -> Result<DirLock, Failure> {
        self.try_lock()?.ok_or_else(|| Failure {
            message: format!(
                "TLR-4001: {} is in use by another `tailors` process; stop it, or give this one another --data",
                self.0.display()
            ),
            exit: Exit::Locked,
        })
    }

    /// Reads `client.json`.
    pub(crate) fn client(&self) -> Result<ClientFile, Failure> {
        let path = self.0.join("client.json");
        let text = std::fs::read(&path).map_err(|error| {
            Failure::unavailable(format!("{}: {error}; is `tailors up --data {}` running?", path.display(), self.0.display()))
        })?;
        serde_json::from_slice(&text).map_err(|error| Failure::unavailable(format!("{}: {error}", path.display())))
    }

    /// Writes `client.json`, readable by its owner alone.
    pub(crate) fn write_client(&self, client: &ClientFile) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(client).map_err(|error| Failure::unavailable(error.to_string()))?;
        self.replace("client.json", &text)
    }

    /// The clock's offset, fixed when the directory was made.
    pub(crate) fn clock_offset_ms(&self) -> Result<i64, Failure> {
        let mut text = String::new();
        match File::open(self.0.join("clock.json")) {
            Ok(mut file) => file.read_to_string(&mut text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        text.trim().parse().map_err(|_| Failure::unavailable(format!("{}: not a number", self.0.join("clock.json").display())))
    }

    /// Fixes the clock's offset of a new directory.
    pub(crate) fn write_clock_offset_ms(&self, offset_ms: i64) -> Result<(), Failure> {
        self.replace("clock.json", offset_ms.to_string().as_bytes())
    }

    /// Replaces a small file as a whole: temp name, fsync, rename, fsync of the directory.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.0.join(name);
        let temp = path.with_extension("tmp");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, &path)?;
        File::open(path.parent().unwrap_or(&self.0))?.sync_all()?;
        Ok(())
    }
}

/// Makes a directory and every ancestor that is missing, each fsynced into its parent: what is acknowledged in it must not lose its name.
pub(crate) fn make_durable_dir(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_durable_dir(parent)?;
    let made = std::fs::create_dir(path).and_then(|()| File::open(parent)?.sync_all());
    made.map_err(|error| Failure::unavailable(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let temp = tempfile::tempdir().expect("temp dir");
        let dir = DataDir::new(temp.path());
        assert!(!dir.exists());
        dir.create().expect("creates");
        assert!(dir.exists());
        dir.create().expect("is there");
        let held = dir.lock().expect("free");
        assert_eq!(dir.lock().expect_err("held").exit, Exit::Locked);
        drop(held);
        assert!(dir.try_lock().expect("no error").is_some());
    }

    #[test]
    fn client_file_is_private_and_never_printed() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().expect("temp dir");
        let dir = DataDir::new(temp.path());
        let secret = "tlr_secret".to_owned();
        let client = ClientFile { url: "http://127.0.0.1:1".into(), admin_key: secret.clone(), key: secret.clone(), backfill_key: secret };
        dir.write_client(&client).expect("writes");
        let mode = std::fs::metadata(temp.path().join("client.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{:?}", dir.client().expect("reads")).contains("tlr_"));
    }
}
