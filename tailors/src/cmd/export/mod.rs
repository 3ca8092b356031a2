//! `tailors export`: stored points as one Parquet file, for any tool.
//!
//! Pins one feed number, so the file is one state of the store whatever is built or deleted meanwhile; needs no lock and no server. The file has its name only
//! when it is whole and fsynced: until then it is `.NAME.*.part` beside it, and goes when the command ends early.

mod points;
mod table;

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use tailors_format::chunk::DecodeScratch;
use tailors_format::doc::{FileRole, ManifestFile};
use tailors_model::{OrgId, ShardId, Window};
use tailors_store::Objects;
use tailors_store::catalog::Snapshot;
use tempfile::NamedTempFile;

use self::points::{PassedOver, Source, Wanted};
use self::table::Table;
use super::{no_store, now_ms, pinned, progress};
use crate::cli;
use crate::datadir::DataDir;
use crate::exit::Failure;
use crate::out::say;
use crate::time::{parse_ms, rfc3339};

pub(crate) async fn run(args: cli::Export) -> Result<(), Failure> {
    let dir = (args.store.is_none() && args.file.is_none()).then(|| DataDir::new(&args.data));
    let now_ms = now_ms(dir.as_ref())?;
    let bound = |text: &Option<String>, open: i64| text.as_deref().map_or(Ok(open), |text| parse_ms(text, now_ms));
    let wanted =
        Wanted { org: args.org.map(OrgId), metrics: args.metric, from_ms: bound(&args.from, i64::MIN)?, to_ms: bound(&args.to, i64::MAX)? };
    if wanted.from_ms >= wanted.to_ms {
        return Err(Failure::usage(format!("--from {} is not before --to {}", rfc3339(wanted.from_ms), rfc3339(wanted.to_ms))));
    }
    let out = Output::new(args.parquet, args.overwrite)?;
    let store = match (&args.file, dir) {
        (Some(file), _) => {
            // Ended early, it takes its unfinished file along.
            return tokio::select! {
                done = of_file(file, &wanted, out) => done,
                _ = tokio::signal::ctrl_c() => Err(Failure::unavailable("interrupted: nothing was written")),
            };
        }
        (None, Some(dir)) if !dir.exists() => return Err(no_store(&dir)),
        (None, Some(dir)) => dir.store(),
        (None, None) => args.store.unwrap_or_default(),
    };
    let is_read = |window: &Window| wanted.of_window(window);
    pinned::reading(&store, now_ms, is_read, async |objects, snapshot| of_store(objects, snapshot, &wanted, out).await).await
}

async fn of_file(file: &Path, wanted: &Wanted, out: Output) -> Result<(), Failure> {
    let opened = File::open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let mut table = out.table(Vec::new())?;
    let cant_write = |error| out.cant_write(error);
    let (mut scratch, mut passed_over) = (DecodeScratch::default(), PassedOver::default());
    points::read(&Source::Alone(file, opened), wanted, &mut scratch, &mut table, &cant_write, &mut passed_over).await?;
    let (rows, bytes) = out.keep(table, &passed_over)?;
    say!("wrote {rows} points, {bytes} bytes, to {}", out.path.display());
    note_of(&passed_over);
    Ok(())
}

async fn of_store(objects: &Objects, snapshot: &Snapshot, wanted: &Wanted, out: Output) -> Result<(), Failure> {
    if snapshot.feed == 0 {
        let why = "nothing is published in this store (feed 0): wait for a build, or look whether --store names the `store` folder of a data directory";
        return Err(Failure::no(why));
    }
    let of_range = |window: &Window| wanted.of_window(window);
    if let Some(((window, shard), why)) = snapshot.damaged.iter().find(|((window, _), _)| of_range(window)) {
        let window = rfc3339(window.start_ms());
        return Err(Failure::unavailable(format!("TLR-4020: the manifest of window {window}, shard {shard} can't be read: {why}")));
    }
    let manifests = snapshot.windows.iter().filter(|((window, _), _)| of_range(window));
    let all = manifests.flat_map(|((_, shard), manifest)| manifest.files.iter().map(move |file| (*shard, file)));
    let mut files: Vec<(ShardId, ManifestFile)> = Vec::new();
    for (shard, file) in all.filter(|(_, file)| wanted.touches(file.from_ms, file.to_ms - 1)) {
        match files.iter_mut().rev().find(|(_, known)| file.continues(known)) {
            Some((_, known)) => (known.to_ms, known.points) = (file.to_ms, known.points + file.points),
            None => files.push((shard, file.clone())),
        }
    }
    let bar = progress::points("export", files.iter().map(|(_, file)| file.points).sum());
    let mut table = out.table(vec![KeyValue::new("tailors.feed".to_owned(), snapshot.feed.to_string())])?;
    let cant_write = |error| out.cant_write(error);
    let (mut scratch, mut passed_over) = (DecodeScratch::default(), PassedOver::default());
    for (shard, file) in &files {
        if file.role == FileRole::Overlay {
            return Err(Failure::unavailable(format!("TLR-4020: {} has a role that this version cannot read", file.key)));
        }
        points::read(
            &Source::Stored(objects, *shard, file),
            &wanted.within(file.from_ms, file.to_ms),
            &mut scratch,
            &mut table,
            &cant_write,
            &mut passed_over,
        )
        .await?;
        bar.inc(file.points);
    }
    bar.finish_and_clear();
    let (rows, bytes) = out.keep(table, &passed_over)?;
    say!("wrote {rows} points, {bytes} bytes, of feed {} to {}", snapshot.feed, out.path.display());
    note_of(&passed_over);
    notes(snapshot, wanted);
    Ok(())
}

