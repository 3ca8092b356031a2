//! What control knows of the store: read once, then followed. Everything here can be lost and read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailors_format::doc::{DoneDoc, ManifestDoc, ManifestKind, PlanDoc, SealDoc, SealKind};
use tailors_format::key;
use tailors_model::{RouteTable, ShardId, Window};
use tailors_store::chain::ChainView;
use tailors_store::feed::FeedView;
use tailors_store::{Objects, StoreError, manifests, plans, registry, routes, seals};

use crate::day::DayRec;
use crate::plan::{self, Below};
use crate::seal::{NewPoints, new_points};

/// Seals kept of a window beside the complete ones.
const SEALS_KEPT: usize = 4;

/// Everything.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) chain: ChainView,
    pub(crate) feed: FeedView,
    pub(crate) epochs: Vec<u32>,
    pub(crate) created_ms: Option<i64>,
    routes: BTreeMap<u32, Arc<RouteTable>>,
    pub(crate) windows: BTreeMap<Window, WindowRec>,
    /// First window whose closing time this process has not come to yet.
    pub(crate) next_to_close: Option<Window>,
    /// Windows with a damaged document.
    damaged: BTreeSet<Window>,
    heads: Vec<(u32, u32, u64)>,
    /// Grows whenever a chain head moves; facts of windows are computed once per version.
    pub(crate) chain_version: u64,
    pub(crate) attempts: u64,
    pub(crate) swept_ms: Option<i64>,
    /// Days of shards with window files whose time to be put into one file is known.
    pub(crate) days: BTreeMap<(Window, ShardId), DayRec>,
    pub(crate) days_looked_ms: Option<i64>,
    /// Days of shards with files that perhaps nobody names.
    pub(crate) day_sweeps: BTreeSet<(Window, ShardId)>,
    /// Every record received before this was in the chain at the last look, Unix milliseconds: quiet times are counted up to here, since what
    /// came after it may still lie in the log.
    pub(crate) captured_to_ms: i64,
    /// The window that was read again last; the others take their turns.
    pub(crate) reread: Option<Window>,
    pub(crate) reread_ms: Option<i64>,
    /// Streams that the log in use replaced have their end nodes.
    pub(crate) replaced_streams_ended: bool,
}

/// One window.
#[derive(Default)]
pub(crate) struct WindowRec {
    pub(crate) newest: Option<SealDoc>,
    /// Complete seals, and the last few others.
    pub(crate) seals: BTreeMap<u32, SealDoc>,
    pub(crate) done: BTreeSet<u32>,
    /// Shards that the newest done mark lists.
    pub(crate) listed: BTreeSet<ShardId>,
    pub(crate) shards: BTreeMap<ShardId, ShardRec>,
    pub(crate) first_seen_ms: Option<i64>,
    pub(crate) published_ms: Option<i64>,
    /// What the builds of all shards on the newest seal built took together.
    pub(crate) build_ms: i64,
    /// The k they stand on.
    build_ms_of: u32,
    /// All that is left to do is waiting for jobs that fail.
    pub(crate) only_failing: bool,
    /// Nothing to plan, mark or repair until a seal or a manifest is added.
    pub(crate) settled: bool,
    pub(crate) new: Option<NewPoints>,
    facts_of: Option<(u64, u32)>,
    /// Inputs below the seals that the chain has reached; dropped when the window is settled.
    below: BTreeMap<u32, Arc<Below>>,
    /// Inputs of all that is captured, of so many nodes, by that version of the routes.
    captured: Option<(usize, u32, Arc<Below>)>,
}

/// One shard of a window.
#[derive(Default)]
pub(crate) struct ShardRec {
    /// All decided generations; g = index + 1.
    pub(crate) decided: Vec<ManifestDoc>,
    /// `nodes_digest` of the plan of each decided generation.
    pub(crate) digests: Vec<String>,
    /// Plan of the undecided generation after them.
    pub(crate) plan: Option<PlanDoc>,
    pub(crate) job: Job,
    /// Generations whose superseded or orphaned files this process has removed.
    pub(crate) swept: BTreeSet<u32>,
    /// Generations that another process may have attempted: when they are decided, files of attempts that nobody names are left.
    pub(crate) attempted: BTreeSet<u32>,
}

/// How the attempts at the undecided plan go.
#[derive(Default)]
pub(crate) struct Job {
    pub(crate) running: bool,
    pub(crate) failed: u32,
    pub(crate) not_before_ms: i64,
    pub(crate) parked: Option<Parked>,
    /// Raw file -> attempts that failed on it.
    pub(crate) strikes: BTreeMap<String, u32>,
}

impl Job {
    /// Whether its last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        !self.running && (self.failed > 0 || self.parked.is_some() || !self.strikes.is_empty())
    }
}

