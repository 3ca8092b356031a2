//! Versions of the route table (protocol.md 2.6): immutable, dense from 1. Edits come with their own issue; a store has version 1 from its start.

use tailors_format::doc::RouteDoc;
use tailors_format::{FormatError, key};
use tailors_model::RouteTable;

use crate::objects::{Objects, StoreError};

/// Puts version 1 unless there is one; gives the newest version. `mod_count` counts only for a new store.
pub async fn init(objects: &Objects, mod_count: u16) -> Result<RouteTable, StoreError> {
    objects.put_doc(&key::route(1), &RouteDoc { table: RouteTable::initial(mod_count) }).await?;
    newest(objects).await
}

/// The newest version; [`StoreError::NotFound`] in a store that was never initialised.
pub async fn newest(objects: &Objects) -> Result<RouteTable, StoreError> {
    let mut newest = get(objects, 1).await?.ok_or_else(|| StoreError::NotFound(key::route(1)))?;
    while let Some(table) = get(objects, newest.version + 1).await? {
        newest = table;
    }
    Ok(newest)
}

/// One version.
pub async fn get(objects: &Objects, version: u32) -> Result<Option<RouteTable>, StoreError> {
    let key = key::route(version);
    let Some(RouteDoc { table }) = objects.get_doc(&key).await? else { return Ok(None) };
    if table.version != version {
        return Err(StoreError::data(&key, FormatError::invalid("route", format!("holds version {}", table.version))));
    }
    Ok(Some(table))
}
