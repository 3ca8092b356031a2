//! A day's file: the chunk files of its windows -> one file (several beyond 256 MiB), and which of its points are whose.
//!
//! In: published generations of the day. Out: files under an attempt key that nobody names yet, and what each window's manifest will name.
//! Invariants: the file is read back whole, and its tally (points, and a sum over hashes of every one) is that of the inputs, window by window; a
//! window's points are those of its generation's books; equal inputs give equal bytes for any number of cores. Holds: the inputs' indexes, per core
//! a batch of pages and one bucket, encoded pages up to 256 MiB and the file made of them. Killed here: files under an attempt that nobody names.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::{StreamExt, stream};
use tailors_format::FormatError;
use tailors_format::chunk::{
    ChunkFile, ChunkIndex, DAY_COPY_BYTES, DayError, DayInput, DayPages, DayPart, DayTally, DecodeScratch, EncodedBucket, Span, assemble,
    plan_day, verify_day_file,
};
use tailors_format::doc::{FileRole, ManifestDoc, ManifestFile};
use tailors_format::key;
use tailors_model::limits::{BUCKET_POINTS, CHUNK_FILE_BYTES};
use tailors_model::window::DAY_MS;
use tailors_model::{Clock, ShardId, Window};
use tailors_store::chunks::read_index;
use tailors_store::manifests;
use tailors_store::objects::{Objects, StoreError};

use crate::run::{Timer, blocking};
use crate::{BuildError, Settings};