/// Why a job is not tried any more.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) why: String,
    /// For what may pass by itself (a full disk): when it is tried again, Unix milliseconds.
    pub(crate) again_ms: Option<i64>,
}

impl WindowRec {
    /// Takes what a build on seal k took.
    pub(crate) fn took(&mut self, k: u32, took_ms: i64) {
        if self.build_ms_of != k {
            (self.build_ms_of, self.build_ms) = (k, 0);
        }
        self.build_ms += took_ms;
    }

    /// k of the closed seal.
    pub(crate) fn closed(&self) -> Option<&SealDoc> {
        self.seals.values().find(|seal| seal.kind == SealKind::Closed)
    }

    /// Takes a seal that stands in the store.
    pub(crate) fn adopt(&mut self, seal: SealDoc) {
        (self.settled, self.only_failing) = (false, false);
        self.seals.insert(seal.k, seal.clone());
        if self.newest.as_ref().is_none_or(|newest| newest.k < seal.k) {
            self.newest = Some(seal);
        }
        let others: Vec<u32> = self.seals.values().filter(|seal| !seal.kind.is_complete()).map(|seal| seal.k).collect();
        for k in others.iter().rev().skip(SEALS_KEPT) {
            self.seals.remove(k);
            self.below.remove(k);
        }
    }

    /// Takes a done mark that stands in the store.
    pub(crate) fn take_done(&mut self, done: &DoneDoc) {
        if self.done.iter().all(|k| *k <= done.k) {
            self.listed = done.shards.keys().filter_map(|shard| shard.parse().ok()).collect();
        }
        self.done.insert(done.k);
    }

    /// Nothing is left to do, or there is again.
    pub(crate) fn settle(&mut self, settled: bool) {
        self.settled = settled;
        if settled {
            self.below.clear();
            self.captured = None;
        }
    }

    /// The highest seal that the chain has reached: the only one that is planned.
    pub(crate) fn buildable(&self, chain: &ChainView) -> Option<&SealDoc> {
        self.seals.values().rev().find(|seal| chain.reached(seal))
    }

    /// Whether work on the newest seal is still under way. Shards whose jobs fail don't count: they must not take early looks from the others.
    pub(crate) fn outstanding(&self) -> bool {
        self.newest.is_some() && !self.settled && !self.only_failing
    }
}

impl ShardRec {
    /// Digest of the inputs of the newest published generation.
    pub(crate) fn base_digest(&self) -> Option<&str> {
        let base = crate::plan::base(&self.decided)?;
        let index = usize::try_from(base.g).ok()?.checked_sub(1)?;
        self.digests.get(index).map(String::as_str)
    }

    /// Reads the generations decided since the last look, and the plan of the one after them; tells whether there was any decision.
    async fn read_on(&mut self, objects: &Objects, (window, shard): (Window, ShardId)) -> Result<bool, StoreError> {
        let known = u32::try_from(self.decided.len()).unwrap_or(u32::MAX);
        let mut next = known.saturating_add(1);
        for manifest in manifests::all_after(objects, shard, window, known).await? {
            let plan = plans::get(objects, shard, window, manifest.g).await?;
            self.decide(manifest, plan.map(|plan| plan.nodes_digest).unwrap_or_default());
            next += 1;
        }
        if self.plan.is_none() {
            self.plan = plans::get(objects, shard, window, next).await?;
            self.attempted.extend(self.plan.as_ref().map(|plan| plan.g));
        }
        Ok(next > known + 1)
    }

    /// Takes a decision that stands in the store, with the digest of its plan's nodes.
    pub(crate) fn decide(&mut self, manifest: ManifestDoc, nodes_digest: String) {
        if manifest.g as usize == self.decided.len() + 1 {
            self.decided.push(manifest);
            self.digests.push(nodes_digest);
        }
        self.plan = None;
        self.job = Job::default();
    }
}

impl State {
    /// Follows streams, chain, feed and time; windows that are new are read from the store.
    pub(crate) async fn refresh(&mut self, objects: &Objects, epoch: u32, partitions: u32, now_ms: i64) -> Result<(), StoreError> {
        if !self.epochs.contains(&epoch) {
            self.epochs = registry::streams(objects).await?.into_iter().map(|(epoch, _)| epoch).collect();
            if !self.epochs.contains(&epoch) {
                self.epochs.push(epoch);
            }
        }
        if self.created_ms.is_none() {
            self.created_ms = registry::store_created_ms(objects).await?;
        }
        self.refresh_chain(objects, partitions).await?;
        self.refresh_feed(objects).await?;
        for window in self.chain.windows() {
            self.load_if_sound(objects, window).await?;
            let seen = self.windows.get_mut(&window);
            seen.into_iter().for_each(|rec| rec.first_seen_ms = rec.first_seen_ms.or(Some(now_ms)));
        }
        Ok(())
    }

