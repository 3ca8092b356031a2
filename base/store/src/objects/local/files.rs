//! The file system calls of the local store, all blocking, each durable when it returns.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::LocalError;
use crate::objects::error::check_key;

/// Ending of files that are being written.
const TEMPORARY: &str = ".tmp";
/// Makes temporary names unique in this process, whatever handle they come from.
static TEMPORARY_NUMBER: AtomicU64 = AtomicU64::new(0);

/// How a written file gets its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Appear {
    /// In place of whatever is there.
    Overwrite,
    /// Only when nothing is there.
    Create,
}

/// Objects by key, sorted.
pub(super) type Listed = Vec<(String, Found)>;

/// What a look at a file brought.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) len: u64,
    pub(super) modified: SystemTime,
    pub(super) tag: String,
}

impl Found {
    fn of(metadata: &fs::Metadata) -> io::Result<Self> {
        let tag = format!(
            "{:x}-{:x}-{:x}",
            metadata.ino(),
            metadata.mtime() as u64 * 1_000_000_000 + metadata.mtime_nsec() as u64,
            metadata.len()
        );
        Ok(Self { len: metadata.len(), modified: metadata.modified()?, tag })
    }
}

/// A file that is being written; removed when it is dropped before it got its key.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    pub(super) file: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a rename; otherwise nobody will miss it, and the next start removes it too.
        let _ = fs::remove_file(&self.path);
    }
}

/// The root and what is known of its durability.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    read_only: bool,
    poisoned: AtomicBool,
    /// Directories below the root whose entry in their parent is known to be durable.
    durable: Mutex<BTreeSet<PathBuf>>,
    #[cfg(test)]
    fail_fsync: AtomicBool,
}

