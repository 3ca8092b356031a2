//! Writing seals. The order of the reads is the protocol: newest seal, clock, offsets, newest route version, put; 412 = decide anew.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use tailors_format::doc::{SealDoc, SealKind};
use tailors_model::Window;
use tailors_store::log::LogError;
use tailors_store::{PutDoc, StoreError, routes, seals};

use crate::seal::{self, Decision, SealCase};
use crate::state::State;
use crate::{Control, ControlError};

/// Races lost in a row before a seal by hand is given up.
const RACES_MAX: u32 = 8;
/// Requests on their way at once while many seals are due.
const REQUESTS_AHEAD: usize = 16;

/// End offsets: (epoch, partition, end).
type Ends = Vec<(u32, u32, u64)>;

impl Control {
    /// Writes the seals that are due, all in one go: each of the reads is made for every window before the next one is made for any. What loses a
    /// race is decided anew in the next tick.
    pub(crate) async fn seal_due(&self, state: &mut State, windows: &[Window]) -> Result<(), ControlError> {
        let deps = self.deps();
        let mut now_ms = deps.clock.now_ms();
        windows.iter().for_each(|window| state.update_facts(*window));
        let due: Vec<Window> = windows.iter().copied().filter(|window| self.kind_due(state, *window, now_ms).is_some()).collect();
        if due.is_empty() {
            return Ok(());
        }
        // 1. The newest seals. Numbers are dense and never deleted, so reading on from the remembered one is enough.
        let known: Vec<(Window, u32)> = due.iter().map(|window| (*window, state.newest_k(*window))).collect();
        let reads = stream::iter(known)
            .map(|(window, k)| async move { Ok::<_, StoreError>((window, seals::newest_after(&deps.objects, window, k).await?)) });
        let newest: Vec<(Window, Option<SealDoc>)> = reads.buffered(REQUESTS_AHEAD).try_collect().await?;
        for (window, other) in newest {
            state.adopt(window, other);
            state.update_facts(window);
        }
        // 2. The clock. 3. The offsets. 4. The newest route version.
        now_ms = deps.clock.now_ms();
        let kinds: Vec<(Window, SealKind)> =
            due.iter().filter_map(|window| Some((*window, self.kind_due(state, *window, now_ms)?))).collect();
        let heads = self.heads(state).await?;
        let log_ends = if kinds.iter().any(|(_, kind)| at_log_ends(*kind)) { self.log_ends(state, &heads).await? } else { heads.clone() };
        let route_version = routes::newest(&deps.objects).await?.version;
        let decided = kinds.into_iter().map(|(window, kind)| {
            let newest = state.windows.get(&window).and_then(|rec| rec.newest.as_ref());
            let ends = if at_log_ends(kind) { &log_ends } else { &heads };
            (window, seal::next(&Decision { window, kind, newest, now_ms, ends, route_version, writer: &deps.writer }))
        });
        let puts = stream::iter(decided.collect::<Vec<_>>()).map(|(window, seal)| async move {
            let put = seals::put(&deps.objects, &seal).await;
            (window, seal, put)
        });
        let mut first_error = None;
        for (window, seal, put) in puts.buffered(REQUESTS_AHEAD).collect::<Vec<_>>().await {
            match put {
                Ok(PutDoc::Created) => self.sealed(state, window, &seal),
                Ok(PutDoc::Lost(_)) => {}
                // One window's trouble never stops another's.
                Err(error) => {
                    tracing::warn!(%window, %error, "this seal waits for the next tick");
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// A seal of this control stands.
    fn sealed(&self, state: &mut State, window: Window, seal: &SealDoc) {
        tracing::info!(%window, k = seal.k, kind = seal.kind.as_str(), "sealed");
        metrics::counter!("tailors_control_seals_total", "kind" => seal.kind.as_str()).increment(1);
        self.ask_for(seal);
        state.adopt(window, Some(seal.clone()));
    }

    fn kind_due(&self, state: &State, window: Window, now_ms: i64) -> Option<SealKind> {
        let rec = state.windows.get(&window)?;
        let case = SealCase {
            window,
            newest: rec.newest.as_ref(),
            closed_k: rec.closed().map(|seal| seal.k),
            created_ms: state.created_ms.unwrap_or(i64::MAX),
            any_points: state.chain.points(window) > 0,
            new: rec.new,
            first_seen_ms: rec.first_seen_ms,
            published_ms: rec.published_ms,
            outstanding: rec.outstanding(),
            build_ms: rec.build_ms,
            now_ms,
            captured_to_ms: state.captured_to_ms.min(now_ms),
        };
        seal::due(&case, &self.deps().settings)
    }

    /// Decides and puts a seal by hand, at the log's ends. `None`: the newest one says the same already.
    pub(crate) async fn put_seal_by_hand(&self, state: &mut State, window: Window) -> Result<Option<SealDoc>, ControlError> {
        let deps = self.deps();
        for _ in 0..RACES_MAX {
            // The same order: newest seal, clock, offsets, route version.
            let other = seals::newest_after(&deps.objects, window, state.newest_k(window)).await?;
            state.adopt(window, other);
            let now_ms = deps.clock.now_ms();
            let newest = state.windows.get(&window).and_then(|rec| rec.newest.clone());
            let kind = seal::kind_by_hand(newest.as_ref(), now_ms, seal::closes_at_ms(&deps.settings, window));
            let heads = self.heads(state).await?;
            let ends = self.log_ends(state, &heads).await?;
            let route_version = routes::newest(&deps.objects).await?.version;
            let decision = Decision { window, kind, newest: newest.as_ref(), now_ms, ends: &ends, route_version, writer: &deps.writer };
            let seal = seal::next(&decision);
            if says_the_same(newest.as_ref(), &seal) {
                return Ok(None);
            }
            if seals::put(&deps.objects, &seal).await? == PutDoc::Created {
                self.sealed(state, window, &seal);
                return Ok(Some(seal));
            }
        }
        Ok(None)
    }

    /// The committed chain heads of every partition of every stream.
    async fn heads(&self, state: &mut State) -> Result<Ends, ControlError> {
        let deps = self.deps();
        state.refresh_chain(&deps.objects, deps.log.partitions()).await?;
        Ok(state.chain.heads().collect())
    }

    /// End offsets of every partition of every stream: of the log where it has them, else the chain's heads.
    async fn log_ends(&self, state: &State, heads: &Ends) -> Result<Ends, ControlError> {
        let deps = self.deps();
        let mut ends: BTreeMap<(u32, u32), u64> = heads.iter().map(|(epoch, partition, head)| ((*epoch, *partition), *head)).collect();
        let partitions = deps.log.partitions();
        for partition in 0..partitions {
            let place = (deps.log.epoch(), partition);
            let end = deps.log.bounds(partition).await?.end;
            if !state.chain.ended(place.0, place.1) {
                // Below the head only where the log went back: capture refuses that; a seal never goes below what is captured.
                ends.entry(place).and_modify(|head| *head = end.max(*head)).or_insert(end);
            }
        }
        if deps.log.partitions() != partitions {
            return Err(LogError::Unavailable("partitions were added while their ends were read".to_owned()).into());
        }
        Ok(ends.into_iter().map(|((epoch, partition), end)| (epoch, partition, end)).collect())
    }

    /// Has capture flush up to a seal.
    pub(crate) fn ask_for(&self, seal: &SealDoc) {
        let epoch = self.deps().log.epoch();
        let ends: Vec<(u32, u64)> = seal.all_ends().filter(|(of, ..)| *of == epoch).map(|(_, partition, end)| (partition, end)).collect();
        self.ask_for_offsets(&ends);
    }

    /// Has capture flush up to offsets of the current log.
    pub(crate) fn ask_for_offsets(&self, ends: &[(u32, u64)]) {
        self.deps().flush_to.send_if_modified(|targets| {
            let mut grown = false;
            for (partition, end) in ends {
                let target = targets.entry(*partition).or_default();
                grown |= *end > *target;
                *target = (*target).max(*end);
            }
            grown
        });
    }
}

/// Whether a seal that is due counts what the log holds, or only what is committed.
fn at_log_ends(kind: SealKind) -> bool {
    matches!(kind, SealKind::Closed | SealKind::Hand)
}

/// Whether a seal by hand would say nothing new: the same ends, and not more complete.
fn says_the_same(newest: Option<&SealDoc>, next: &SealDoc) -> bool {
    newest.is_some_and(|newest| newest.ends == next.ends && (newest.kind.is_complete() || !next.kind.is_complete()))
}
