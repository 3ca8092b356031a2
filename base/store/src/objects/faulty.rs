//! An object store in memory that fails on purpose, for tests of everything above it. Seeded: the same calls fail the same way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::retry::{SPLIT_MIX_STEP, split_mix};

/// One way to fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// The request never reaches the store; the answer is an error.
    BeforeApply,
    /// The request is carried out; the answer is an error all the same.
    AfterApply,
    /// A put-if-absent is answered with "already exists" although nothing is there and nothing is put (a 409 as some clients report it).
    SpuriousExists,
    /// The body of a read stops half way.
    Truncated,
    /// The credentials are refused.
    Denied,
}

/// How often requests fail, in thousandths.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FaultRates {
    /// [`Fault::BeforeApply`], any request.
    pub before_apply: u16,
    /// [`Fault::AfterApply`], puts and deletes.
    pub after_apply: u16,
    /// [`Fault::SpuriousExists`], puts if absent.
    pub spurious_exists: u16,
    /// [`Fault::Truncated`], reads of bodies.
    pub truncated: u16,
}

/// [`InMemory`] with faults; clones share objects and faults.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: u64,
    rates: FaultRates,
    next_put: VecDeque<Fault>,
    next_get: VecDeque<Fault>,
    requests: u64,
    faults: u64,
    /// Puts until the process is dead, and whether the last of them is carried out.
    kill_at: Option<(u64, bool)>,
    is_killed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Put { create: bool },
    Get,
    Other,
}

impl FaultyStore {
    /// An empty store without faults.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: seed,
            rates: FaultRates::default(),
            next_put: VecDeque::new(),
            next_get: VecDeque::new(),
            requests: 0,
            faults: 0,
            kill_at: None,
            is_killed: false,
        };
        Self { inner: Arc::new(InMemory::new()), state: Arc::new(Mutex::new(state)) }
    }

    /// A store without faults that begins with what is in this one; the two go on apart.
    pub fn fork(&self, seed: u64) -> Self {
        Self { inner: Arc::new(self.inner.fork()), ..Self::new(seed) }
    }

    /// The same objects as another process sees them: without this one's faults, and alive when this one is killed.
    pub fn beside(&self, seed: u64) -> Self {
        Self { inner: Arc::clone(&self.inner), ..Self::new(seed) }
    }

    /// The process dies at its `put`-th put from now on (from 1): that one and all later requests are never answered. `applied`: it reaches the store.
    pub fn kill_at_put(&self, put: u64, applied: bool) {
        self.state().kill_at = Some((put, applied));
    }

    /// Whether [`Self::kill_at_put`] has come true.
    pub fn is_killed(&self) -> bool {
        self.state().is_killed
    }

    /// Counts a put; `Some` when it is the last one: whether it is to be carried out.
    fn dies_at_put(&self) -> Option<bool> {
        let mut state = self.state();
        let (left, applied) = state.kill_at.as_mut()?;
        *left = left.saturating_sub(1);
        let applied = (*left == 0).then_some(*applied)?;
        let first = !std::mem::replace(&mut state.is_killed, true);
        Some(applied && first)
    }

    /// Never comes back once the process is dead.
    async fn live(&self) {
        tokio::task::yield_now().await;
        if self.is_killed() {
            std::future::pending::<()>().await;
        }
    }

    /// From now on requests fail this often.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state().rates = rates;
    }

    /// The next put fails like this; further calls queue up.
    pub fn fail_next_put(&self, fault: Fault) {
        self.state().next_put.push_back(fault);
    }

    /// The next read of a body fails like this; further calls queue up.
    pub fn fail_next_get(&self, fault: Fault) {
        self.state().next_get.push_back(fault);
    }

    /// Requests seen, and how many of them failed.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.requests, state.faults)
    }

    /// The store below, to look or tamper without faults.
    pub fn inner(&self) -> &Arc<InMemory> {
        &self.inner
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, verb: Verb) -> Option<Fault> {
        let mut state = self.state();
        state.requests += 1;
        let planned = match verb {
            Verb::Put { .. } => state.next_put.pop_front(),
            Verb::Get => state.next_get.pop_front(),
            Verb::Other => None,
        };
        let fault = planned.or_else(|| {
            let mut point = split_mix(state.random) % 1_000;
            state.random = state.random.wrapping_add(SPLIT_MIX_STEP);
            let rates = state.rates;
            let possible = [
                (Fault::BeforeApply, rates.before_apply, true),
                (Fault::AfterApply, rates.after_apply, matches!(verb, Verb::Put { .. })),
                (Fault::SpuriousExists, rates.spurious_exists, verb == Verb::Put { create: true }),
                (Fault::Truncated, rates.truncated, verb == Verb::Get),
            ];
            for (fault, rate, applies) in possible {
                if point < u64::from(rate) {
                    return applies.then_some(fault);
                }
                point -= u64::from(rate);
            }
            None
        });
        state.faults += u64::from(fault.is_some());
        fault
    }
}

fn error(fault: Fault, path: &Path) -> Error {
    let source = format!("injected: {fault:?}").into();
    let path = path.to_string();
    match fault {
        Fault::SpuriousExists => Error::AlreadyExists { path, source },
        Fault::Denied => Error::PermissionDenied { path, source },
        Fault::BeforeApply | Fault::AfterApply | Fault::Truncated => Error::Generic { store: "FaultyStore", source },
    }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        // Lets other tasks in between, as a network would.
        self.live().await;
        if let Some(applied) = self.dies_at_put() {
            if applied {
                self.inner.put_opts(location, payload, opts).await?;
            }
            return std::future::pending().await;
        }
        match self.decide(Verb::Put { create: opts.mode == PutMode::Create }) {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::AfterApply) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(error(Fault::AfterApply, location))
            }
            Some(fault) => Err(error(fault, location)),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        match self.decide(Verb::Other) {
            Some(fault) => Err(error(fault, location)),
            None => self.inner.put_multipart_opts(location, opts).await,
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.live().await;
        match self.decide(if options.head { Verb::Other } else { Verb::Get }) {
            None => self.inner.get_opts(location, options).await,
            Some(Fault::Truncated) => {
                let result = self.inner.get_opts(location, options).await?;
                let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
                let body = result.bytes().await?;
                let half = body.slice(..body.len() / 2);
                Ok(GetResult { payload: GetResultPayload::Stream(stream::once(async { Ok(half) }).boxed()), meta, range, attributes })
            }
            Some(fault) => Err(error(fault, location)),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.live().await;
        match self.decide(Verb::Get) {
            None => self.inner.get_ranges(location, ranges).await,
            Some(Fault::Truncated) => {
                let whole = self.inner.get_ranges(location, ranges).await?;
                Ok(whole.into_iter().map(|bytes| bytes.slice(..bytes.len() / 2)).collect())
            }
            Some(fault) => Err(error(fault, location)),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.is_killed() {
            return stream::pending().boxed();
        }
        let store = self.clone();
        let decided = locations.map(move |location| {
            let location = location?;
            match store.decide(Verb::Other) {
                Some(fault) => Err(error(fault, &location)),
                None => Ok(location),
            }
        });
        self.inner.delete_stream(decided.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.is_killed() {
            return stream::pending().boxed();
        }
        match self.decide(Verb::Other) {
            Some(fault) => {
                let failed = Err(error(fault, &prefix.cloned().unwrap_or_default()));
                stream::once(async { failed }).boxed()
            }
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.live().await;
        match self.decide(Verb::Other) {
            Some(fault) => Err(error(fault, &prefix.cloned().unwrap_or_default())),
            None => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
