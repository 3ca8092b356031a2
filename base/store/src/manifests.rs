//! Manifests: the one object that makes a generation visible or cancels it (protocol.md 2.4 step 4, 2.5). Dense from g = 1, never deleted.

use sha2::{Digest, Sha256};
use tailors_format::doc::{GoneDoc, ManifestDoc, ManifestKind};
use tailors_format::key;
use tailors_model::{ShardId, Window};

use crate::objects::{Objects, PutDoc, StoreError};
use crate::plans::hex;
use crate::seals::{misplaced, window_of};

/// Outcome of deciding a generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutManifest {
    /// This manifest stands (put by this call or an earlier try of it).
    Mine,
    /// Another attempt decided the same plan the same way: as good as mine; this is the one that counts.
    Same(ManifestDoc),
    /// The generation is decided the other way: published where a tombstone was meant, or a tombstone where a publication was.
    Lost(ManifestDoc),
}

/// Manifest or tombstone of generation g; `None` while it is undecided.
pub async fn get(objects: &Objects, shard: ShardId, window: Window, g: u32) -> Result<Option<ManifestDoc>, StoreError> {
    let key = key::manifest(shard, window, g);
    let manifest: Option<ManifestDoc> = objects.get_doc(&key).await?;
    match manifest {
        Some(doc) if (doc.shard, doc.window, doc.g) != (shard, window.start_s(), g) => Err(misplaced("manifest", &key)),
        manifest => Ok(manifest),
    }
}

/// All decided generations above `known_g`, in order of g; tombstones too.
pub async fn all_after(objects: &Objects, shard: ShardId, window: Window, known_g: u32) -> Result<Vec<ManifestDoc>, StoreError> {
    let mut all = Vec::new();
    let mut g = known_g + 1;
    // g+1 is planned only once g is decided, so the first absent one ends the row.
    while let Some(manifest) = get(objects, shard, window, g).await? {
        all.push(manifest);
        g += 1;
    }
    Ok(all)
}

/// All decided generations, in order of g.
pub async fn all(objects: &Objects, shard: ShardId, window: Window) -> Result<Vec<ManifestDoc>, StoreError> {
    all_after(objects, shard, window, 0).await
}

/// The newest decided generation, published or tombstone.
pub async fn newest(objects: &Objects, shard: ShardId, window: Window) -> Result<Option<ManifestDoc>, StoreError> {
    Ok(all(objects, shard, window).await?.pop())
}

/// The newest published generation: the base of the next plan.
pub async fn newest_published(objects: &Objects, shard: ShardId, window: Window) -> Result<Option<ManifestDoc>, StoreError> {
    let all = all(objects, shard, window).await?;
    Ok(all.into_iter().rev().find(|manifest| manifest.kind == ManifestKind::Published))
}

/// Decides a generation. Two publications of one g with different plans are a bug: [`StoreError::Fatal`].
pub async fn put_manifest(objects: &Objects, manifest: &ManifestDoc) -> Result<PutManifest, StoreError> {
    let key = key::manifest(manifest.shard, window_of("manifest", manifest.window)?, manifest.g);
    match objects.put_doc(&key, manifest).await? {
        PutDoc::Created => Ok(PutManifest::Mine),
        PutDoc::Lost(other) if other.kind != manifest.kind => Ok(PutManifest::Lost(other)),
        PutDoc::Lost(other) if other.kind == ManifestKind::Tombstone || other.plan_digest == manifest.plan_digest => {
            Ok(PutManifest::Same(other))
        }
        PutDoc::Lost(other) => {
            Err(StoreError::Fatal(format!("{key}: published for plan {}, this one is for {}", other.plan_digest, manifest.plan_digest)))
        }
    }
}

/// Whether the files of g may have been deleted.
pub async fn gone(objects: &Objects, shard: ShardId, window: Window, g: u32) -> Result<Option<GoneDoc>, StoreError> {
    objects.get_doc(&key::gone(shard, window, g)).await
}

/// Marks g as gone, before its files go.
pub async fn put_gone(objects: &Objects, shard: ShardId, window: Window, g: u32, doc: &GoneDoc) -> Result<PutDoc<GoneDoc>, StoreError> {
    objects.put_doc(&key::gone(shard, window, g), doc).await
}

/// SHA-256 in hex: the `hash` of a manifest's file.
pub fn file_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