    /// Reads the chains on.
    pub(crate) async fn refresh_chain(&mut self, objects: &Objects, partitions: u32) -> Result<(), StoreError> {
        let read = self.chain.refresh(objects, &self.epochs, partitions).await;
        let heads: Vec<(u32, u32, u64)> = self.chain.heads().collect();
        if heads != self.heads {
            self.heads = heads;
            self.chain_version += 1;
        }
        read?;
        self.chain.put_indexes(objects).await
    }

    /// Reads the feed on.
    pub(crate) async fn refresh_feed(&mut self, objects: &Objects) -> Result<(), StoreError> {
        self.feed.refresh(objects).await?;
        self.feed.put_snapshots(objects).await
    }

    /// Windows that end after the store was created get a closed seal at C(W) though they may be empty.
    pub(crate) async fn open_for_closing(&mut self, objects: &Objects, now_ms: i64, close_after_ms: i64) -> Result<(), StoreError> {
        let Some(created_ms) = self.created_ms else { return Ok(()) };
        let mut window = self.next_to_close.unwrap_or(Window::of_ms(created_ms));
        while now_ms >= window.start_ms() + close_after_ms {
            self.load_if_sound(objects, window).await?;
            window = window.next();
            self.next_to_close = Some(window);
        }
        Ok(())
    }

    /// Number of the newest seal known of a window; 0 without one.
    pub(crate) fn newest_k(&self, window: Window) -> u32 {
        self.windows.get(&window).and_then(|rec| rec.newest.as_ref()).map_or(0, |seal| seal.k)
    }

    /// Takes a seal that stands in the store, if one was found.
    pub(crate) fn adopt(&mut self, window: Window, seal: Option<SealDoc>) {
        if let (Some(rec), Some(seal)) = (self.windows.get_mut(&window), seal) {
            rec.adopt(seal);
        }
    }