impl Files {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        if let Some(parent) = root.canonicalize()?.parent() {
            File::open(parent)?.sync_all()?;
        }
        remove_temporaries(root)?;
        Ok(Self::new(root, false))
    }

    /// For a second writer beside one that lives: its temporary files stay.
    pub(super) fn open_beside(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self::new(root, false))
    }

    pub(super) fn open_read_only(root: &Path) -> io::Result<Self> {
        fs::read_dir(root)?;
        Ok(Self::new(root, true))
    }

    fn new(root: &Path, read_only: bool) -> Self {
        Self {
            root: root.to_owned(),
            read_only,
            poisoned: AtomicBool::new(false),
            durable: Mutex::default(),
            #[cfg(test)]
            fail_fsync: AtomicBool::new(false),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a key.
    pub(super) fn path(&self, key: &str) -> Result<PathBuf, LocalError> {
        check_key(key).map_err(LocalError::Refused)?;
        if key.ends_with(TEMPORARY) {
            return Err(LocalError::Refused(format!("`{key}` ends like a temporary file")));
        }
        Ok(self.root.join(key))
    }

    fn usable(&self) -> Result<(), LocalError> {
        if self.poisoned.load(Ordering::SeqCst) { Err(LocalError::Poisoned) } else { Ok(()) }
    }

    fn writable(&self) -> Result<(), LocalError> {
        self.usable()?;
        if self.read_only { Err(LocalError::ReadOnly) } else { Ok(()) }
    }

    /// fsync; a failure poisons the handle, since a second try may succeed without the data being there.
    fn sync(&self, file: &File) -> Result<(), LocalError> {
        self.usable()?;
        #[cfg(test)]
        if self.fail_fsync.swap(false, Ordering::SeqCst) {
            self.poisoned.store(true, Ordering::SeqCst);
            return Err(LocalError::Poisoned);
        }
        file.sync_all().map_err(|error| {
            tracing::error!(%error, "fsync failed, the store is not used any more");
            self.poisoned.store(true, Ordering::SeqCst);
            LocalError::Poisoned
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), LocalError> {
        self.sync(&File::open(dir)?)
    }

    /// Makes the directory of a file, and every directory up to the root durable in its parent.
    fn make_dir(&self, dir: &Path) -> Result<(), LocalError> {
        let known = |dir: &Path| self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(dir);
        let mut missing = Vec::new();
        let mut at = dir;
        while at != self.root && !known(at) {
            missing.push(at.to_owned());
            match at.parent() {
                Some(parent) => at = parent,
                None => return Err(LocalError::Refused(format!("{} lies outside the store", dir.display()))),
            }
        }
        for dir in missing.into_iter().rev() {
            if let Err(error) = fs::create_dir(&dir)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error.into());
            }
            if !dir.is_dir() {
                return Err(LocalError::Refused(format!("{} is an object, so no key can lie below it", dir.display())));
            }
            // Whoever made it may not have fsynced it yet.
            if let Some(parent) = dir.parent() {
                self.sync_dir(parent)?;
            }
            self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(dir);
        }
        Ok(())
    }

    /// Begins a file that will get this key.
    pub(super) fn begin(&self, key: &str) -> Result<Temporary, LocalError> {
        self.writable()?;
        let path = self.path(key)?;
        if let Some(dir) = path.parent() {
            self.make_dir(dir)?;
        }
        let number = TEMPORARY_NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut name = path.into_os_string();
        name.push(format!(".{}-{number}{TEMPORARY}", std::process::id()));
        let path = PathBuf::from(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Temporary { path, file })
    }

    /// Makes a written file durable under its key; gives its tag.
    pub(super) fn finish(&self, key: &str, temporary: Temporary, appear: Appear) -> Result<String, LocalError> {
        self.writable()?;
        let path = self.path(key)?;
        let dir = path.parent().unwrap_or(&self.root).to_owned();
        let found = Found::of(&temporary.file.metadata()?)?;
        if found.len == 0 {
            return Err(LocalError::Refused(format!("`{key}`: an empty file would count as damaged")));
        }
        self.sync(&temporary.file)?;
        // Opened before the file appears: behind that point nothing but the fsync itself may fail, else it would be seen and not be durable.
        let parent = File::open(&dir)?;
        let appeared = match appear {
            Appear::Overwrite => fs::rename(&temporary.path, &path),
            Appear::Create => fs::hard_link(&temporary.path, &path),
        };
        if path.is_dir() {
            return Err(LocalError::Refused(format!("`{key}` is a prefix of other keys")));
        }
        drop(temporary);
        // Also after a lost race: the caller acts on what it lost to, so that has to stay.
        self.sync(&parent)?;
        appeared?;
        Ok(found.tag)
    }

    /// Writes a whole object.
    pub(super) fn put<'a>(&self, key: &str, body: impl Iterator<Item = &'a Bytes>, appear: Appear) -> Result<String, LocalError> {
        let mut temporary = self.begin(key)?;
        for part in body {
            temporary.file.write_all(part)?;
        }
        self.finish(key, temporary, appear)
    }

    /// Opens an object for reading.
    pub(super) fn open_object(&self, key: &str) -> Result<(File, Found), LocalError> {
        self.usable()?;
        let absent = || LocalError::Io(io::Error::from(io::ErrorKind::NotFound));
        let file = File::open(self.path(key)?).map_err(|error| {
            // `a/b` asked for while `a` is an object: absent, as in any object store.
            if error.kind() == io::ErrorKind::NotADirectory { absent() } else { LocalError::Io(error) }
        })?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(absent());
        }
        let found = Found::of(&metadata)?;
        if found.len == 0 { Err(LocalError::Empty) } else { Ok((file, found)) }
    }

    /// Deletes an object for good; an absent one is fine.
    pub(super) fn delete(&self, key: &str) -> Result<(), LocalError> {
        self.writable()?;
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Ok(()) => self.sync_dir(path.parent().unwrap_or(&self.root)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Objects below a prefix whose key sorts after `after`, sorted by key.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listed, LocalError> {
        let mut found = Vec::new();
        let mut dirs = vec![prefix.to_owned()];
        while let Some(dir) = dirs.pop() {
            for (key, entry) in self.entries(&dir)? {
                if entry.file_type()?.is_dir() {
                    dirs.push(key);
                } else if after.is_none_or(|after| key.as_str() > after)
                    && let Some(file) = look(&entry)?
                {
                    found.push((key, file));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Objects and directories right below a prefix, sorted.
    pub(super) fn list_one(&self, prefix: &str) -> Result<(Listed, Vec<String>), LocalError> {
        let (mut found, mut dirs) = (Vec::new(), Vec::new());
        for (key, entry) in self.entries(prefix)? {
            if entry.file_type()?.is_dir() {
                dirs.push(key);
            } else if let Some(file) = look(&entry)? {
                found.push((key, file));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        dirs.sort();
        Ok((found, dirs))
    }

    /// What lies in a directory under names of ours, with whole keys. An absent directory is empty.
    fn entries(&self, prefix: &str) -> Result<Vec<(String, fs::DirEntry)>, LocalError> {
        self.usable()?;
        let dir = if prefix.is_empty() { self.root.clone() } else { self.path(prefix)? };
        let listed = match fs::read_dir(dir) {
            Ok(listed) => listed,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut entries = Vec::new();
        for entry in listed {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let key = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if !key.ends_with(TEMPORARY) && check_key(&key).is_ok() {
                entries.push((key, entry));
            }
        }
        Ok(entries)
    }

    #[cfg(test)]
    pub(super) fn fail_next_fsync(&self) {
        self.fail_fsync.store(true, Ordering::SeqCst);
    }
}

/// A listed file; `None` when it was deleted meanwhile.
fn look(entry: &fs::DirEntry) -> Result<Option<Found>, LocalError> {
    match entry.metadata() {
        Ok(metadata) => Ok(Some(Found::of(&metadata)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Exactly the bytes of a range that lies inside the file.
pub(super) fn read(file: &File, range: Range<u64>) -> Result<Bytes, LocalError> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(|error| LocalError::Refused(error.to_string()))?;
    let mut body = vec![0; len];
    file.read_exact_at(&mut body, range.start)?;
    Ok(body.into())
}

/// Removes what killed writers left, in all directories.
fn remove_temporaries(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_temporaries(&entry.path())?;
        } else if entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
