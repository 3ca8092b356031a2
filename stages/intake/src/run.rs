//! The recipe: authorize, decompress, decode, admit, group by (window, partition), append all, and only then answer.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use tailors_format::payload::PayloadWriter;
use tailors_model::{OrgId, Window};

use crate::admit::{AdmitScratch, Admitted, admit};
use crate::auth::{KeyText, Principal, Scope};
use crate::counters::{Counters, Counts};
use crate::decode::{DecodeScratch, Item, Protocol, decode};
use crate::decompress::{Encoding, decompress};
use crate::group::{Grouped, Groups, Ready, Receipts, Shared};
use crate::partition::Rotor;
use crate::quota::Quotas;
use crate::refusal::{Cause, Reason, Refusal, Refused, shown};
use crate::{IntakeDeps, Settings};

/// Bodies above this are decoded on the blocking pool, so that others' small requests don't wait behind them.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Scratches kept; more requests at a time than this allocate their own.
const SCRATCHES_KEPT: usize = 16;
/// Writers kept per scratch.
const WRITERS_KEPT: usize = 4;
/// Bytes of decompressed body kept per scratch.
const BODY_BYTES_KEPT: usize = 4 << 20;
/// Metadata entries of one request; more are left out and counted.
const METADATA_MAX: usize = 50_000;
/// The body itself, decoded, as columns, as payloads: what a request holds per byte of its body, roughly.
const HELD_PER_BODY_BYTE: usize = 4;
/// Unit of the in-flight budget.
const ROOM_BYTES: usize = 1 << 10;

/// The intake of one process.
pub struct Intake {
    pub(crate) deps: IntakeDeps,
    pub(crate) counters: Counters,
    stamps: Stamps,
    rotor: Rotor,
    quotas: Quotas,
    room: Semaphore,
    scratches: Mutex<Vec<Scratch>>,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("intake_id", &self.deps.intake_id).finish_non_exhaustive()
    }
}

struct Stamps {
    last_us: AtomicI64,
    sequence: AtomicU64,
    clock: Arc<dyn tailors_model::Clock>,
}

impl Receipts for Stamps {
    fn received_at_us(&self) -> i64 {
        let now_us = self.clock.now_us();
        let after = |last: i64| now_us.max(last.saturating_add(1));
        let last = self.last_us.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(after(last)));
        // The closure never declines, so both arms hold the value before.
        last.map_or_else(after, after)
    }

    fn sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }
}

/// Buffers that live from request to request.
#[derive(Default)]
struct Scratch {
    body: Vec<u8>,
    decode: DecodeScratch,
    admit: AdmitScratch,
    writers: Vec<PayloadWriter>,
}

/// A request whose body has arrived.
pub(crate) struct Arrived {
    pub(crate) protocol: Protocol,
    pub(crate) org: OrgId,
    /// Whether its points may be of any age down to retention.
    pub(crate) backfill: bool,
    pub(crate) encoding: Encoding,
    pub(crate) body: Bytes,
}

/// What a request came to once all of it is acknowledged.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Points acknowledged.
    pub(crate) points: u64,
    pub(crate) refused: Refused,
}

impl Intake {
    /// An intake; start one per process, `intake_id` and `received_floor_us` tell it from the ones before.
    pub fn new(deps: IntakeDeps) -> Self {
        let clock = Arc::clone(&deps.clock);
        let stamps = Stamps { last_us: AtomicI64::new(deps.received_floor_us), sequence: AtomicU64::new(0), clock };
        let room = Semaphore::new((deps.settings.inflight_bytes_max.max(64 << 20) / ROOM_BYTES).min(Semaphore::MAX_PERMITS));
        Self {
            deps,
            counters: Counters::default(),
            stamps,
            rotor: Rotor::default(),
            quotas: Quotas::default(),
            room,
            scratches: Mutex::new(Vec::new()),
        }
    }

    /// What was taken and refused since this process started.
    pub fn counts(&self) -> Counts {
        self.counters.snapshot()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.deps.settings
    }

    /// Who sends, and whether they may.
    pub(crate) async fn authorize(&self, key: Option<KeyText>) -> Result<Principal, Refusal> {
        let key = key.ok_or_else(Refusal::no_key)?;
        let found = self.deps.authorizer.authorize(key.secret(), self.deps.clock.now_ms()).await;
        let found = found.map_err(|error| Refusal::new(Cause::KeyStore, error.to_string()))?;
        found.ok_or_else(Refusal::unknown_key)
    }

    /// The org that a principal may send points for.
    pub(crate) fn may_write(&self, principal: &Principal) -> Result<OrgId, Refusal> {
        principal.may_write().ok_or_else(|| Refusal::scope(Scope::Write))
    }

    /// A share of the in-flight budget for a body of at most `body_bytes`; given back when dropped.
    pub(crate) fn room(&self, body_bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let held = (body_bytes.max(ROOM_BYTES) * HELD_PER_BODY_BYTE).min(self.settings().inflight_bytes_max.max(64 << 20));
        let units = u32::try_from(held / ROOM_BYTES).unwrap_or(u32::MAX);
        self.room.try_acquire_many(units).map_err(|_| Refusal::new(Cause::Busy, "too many requests in work; try again"))
    }