/// Bytes of pages fetched for one batch of parts, unless one part has more.
const BATCH_BYTES: u64 = 8 << 20;
/// Bytes that a decoded point takes.
const POINT_BYTES: u64 = 12;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct DayOrder {
    /// Shard.
    pub shard: ShardId,
    /// The day's first window.
    pub day: Window,
    /// Published generations that the file is made of, in window order.
    pub inputs: Vec<ManifestDoc>,
    /// Windows whose manifests will name it; each is one of an input.
    pub targets: Vec<Window>,
    /// Files that generations of the same inputs name already: taken if they hold what they should.
    pub made: Vec<ManifestFile>,
    /// Name of this attempt.
    pub attempt: String,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct DayOutput {
    /// For each target in order: the files of its manifest, stored and read back.
    pub files: Vec<Vec<ManifestFile>>,
    /// Bytes of pages and indexes read from the inputs.
    pub bytes_read: u64,
    /// Stage -> microseconds.
    pub stages_us: BTreeMap<String, u64>,
    /// Most bytes held, as counted.
    pub memory_peak_bytes: u64,
    /// Start, Unix milliseconds.
    pub started_ms: i64,
    /// End, Unix milliseconds.
    pub ended_ms: i64,
}

/// Makes the file, or takes what is made. `Input` names the window's file that can't be read.
///
/// # Errors
/// Nothing is published in any case; what to do is the variant of [`BuildError`].
pub async fn run_day(
    order: &DayOrder,
    objects: &Objects,
    memory: &Arc<dyn MemoryPool>,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
) -> Result<DayOutput, BuildError> {
    let mut timer = Timer::start(Arc::clone(clock));
    let started_ms = clock.now_ms();
    let mut held = Held { reservation: MemoryConsumer::new("day file").register(memory), peak: 0 };
    let cores = settings.cores.max(1);
    let made = if order.made.is_empty() { None } else { take_made(order, objects, cores, &mut held).await? };
    timer.lap("made");
    let (made, bytes_read) = match made {
        Some(made) => made,
        None => {
            let opened = open(order.shard, &order.inputs, objects, &mut held).await?;
            timer.lap("inputs");
            let (made, bytes_read) = Work { order, objects, opened: &opened, cores }.make(&mut held, &mut timer).await?;
            (made, bytes_read + opened.bytes_read)
        }
    };
    let files = order.targets.iter().map(|window| files_of(*window, &made, order)).collect::<Result<_, _>>()?;
    timer.lap("verify");
    Ok(DayOutput {
        files,
        bytes_read,
        stages_us: timer.stages_us,
        memory_peak_bytes: held.peak as u64,
        started_ms,
        ended_ms: clock.now_ms(),
    })
}

/// Bytes held, as the pool knows them.
struct Held {
    reservation: MemoryReservation,
    peak: usize,
}

impl Held {
    fn grow(&mut self, bytes: usize) -> Result<(), BuildError> {
        self.reservation.try_grow(bytes).map_err(|error| BuildError::Memory(error.to_string()))?;
        self.peak = self.peak.max(self.reservation.size());
        Ok(())
    }

    /// Room for `each` on as many cores as there is room for, one at least; tells how many.
    fn grow_for(&mut self, cores: usize, each: usize) -> Result<usize, BuildError> {
        for cores in (2..=cores).rev() {
            if self.grow(each.saturating_mul(cores)).is_ok() {
                return Ok(cores);
            }
        }
        self.grow(each).map(|()| 1)
    }

    /// Counts what is held in any case: encoded pages of one file, which has a fixed size.
    fn keep(&mut self, bytes: usize) {
        self.reservation.grow(bytes);
        self.peak = self.peak.max(self.reservation.size());
    }

    fn shrink(&mut self, bytes: usize) {
        self.reservation.shrink(bytes.min(self.reservation.size()));
    }
}

/// The inputs, opened.
struct Opened {
    inputs: Vec<DayInput>,
    /// Key of each.
    keys: Vec<String>,
    bytes_read: u64,
    /// Of all indexes.
    memory_bytes: usize,
}

/// Opens every file of some generations of the day. Neighbouring windows that name one day's file make one input; what a window has of its own stands between.
async fn open(shard: ShardId, generations: &[ManifestDoc], objects: &Objects, held: &mut Held) -> Result<Opened, BuildError> {
    let mut wanted: Vec<ManifestFile> = Vec::new();
    for manifest in generations {
        for file in &manifest.files {
            match wanted.iter_mut().find(|known| file.continues(known)) {
                Some(known) => known.to_ms = file.to_ms,
                None => wanted.push(file.clone()),
            }
        }
    }
    let mut opened = Opened { inputs: Vec::with_capacity(wanted.len()), keys: Vec::new(), bytes_read: 0, memory_bytes: 0 };
    let mut known: BTreeMap<String, Arc<ChunkIndex>> = BTreeMap::new();
    for file in wanted {
        let index = match known.get(&file.key) {
            Some(index) => Arc::clone(index),
            None => {
                let read = read_index(objects, shard, &file.key, file.bytes).await;
                let (index, bytes) = read.map_err(|error| input_error(&file.key, error))?;
                opened.bytes_read += bytes;
                held.grow(index.memory_bytes())?;
                opened.memory_bytes += index.memory_bytes();
                Arc::clone(known.entry(file.key.clone()).or_insert(Arc::new(index)))
            }
        };
        opened.inputs.push(DayInput { index, from_ms: file.from_ms, to_ms: file.to_ms });
        opened.keys.push(file.key);
    }
    Ok(opened)
}

/// A store error on a file of the inputs: lost and damaged ones are the data's fault.
fn input_error(key: &str, error: StoreError) -> BuildError {
    match error {
        StoreError::NotFound(_) | StoreError::Data { .. } => BuildError::Input { segment: key.to_owned(), why: error.to_string() },
        error => error.into(),
    }
}

/// Parts that are fetched together.
#[derive(Default)]
struct Batch {
    parts: Vec<DayPart>,
    bytes: u64,
    points: u64,
}

/// A stored file and its points by window.
struct Made {
    key: String,
    bytes: u64,
    hash: String,
    tally: DayTally,
}

/// The parts of the day in order, as many together as one fetch and one thread should take.
fn cut_batches(inputs: &[DayInput]) -> Result<Vec<Batch>, DayError> {
    let mut batches: Vec<Batch> = Vec::new();
    for part in plan_day(inputs, DAY_COPY_BYTES)? {
        let bytes: u64 = part.reads(inputs).iter().flat_map(|(_, ranges)| ranges).map(|range| range.end - range.start).sum();
        let points = part.points(inputs);
        let fits = |batch: &&mut Batch| batch.bytes + bytes <= BATCH_BYTES && batch.points + points <= BUCKET_POINTS;
        match batches.last_mut().filter(fits) {
            Some(batch) => {
                batch.parts.push(part);
                batch.bytes += bytes;
                batch.points += points;
            }
            None => batches.push(Batch { parts: vec![part], bytes, points }),
        }
    }
    Ok(batches)
}

struct Work<'a> {
    order: &'a DayOrder,
    objects: &'a Objects,
    opened: &'a Opened,
    cores: usize,
}

