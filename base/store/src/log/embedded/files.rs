//! Small files and their directory, written so that a crash leaves the old or the new content, never a mix (protocol.md 2.7).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::io::Errno;

use crate::log::LogError;

/// What an I/O error means for the log: space, descriptors and memory come back; anything else won't get better by itself.
pub(super) fn classify(what: &str, error: &io::Error) -> LogError {
    let comes_back = [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    if comes_back.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        LogError::Unavailable(format!("{what}: {error}"))
    } else {
        LogError::Fatal(format!("{what}: {error}"))
    }
}

/// Fsync of a directory, so that a name in it is durable; an error is fatal, fsync is never retried.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    let opened = File::open(dir).map_err(|error| classify(&format!("opening {}", dir.display()), &error))?;
    opened.sync_all().map_err(|error| LogError::Fatal(format!("fsync of {}: {error}", dir.display())))
}

/// Creates `dir` and fsyncs each directory that got a new name.
pub(super) fn create_dir(dir: &Path) -> Result<(), LogError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match std::fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(classify(&format!("creating {}", dir.display()), &error)),
    }
    sync_dir(parent)
}

/// Writes `dir/name` whole or not at all. `replace = false`: leaves an existing file alone and says `false`.
pub(super) fn write_whole(dir: &Path, name: &str, bytes: &[u8], replace: bool) -> Result<bool, LogError> {
    let path = dir.join(name);
    let temporary = dir.join(format!("{name}.tmp"));
    let failed = |error: io::Error| classify(&format!("writing {}", path.display()), &error);
    let mut file = File::create(&temporary).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(|error| LogError::Fatal(format!("fsync of {}: {error}", temporary.display())))?;
    if replace {
        std::fs::rename(&temporary, &path).map_err(failed)?;
    } else {
        let linked = std::fs::hard_link(&temporary, &path);
        std::fs::remove_file(&temporary).map_err(failed)?;
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
    }
    sync_dir(dir)?;
    Ok(true)
}

/// The bytes of `dir/name`; `None` when there is no such file.
pub(super) fn read_whole(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, LogError> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(classify(&format!("reading {}", dir.join(name).display()), &error)),
    }
}