    /// Takes a request. `Ok` means: every admitted point is in the log, acknowledged.
    pub(crate) async fn take(self: &Arc<Self>, arrived: Arrived) -> Result<Taken, Refusal> {
        let org = arrived.org;
        let now_us = self.deps.clock.now_us();
        let (grouped, refused) = if arrived.body.len() <= INLINE_BYTES_MAX {
            self.encode(&arrived, now_us)?
        } else {
            let intake = Arc::clone(self);
            let work = move || intake.encode(&arrived, now_us);
            tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::new(Cause::Internal, error.to_string()))??
        };
        self.may_dirty(org, &grouped.windows, now_us)?;
        self.within_quota(org, grouped.points, now_us)?;
        self.append(grouped.ready).await?;
        self.announce(&grouped.windows);
        self.counters.taken(org, grouped.points, &refused);
        Ok(Taken { points: grouped.points, refused })
    }

    /// Says which windows have points now.
    fn announce(&self, windows: &[Window]) {
        let known = &self.deps.windows_with_points;
        let all_known = windows.iter().all(|window| known.borrow().contains(window));
        if !all_known {
            known.send_modify(|known| known.extend(windows));
        }
    }

    /// Decompress, decode, admit, group: a body becomes payloads.
    fn encode(&self, arrived: &Arrived, now_us: i64) -> Result<(Grouped, Refused), Refusal> {
        let mut scratch = self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let result = self.encode_with(arrived, now_us, &mut scratch);
        // Writers of a request that was given up are gone with it; the rest goes back, trimmed.
        scratch.decode.trim();
        scratch.writers.truncate(WRITERS_KEPT);
        scratch.body.truncate(BODY_BYTES_KEPT);
        scratch.body.shrink_to(BODY_BYTES_KEPT);
        let mut scratches = self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        if scratches.len() < SCRATCHES_KEPT {
            scratches.push(scratch);
        }
        result
    }

    fn encode_with(&self, arrived: &Arrived, now_us: i64, scratch: &mut Scratch) -> Result<(Grouped, Refused), Refusal> {
        let settings = self.settings();
        let (org, now_ms) = (arrived.org, now_us.div_euclid(1_000));
        let decoded_bytes_max = match arrived.protocol {
            Protocol::RemoteWrite => settings.remote_write_decoded_bytes_max,
            Protocol::Datadog => settings.datadog_decoded_bytes_max,
        };
        let body = decompress(arrived.encoding, &arrived.body, decoded_bytes_max, &mut scratch.body)?;
        let admitted = Admitted::at(now_ms, arrived.backfill, settings.of(org));
        let shared = Shared {
            org,
            admitted,
            now_ms,
            intake_id: self.deps.intake_id,
            hash_seed: self.deps.hash_seed,
            receipts: &self.stamps,
            partitioning: settings.partitioning,
            partitions: self.deps.log.partitions(),
            windows_max: settings.request_windows_max,
        };
        let mut refused = Refused::default();
        let mut groups = Groups::new(shared, &mut scratch.writers);
        let admit_scratch = &mut scratch.admit;
        decode(arrived.protocol, body, settings.request_points_max, &mut scratch.decode, &mut |item| match item {
            Item::Series(batch) => {
                let (timestamps_ms, values) = admit(&batch, &admitted, admit_scratch, &mut refused);
                groups.add(&batch, timestamps_ms, values)
            }
            Item::Metadata { metric, meta } => {
                if groups.metadata_len() < METADATA_MAX {
                    groups.add_metadata(metric, meta);
                } else {
                    refused.add(Reason::Metadata, 1, String::new);
                }
                Ok(())
            }
            Item::Refused { reason, points, metric } => {
                refused.add(reason, points, || format!("first: metric `{}`", shown(metric)));
                Ok(())
            }
        })?;
        Ok((groups.finish()?, refused))
    }

    /// Late data rebuilds windows, so an org may only have so many waiting.
    fn may_dirty(&self, org: OrgId, windows: &[Window], now_us: i64) -> Result<(), Refusal> {
        let ended = windows.iter().any(|window| window.end_ms() <= now_us.div_euclid(1_000));
        let limit = self.settings().of(org).dirty_windows_max;
        if ended && (self.deps.dirty_windows)(org) >= limit {
            let text = format!("{limit} ended windows wait to be built; points of the current window are still taken");
            return Err(Refusal::new(Cause::DirtyWindows, text));
        }
        Ok(())
    }

    fn within_quota(&self, org: OrgId, points: u64, now_us: i64) -> Result<(), Refusal> {
        let per_s = self.settings().of(org).points_per_s_max;
        let text = || format!("more than {per_s} points a second");
        let refusal = |seconds| Refusal { retry_after_s: Some(seconds), ..Refusal::new(Cause::Rate, text()) };
        self.quotas.take(org, points, per_s, now_us).map_err(refusal)
    }

    /// Appends all payloads at once; any that is not acknowledged fails the request, the sender repeats it, P4 removes doubles.
    async fn append(&self, ready: Vec<Ready>) -> Result<(), Refusal> {
        let log = &self.deps.log;
        let one = |ready: Ready| {
            let partition = ready.partition.unwrap_or_else(|| self.rotor.next(log.partitions()));
            log.append(partition, ready.payload)
        };
        let results = futures::future::join_all(ready.into_iter().map(one)).await;
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(Refusal::new(Cause::Log, error.to_string())))
    }
}
