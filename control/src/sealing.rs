//! Writing seals. The order of the reads is the protocol: newest seal, clock, offsets, newest route version, put; 412 = decide anew.

use std::collections::BTreeMap;

use tailors_format::doc::{SealDoc, SealKind};
use tailors_model::Window;
use tailors_store::log::LogError;
use tailors_store::{PutDoc, routes, seals};

use crate::seal::{self, Decision, SealCase};
use crate::state::State;
use crate::{Control, ControlError};

/// Races lost in a row before this is left to the next tick.
const RACES_MAX: u32 = 8;

/// Which seal is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The one that is due, if one is.
    Due,
    /// One by hand, at the log's ends.
    ByHand,
}

impl Control {
    /// Writes the seal that is due.
    pub(crate) async fn seal_if_due(&self, state: &mut State, window: Window) -> Result<(), ControlError> {
        state.update_facts(window);
        if self.kind_due(state, window, self.deps().clock.now_ms()).is_some() {
            self.put_seal(state, window, Wish::Due).await?;
        }
        Ok(())
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

    /// Decides and puts one seal. `None`: none is due, or by hand: the newest one says the same already.
    pub(crate) async fn put_seal(&self, state: &mut State, window: Window, wish: Wish) -> Result<Option<SealDoc>, ControlError> {
        let deps = self.deps();
        for _ in 0..RACES_MAX {
            // 1. The newest seal. Numbers are dense and never deleted, so reading on from the remembered one is enough.
            let known_k = state.windows.get(&window).and_then(|rec| rec.newest.as_ref()).map_or(0, |seal| seal.k);
            let other = seals::newest_after(&deps.objects, window, known_k).await?;
            if let (Some(rec), Some(other)) = (state.windows.get_mut(&window), other) {
                rec.adopt(other);
            }
            // 2. The clock. 3. The offsets. 4. The newest route version.
            let now_ms = deps.clock.now_ms();
            let newest = state.windows.get(&window).and_then(|rec| rec.newest.clone());
            state.update_facts(window);
            let closes_at_ms = seal::closes_at_ms(&deps.settings, window);
            let kind = match wish {
                Wish::Due => self.kind_due(state, window, now_ms),
                Wish::ByHand => Some(seal::kind_by_hand(newest.as_ref(), now_ms, closes_at_ms)),
            };
            let Some(kind) = kind else { return Ok(None) };
            let at_log_ends = wish == Wish::ByHand || matches!(kind, SealKind::Closed | SealKind::Hand);
            let ends = self.ends(state, at_log_ends).await?;
            let route_version = routes::newest(&deps.objects).await?.version;
            let decision = Decision { window, kind, newest: newest.as_ref(), now_ms, ends: &ends, route_version, writer: &deps.writer };
            let seal = seal::next(&decision);
            if wish == Wish::ByHand && says_the_same(newest.as_ref(), &seal) {
                return Ok(None);
            }
            if seals::put(&deps.objects, &seal).await? == PutDoc::Created {
                tracing::info!(%window, k = seal.k, kind = seal.kind.as_str(), "sealed");
                metrics::counter!("tailors_control_seals_total", "kind" => seal.kind.as_str()).increment(1);
                self.ask_for(&seal);
                if let Some(rec) = state.windows.get_mut(&window) {
                    rec.adopt(seal.clone());
                }
                return Ok(Some(seal));
            }
        }
        Ok(None)
    }

    /// End offsets of every partition of every stream: of the log where it is asked and it has them, else the chain's heads.
    async fn ends(&self, state: &mut State, at_log_ends: bool) -> Result<Vec<(u32, u32, u64)>, ControlError> {
        let deps = self.deps();
        state.refresh_chain(&deps.objects, deps.log.partitions()).await?;
        let mut ends: BTreeMap<(u32, u32), u64> = state.chain.heads().map(|(epoch, partition, head)| ((epoch, partition), head)).collect();
        if at_log_ends {
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

/// Whether a seal by hand would say nothing new: the same ends, and not more complete.
fn says_the_same(newest: Option<&SealDoc>, next: &SealDoc) -> bool {
    newest.is_some_and(|newest| newest.ends == next.ends && (newest.kind.is_complete() || !next.kind.is_complete()))
}
