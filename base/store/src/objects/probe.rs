//! What a store must be able to do before several writers may share it (protocol.md 2.7); run by `tailors doctor` and at the start.

use futures::future::join_all;
use object_store::PutPayload;
use object_store::path::Path;

use super::{Objects, PutNew, StoreError};

/// Rounds of racing puts.
pub const ROUNDS: u32 = 32;
/// Puts that race in a round.
pub const RACERS: u32 = 8;

/// What the probe found.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize)]
pub struct ProbeReport {
    /// Rounds in which not exactly one put-if-absent won, or the object read back was not the winner's.
    pub races_failed: u32,
    /// GET, HEAD and LIST right after a put show it whole.
    pub read_after_write: bool,
    /// A range is read exactly.
    pub range_read: bool,
    /// An upload in parts that was aborted leaves no object.
    pub multipart_abort: bool,
}

impl ProbeReport {
    /// Whether several writers may share the store.
    pub fn passed(&self) -> bool {
        self.races_failed == 0 && self.read_after_write && self.range_read && self.multipart_abort
    }
}

/// Probes under `probe/v1/{name}`; `name` must be new for every run, `[a-z0-9_.-]`. What it puts it deletes.
pub async fn run(objects: &Objects, name: &str) -> Result<ProbeReport, StoreError> {
    let prefix = format!("probe/v1/{name}");
    let mut report = ProbeReport::default();
    for round in 0..ROUNDS {
        let key = format!("{prefix}/race-{round:03}");
        let bodies: Vec<String> = (0..RACERS).map(|racer| format!("round {round} racer {racer}")).collect();
        let puts = join_all(bodies.iter().map(|body| objects.put_new(&key, body.clone().into_bytes()))).await;
        let mut won = Vec::new();
        for (body, put) in bodies.iter().zip(puts) {
            if put? == PutNew::Created {
                won.push(body);
            }
        }
        let stands = objects.get(&key).await?;
        let fair = matches!(won.as_slice(), [winner] if winner.as_bytes() == stands);
        report.races_failed += u32::from(!fair);
        objects.delete(&key).await?;
    }
    let key = format!("{prefix}/data");
    let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    objects.put_data(&key, body.clone()).await?;
    report.read_after_write = objects.get(&key).await? == body
        && objects.size(&key).await? == Some(body.len() as u64)
        && objects.list(&prefix).await?.contains(&key);
    report.range_read = objects.get_range(&key, 1_000..1_777).await? == body[1_000..1_777];
    objects.delete(&key).await?;
    report.multipart_abort = aborts(objects, &format!("{prefix}/aborted")).await?;
    Ok(report)
}

async fn aborts(objects: &Objects, key: &str) -> Result<bool, StoreError> {
    let failed = |error| StoreError::from_store(key, error);
    let path = Path::parse(key).map_err(|error| StoreError::Fatal(error.to_string()))?;
    let mut upload = objects.0.store.put_multipart_opts(&path, Default::default()).await.map_err(failed)?;
    upload.put_part(PutPayload::from_static(b"part")).await.map_err(failed)?;
    upload.abort().await.map_err(failed)?;
    Ok(objects.size(key).await?.is_none())
}