impl Work<'_> {
    fn span(&self) -> Span {
        Span { start_ms: self.order.day.start_ms(), span_ms: DAY_MS as u32 }
    }

    async fn batches(&self) -> Result<Vec<Batch>, BuildError> {
        let inputs = self.opened.inputs.clone();
        let batches = blocking(move || cut_batches(&inputs)).await?;
        batches.map_err(|error| self.day_error(error))
    }

    /// Fetches and encodes batches, several at once, in order; a file is stored as soon as it has its bytes.
    async fn make(&self, held: &mut Held, timer: &mut Timer) -> Result<(Vec<Made>, u64), BuildError> {
        let batches = self.batches().await?;
        timer.lap("plan");
        let (mut tally, mut made, mut bytes_read) = (DayTally::new(self.order.day.start_ms()), Vec::new(), 0);
        // What the batches in work may hold at most: pages, and the columns of a bucket twice.
        let most = batches.iter().map(|batch| batch.bytes + 2 * batch.points * POINT_BYTES).max().unwrap_or(0);
        let cores = held.grow_for(self.cores.min(batches.len()), most as usize)?;
        let mut encoded = stream::iter(batches).map(|batch| self.encode(batch)).buffered(cores);
        let (mut open, mut open_bytes): (Vec<EncodedBucket>, u64) = Default::default();
        while let Some(done) = encoded.next().await {
            let (buckets, own, bytes) = done?;
            timer.lap("encode");
            tally.merge(&own);
            bytes_read += bytes;
            for bucket in buckets {
                held.keep(bucket.bytes() as usize);
                open_bytes += bucket.bytes();
                open.push(bucket);
                // The same edge as that of `assemble`, so that no more than one file is held.
                if open_bytes > CHUNK_FILE_BYTES {
                    self.store(std::mem::take(&mut open), &mut made, timer).await?;
                    held.shrink(std::mem::take(&mut open_bytes) as usize);
                }
            }
        }
        check_books(&tally, &self.order.inputs)?;
        self.store(open, &mut made, timer).await?;
        let stored = sum_of(&made, self.order.day);
        if stored != tally {
            return Err(BuildError::Bug(format!("the day's file holds other points than its inputs: {stored:?}, {tally:?}")));
        }
        Ok((made, bytes_read))
    }

    /// Fetches the pages of a batch and encodes it.
    async fn encode(&self, batch: Batch) -> Result<(Vec<EncodedBucket>, DayTally, u64), BuildError> {
        let pages = self.fetch(&batch).await?;
        let (inputs, span, bytes) = (self.opened.inputs.clone(), self.span(), batch.bytes);
        let done = blocking(move || {
            let (mut scratch, mut tally) = (DecodeScratch::default(), DayTally::new(span.start_ms));
            let parts = batch.parts.iter().map(|part| part.encode(&inputs, &pages, span, &mut scratch, &mut tally));
            let buckets = parts.collect::<Result<Vec<EncodedBucket>, DayError>>()?;
            Ok((buckets, tally))
        });
        let (buckets, tally) = done.await?.map_err(|error| self.day_error(error))?;
        Ok((buckets, tally, bytes))
    }

    async fn fetch(&self, batch: &Batch) -> Result<DayPages, BuildError> {
        let mut wanted: BTreeMap<usize, Vec<std::ops::Range<u64>>> = BTreeMap::new();
        for (input, ranges) in batch.parts.iter().flat_map(|part| part.reads(&self.opened.inputs)) {
            wanted.entry(input).or_default().extend(ranges);
        }
        let mut pages = DayPages::default();
        for (input, mut ranges) in wanted {
            // Parts of one metric may share a page.
            ranges.sort_unstable_by_key(|range| range.start);
            ranges.dedup_by(|next, last| {
                let meets = next.start <= last.end;
                last.end = if meets { last.end.max(next.end) } else { last.end };
                meets
            });
            let key = &self.opened.keys[input];
            let got = self.objects.get_ranges(key, &ranges).await.map_err(|error| input_error(key, error))?;
            ranges.into_iter().zip(got).for_each(|(range, bytes)| pages.put(input, range.start, bytes));
        }
        Ok(pages)
    }

    /// Damage of an input names its file.
    fn day_error(&self, error: DayError) -> BuildError {
        match error.input.and_then(|input| self.opened.keys.get(input)) {
            Some(key) => BuildError::Input { segment: key.clone(), why: error.to_string() },
            None => BuildError::Bug(error.to_string()),
        }
    }

    /// Assembles one file, stores it, reads it back and counts its points.
    async fn store(&self, buckets: Vec<EncodedBucket>, made: &mut Vec<Made>, timer: &mut Timer) -> Result<(), BuildError> {
        let (shard, span) = (self.order.shard, self.span());
        let files = blocking(move || assemble(shard, span, buckets)).await?.map_err(|error| BuildError::Bug(error.to_string()))?;
        timer.lap("assemble");
        for ChunkFile { bytes, .. } in files {
            let key = key::day_chunk(shard, self.order.day, &self.order.attempt, made.len() as u32);
            let bytes = Bytes::from(bytes);
            self.objects.put_data(&key, bytes.clone()).await?;
            timer.lap("upload");
            let back = self.objects.get(&key).await?;
            if back != bytes {
                return Err(BuildError::Retry(format!("{key} came back with other bytes than were put")));
            }
            drop(bytes);
            let length = back.len() as u64;
            let (hash, tally) = count(shard, back, span.start_ms).await?.map_err(|error| BuildError::Bug(format!("{key}: {error}")))?;
            timer.lap("verify");
            made.push(Made { key, bytes: length, hash, tally });
        }
        Ok(())
    }

    /// The points of a batch, nothing made of them.
    async fn count(&self, batch: Batch) -> Result<(DayTally, u64), BuildError> {
        let pages = self.fetch(&batch).await?;
        let (inputs, start_ms, bytes) = (self.opened.inputs.clone(), self.order.day.start_ms(), batch.bytes);
        let done = blocking(move || {
            let (mut scratch, mut tally) = (DecodeScratch::default(), DayTally::new(start_ms));
            batch.parts.iter().try_for_each(|part| part.count(&inputs, &pages, &mut scratch, &mut tally))?;
            Ok(tally)
        });
        Ok((done.await?.map_err(|error| self.day_error(error))?, bytes))
    }
}