    /// As [`Self::load`]; a window with a damaged document is said, counted and left alone, so that it stops no other.
    async fn load_if_sound(&mut self, objects: &Objects, window: Window) -> Result<(), StoreError> {
        match self.load(objects, window).await {
            Err(error @ StoreError::Data { .. }) => {
                if self.damaged.insert(window) {
                    tracing::error!(%window, %error, "a document of this window is damaged; nothing is decided for it");
                    metrics::counter!("tailors_control_damaged_windows_total").increment(1);
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Reads seals, done marks, manifests and open plans of a window, once.
    pub(crate) async fn load(&mut self, objects: &Objects, window: Window) -> Result<(), StoreError> {
        if self.windows.contains_key(&window) {
            return Ok(());
        }
        let mut rec = WindowRec::default();
        // The list only says where to begin: the dense numbers decide which seal is the newest.
        let known_k = objects.list(&key::seals(window)).await?.last().and_then(|key| key::last_number(key)).unwrap_or(0);
        let known_k = u32::try_from(known_k).unwrap_or(0).saturating_sub(1);
        if let Some(newest) = seals::newest_after(objects, window, known_k).await? {
            let mut k = newest.k;
            let mut kind = newest.kind;
            rec.adopt(newest);
            while kind == SealKind::Late && k > 1 {
                k -= 1;
                let Some(seal) = seals::get(objects, window, k).await? else { break };
                kind = seal.kind;
                rec.adopt(seal);
            }
        }
        for k in rec.seals.values().filter(|seal| seal.kind.is_complete()).map(|seal| seal.k).collect::<Vec<_>>() {
            if let Some(done) = seals::done(objects, window, k).await? {
                rec.take_done(&done);
            }
        }
        // A done mark of the newest seal: all that it asks for stands in the feed, and only nodes behind it are of interest.
        let newest = rec.newest.as_ref().filter(|newest| newest.kind.is_complete() && rec.done.contains(&newest.k));
        self.chain.recall(objects, window, newest).await?;
        rec.settled = newest.is_some();
        self.windows.insert(window, rec);
        Ok(())
    }

    /// Reads manifests and the open plan of a shard that has points in a window, once.
    pub(crate) async fn load_shard(&mut self, objects: &Objects, window: Window, shard: ShardId) -> Result<(), StoreError> {
        let Some(rec) = self.windows.get_mut(&window).filter(|rec| !rec.shards.contains_key(&shard)) else { return Ok(()) };
        let mut known = ShardRec::default();
        known.read_on(objects, (window, shard)).await?;
        rec.shards.insert(shard, known);
        Ok(())
    }

    /// Reads what others decided of a shard since the last look, unless its job runs.
    pub(crate) async fn read_on_shard(&mut self, objects: &Objects, window: Window, shard: ShardId) -> Result<(), StoreError> {
        let Some(rec) = self.windows.get_mut(&window) else { return Ok(()) };
        let Some(known) = rec.shards.get_mut(&shard).filter(|known| !known.job.running) else { return Ok(()) };
        if known.read_on(objects, (window, shard)).await? {
            rec.settled = false;
        }
        Ok(())
    }

    /// Reads on in the seals and generations of the next few windows, so that what another control decided is seen though nothing is due here.
    pub(crate) async fn reread_some(&mut self, objects: &Objects, count: usize) -> Result<(), StoreError> {
        let after = self.reread.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let turn: Vec<Window> = self.windows.range((after, std::ops::Bound::Unbounded)).map(|(window, _)| *window).take(count).collect();
        self.reread = if turn.len() < count { None } else { turn.last().copied() };
        for window in turn {
            // Of a settled window nobody else asks for its shards, and superseded generations may be left there from an earlier process.
            for shard in self.windows.get(&window).map(|rec| rec.listed.clone()).unwrap_or_default() {
                self.load_shard(objects, window, shard).await?;
            }
            let Some(rec) = self.windows.get_mut(&window) else { continue };
            while let Some(seal) = seals::get(objects, window, rec.newest.as_ref().map_or(1, |newest| newest.k + 1)).await? {
                rec.adopt(seal);
            }
            for (shard, known) in &mut rec.shards {
                if !known.job.running && known.read_on(objects, (window, *shard)).await? {
                    rec.settled = false;
                }
            }
            self.unsettle_unfed(window);
        }
        Ok(())
    }

    /// A generation at the k of its base leaves the done mark as it is, so a process that died before the feed entry left a settled window.
    pub(crate) fn unsettle_unfed(&mut self, window: Window) {
        let Some(rec) = self.windows.get_mut(&window) else { return };
        for (shard, known) in &rec.shards {
            let mut published = known.decided.iter().filter(|manifest| manifest.kind == ManifestKind::Published);
            rec.settled &= published.all(|manifest| self.feed.holds(*shard, window, manifest.g));
        }
    }

    /// A version of the route table.
    pub(crate) async fn routes(&mut self, objects: &Objects, version: u32) -> Result<Arc<RouteTable>, StoreError> {
        if let Some(table) = self.routes.get(&version) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(routes::get(objects, version).await?.ok_or_else(|| StoreError::NotFound(key::route(version)))?);
        self.routes.insert(version, Arc::clone(&table));
        Ok(table)
    }

    /// The inputs of all shards of a window below a seal.
    pub(crate) async fn below(&mut self, objects: &Objects, window: Window, seal: &SealDoc) -> Result<Arc<Below>, StoreError> {
        if let Some(known) = self.windows.get(&window).and_then(|rec| rec.below.get(&seal.k)) {
            return Ok(Arc::clone(known));
        }
        self.chain.recall(objects, window, None).await?;
        let routes = self.routes(objects, plan::route_version(&self.chain, window, seal)).await?;
        let below = Arc::new(plan::below(&self.chain, &routes, window, Some(seal)));
        if self.chain.reached(seal)
            && let Some(rec) = self.windows.get_mut(&window)
        {
            rec.below.insert(seal.k, Arc::clone(&below));
        }
        Ok(below)
    }

    /// The inputs of all shards of a window in all that is captured.
    pub(crate) async fn captured(&mut self, objects: &Objects, routes: &Arc<RouteTable>, window: Window) -> Result<Arc<Below>, StoreError> {
        let nodes = self.chain.nodes_len(window);
        let known = self.windows.get(&window).and_then(|rec| rec.captured.as_ref());
        if let Some((_, _, known)) = known.filter(|(of, version, _)| (*of, *version) == (nodes, routes.version)) {
            return Ok(Arc::clone(known));
        }
        self.chain.recall(objects, window, None).await?;
        let captured = Arc::new(plan::below(&self.chain, routes, window, None));
        if let Some(rec) = self.windows.get_mut(&window) {
            rec.captured = Some((nodes, routes.version, Arc::clone(&captured)));
        }
        Ok(captured)
    }

    /// New points of a window beyond its newest seal; computed anew only when the chain or the seal moved.
    pub(crate) fn update_facts(&mut self, window: Window) {
        let Some(rec) = self.windows.get_mut(&window) else { return };
        let version = (self.chain_version, rec.newest.as_ref().map_or(0, |seal| seal.k));
        if rec.facts_of != Some(version) {
            rec.new = new_points(&self.chain, window, rec.newest.as_ref());
            rec.facts_of = Some(version);
        }
    }
}