fn note_of(passed_over: &PassedOver) {
    if passed_over.series > 0 {
        let PassedOver { series, points } = passed_over;
        say!("note: {series} series of sketches and histograms, {points} points, are not in the file: its values are numbers");
    }
}

/// What a reader of the file should know and its rows can't tell.
fn notes(snapshot: &Snapshot, wanted: &Wanted) {
    let of_range = |window: &Window| wanted.of_window(window);
    let built = snapshot.windows.keys().map(|(window, _)| window);
    let known: BTreeSet<&Window> = snapshot.open.iter().chain(&snapshot.known).chain(built).collect();
    let mut unfinished = known.into_iter().filter(|window| of_range(window) && !snapshot.is_complete(**window));
    if let Some(first) = unfinished.next() {
        let count = 1 + unfinished.count();
        say!(
            "note: {count} window(s) of the range are not complete, the first {}: only what is built of them is in the file",
            rfc3339(first.start_ms())
        );
    }
    for ((window, shard), manifest) in snapshot.windows.iter().filter(|((window, _), _)| of_range(window)) {
        let lost: u64 = manifest.holes.iter().map(|(_, _, start, next)| next - start).sum();
        let (window, damaged) = (rfc3339(window.start_ms()), manifest.quarantined.len());
        if lost > 0 {
            say!("note: window {window}, {shard}: up to {lost} records of the log were lost before they were captured");
        }
        if damaged > 0 {
            say!("note: window {window}, {shard}: {damaged} damaged raw files are left out");
        }
    }
}

/// Where the file goes.
struct Output {
    path: PathBuf,
    overwrite: bool,
}

impl Output {
    fn new(path: PathBuf, overwrite: bool) -> Result<Self, Failure> {
        let out = Self { path, overwrite };
        if out.path.symlink_metadata().is_err() {
            let is_name = out.path.file_name().is_some();
            return if is_name { Ok(out) } else { Err(Failure::usage(format!("{} is no name of a file", out.path.display()))) };
        }
        // A folder or a device is never replaced, told or not; of a link, what it leads to.
        if !out.path.is_file() {
            return Err(Failure::usage(format!("{} is there and no file; name a file", out.path.display())));
        }
        if !overwrite {
            return Err(out.exists());
        }
        let path = out.path.canonicalize().map_err(|error| out.cant_write(error))?;
        Ok(Self { path, overwrite })
    }

    fn exists(&self) -> Failure {
        Failure::usage(format!("TLR-4021: {} is there already; give another name, or --overwrite", self.path.display()))
    }

    fn cant_write(&self, error: impl std::fmt::Display) -> Failure {
        Failure::unavailable(format!("{} can't be written: {error}", self.path.display()))
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// An empty table in a file of another name.
    fn table(&self, notes: Vec<KeyValue>) -> Result<Table<NamedTempFile>, Failure> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // As any new file: the user's mask decides.
        let permissions = Permissions::from_mode(0o666);
        let file =
            tempfile::Builder::new().prefix(&format!(".{name}.")).suffix(".part").permissions(permissions).tempfile_in(self.folder());
        let file = file.map_err(|error| self.cant_write(error))?;
        Table::new(file, notes).map_err(|error: ParquetError| self.cant_write(error))
    }

    /// Makes a table durable and gives it its name; returns rows and bytes. One without rows is not kept.
    fn keep(&self, table: Table<NamedTempFile>, passed_over: &PassedOver) -> Result<(u64, u64), Failure> {
        let rows = table.rows;
        if rows == 0 && passed_over.series > 0 {
            let series = passed_over.series;
            return Err(Failure::no(format!(
                "only sketches and histograms ({series} series) are of this org, metric and time; nothing was written"
            )));
        }
        if rows == 0 {
            return Err(Failure::no("no stored point is of this org, metric and time; nothing was written"));
        }
        let file = table.finish().map_err(|error| self.cant_write(error))?;
        let synced = file.as_file().sync_all().and_then(|()| file.as_file().metadata());
        let bytes = synced.map_err(|error| self.cant_write(error))?.len();
        let kept = if self.overwrite { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        kept.map_err(|failed| match failed.error.kind() {
            std::io::ErrorKind::AlreadyExists => self.exists(),
            _ => self.cant_write(failed.error),
        })?;
        File::open(self.folder()).and_then(|folder| folder.sync_all()).map_err(|error| self.cant_write(error))?;
        Ok((rows, bytes))
    }
}