/// The files that others named, if they are whole and hold the points of every target; `None`: they have to be made. Of the inputs only those of the
/// targets are read: of the other windows the files named are what counts, and what these were made of may be gone.
async fn take_made(order: &DayOrder, objects: &Objects, cores: usize, held: &mut Held) -> Result<Option<(Vec<Made>, u64)>, BuildError> {
    let mut made = Vec::with_capacity(order.made.len());
    for file in &order.made {
        let bytes = match objects.get(&file.key).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound(_) | StoreError::Data { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if manifests::file_hash(&bytes) != file.hash {
            return Ok(None);
        }
        let size = bytes.len();
        held.grow(size)?;
        let counted = count(order.shard, bytes, order.day.start_ms()).await?;
        held.shrink(size);
        let Ok((hash, tally)) = counted else { return Ok(None) };
        made.push(Made { key: file.key.clone(), bytes: file.bytes, hash, tally });
    }
    let is_target = |input: &&ManifestDoc| order.targets.iter().any(|target| target.start_s() == input.window);
    let inputs: Vec<ManifestDoc> = order.inputs.iter().filter(is_target).cloned().collect();
    let opened = open(order.shard, &inputs, objects, held).await?;
    let work = Work { order, objects, opened: &opened, cores };
    let (mut tally, mut bytes_read) = (DayTally::new(order.day.start_ms()), opened.bytes_read);
    let mut counted = stream::iter(work.batches().await?).map(|batch| work.count(batch)).buffered(cores);
    while let Some(own) = counted.next().await {
        let (own, bytes) = own?;
        tally.merge(&own);
        bytes_read += bytes;
    }
    held.shrink(opened.memory_bytes);
    check_books(&tally, &inputs)?;
    let stored = sum_of(&made, order.day);
    let is_same = |window: &Window| place(*window).is_some_and(|at| stored.windows[at] == tally.windows[at]);
    Ok(order.targets.iter().all(is_same).then_some((made, bytes_read)))
}

/// Whether the inputs hold what their generations' books say.
fn check_books(tally: &DayTally, inputs: &[ManifestDoc]) -> Result<(), BuildError> {
    for manifest in inputs {
        let window = Window::starting_at_s(manifest.window);
        let points = window.and_then(place).map(|at| tally.windows[at].points);
        if points != Some(manifest.counts.written) {
            let segment = manifest.files.first().map(|file| file.key.clone()).unwrap_or_default();
            let why = format!("generation {} has {} points, its files hold {}", manifest.g, manifest.counts.written, points.unwrap_or(0));
            return Err(BuildError::Input { segment, why });
        }
    }
    Ok(())
}

/// SHA-256 and points of a file.
async fn count(shard: ShardId, bytes: Bytes, start_ms: i64) -> Result<Result<(String, DayTally), FormatError>, BuildError> {
    blocking(move || {
        let (_, tally) = verify_day_file(shard, &bytes, start_ms)?;
        Ok((manifests::file_hash(&bytes), tally))
    })
    .await
}

fn sum_of(made: &[Made], day: Window) -> DayTally {
    let mut sum = DayTally::new(day.start_ms());
    made.iter().for_each(|file| sum.merge(&file.tally));
    sum
}

/// Number of a window in its day.
fn place(window: Window) -> Option<usize> {
    window.day().iter().position(|own| *own == window)
}

/// What a window's manifest names: the files that hold points of it.
fn files_of(window: Window, made: &[Made], order: &DayOrder) -> Result<Vec<ManifestFile>, BuildError> {
    let at = place(window).filter(|_| window.first_of_day() == order.day);
    let at = at.ok_or_else(|| BuildError::Bug(format!("window {window} is of another day")))?;
    let own = made.iter().filter(|file| file.tally.windows[at].points > 0).map(|file| ManifestFile {
        key: file.key.clone(),
        role: FileRole::Day,
        from_ms: window.start_ms(),
        to_ms: window.end_ms(),
        bytes: file.bytes,
        hash: file.hash.clone(),
        points: file.tally.windows[at].points,
    });
    Ok(own.collect())
}
