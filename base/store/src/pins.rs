//! Pins of long readers (protocol.md 2.4 step 5, 2.5): while one lives, control deletes no file.
//!
//! A reader puts its pin, *then* looks for `gone` of all it needs, and reads anew what is current if it finds one. A pin ends when it is released, or
//! its span of seconds after the store's own time of its object, so a killed reader holds nothing for ever. Objects are never put twice: who reads on
//! puts the next pin before the last one ends. A reader that slept through that finds a file missing, never other bytes.

use std::time::Duration;

use tailors_format::doc::PinDoc;
use tailors_format::key;

use crate::objects::{Objects, PutDoc, StoreError};

/// Seconds after which a pin that is not followed by another ends.
const EXPIRES_S: u64 = 600;
/// Seconds that count at most, whatever a pin says; a damaged one says nothing.
const EXPIRES_S_MAX: u64 = 3_600;
/// Pins put in the life of one, so that some may fail.
const RENEWALS: u64 = 5;

/// A pin of this process; released by [`Pin::release`], else it ends by itself.
#[derive(Debug)]
pub struct Pin {
    objects: Objects,
    id: String,
    doc: PinDoc,
    /// Number of the next one.
    next: u32,
    /// Keys that may stand.
    held: Vec<String>,
}

impl Pin {
    /// Holds the files of feed number `feed`; `id` is this reader's alone (`[a-z0-9]`).
    ///
    /// # Errors
    /// What the store says; a pin may stand all the same, until it ends.
    pub async fn put(objects: Objects, id: &str, feed: u64) -> Result<Self, StoreError> {
        let mut pin = Self { objects, id: id.to_owned(), doc: PinDoc { feed, expires_s: EXPIRES_S }, next: 1, held: Vec::new() };
        pin.put_next().await?;
        Ok(pin)
    }

    async fn put_next(&mut self) -> Result<(), StoreError> {
        let key = key::pin(&self.id, self.next);
        self.next += 1;
        self.held.push(key.clone());
        match self.objects.put_doc(&key, &self.doc).await? {
            PutDoc::Created => Ok(()),
            PutDoc::Lost(_) => {
                self.held.pop();
                Err(StoreError::Fenced(format!("{key} is another reader's")))
            }
        }
    }

    /// Puts the next pin in time and deletes the one before, without end: runs beside the reading.
    pub async fn keep(&mut self) {
        loop {
            tokio::time::sleep(Duration::from_secs(EXPIRES_S / RENEWALS)).await;
            self.renew().await;
        }
    }

    async fn renew(&mut self) {
        let before = self.held.len();
        if let Err(error) = self.put_next().await {
            tracing::warn!(%error, "a pin was not renewed; files may be deleted while they are read");
            return;
        }
        for key in &self.held[..before] {
            if let Err(error) = self.objects.delete(key).await {
                tracing::warn!(%error, "an old pin stays until it ends");
            }
        }
        self.held.drain(..before);
    }

    /// Lets the files go.
    ///
    /// # Errors
    /// What the store says; the pin then ends by itself.
    pub async fn release(self) -> Result<(), StoreError> {
        for key in &self.held {
            self.objects.delete(key).await?;
        }
        Ok(())
    }
}

/// Whether a pin lives at `now_ms` of the store's clock; if none does, those that have ended are deleted.
///
/// # Errors
/// What the store says; a damaged pin is none of it.
pub async fn any(objects: &Objects, now_ms: i64) -> Result<bool, StoreError> {
    let mut ended = Vec::new();
    for key in objects.list(key::PINS).await? {
        let expires_s = match objects.get_doc::<PinDoc>(&key).await {
            Ok(Some(pin)) => pin.expires_s.min(EXPIRES_S_MAX),
            Ok(None) => continue,
            Err(StoreError::Data { .. }) => EXPIRES_S_MAX,
            Err(error) => return Err(error),
        };
        let Some(put_ms) = objects.last_modified_ms(&key).await? else { continue };
        if now_ms.saturating_sub(put_ms) < expires_s as i64 * 1_000 {
            return Ok(true);
        }
        ended.push(key);
    }
    for key in ended {
        if let Err(error) = objects.delete(&key).await {
            tracing::warn!(%error, "a pin that has ended can't be deleted");
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::RetrySettings;

    fn objects() -> Objects {
        Objects::new(Arc::new(InMemory::new()), RetrySettings::default(), 1)
    }

    async fn put_ms(objects: &Objects, key: &str) -> i64 {
        objects.last_modified_ms(key).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_pin_holds_until_it_is_released_or_has_ended() {
        let objects = objects();
        assert_eq!(any(&objects, 0).await, Ok(false));
        let pin = Pin::put(objects.clone(), "a1", 7).await.unwrap();
        let key = key::pin("a1", 1);
        let put_ms = put_ms(&objects, &key).await;
        assert_eq!(any(&objects, put_ms + 599_999).await, Ok(true));
        pin.release().await.unwrap();
        assert_eq!((any(&objects, put_ms).await, objects.list(key::PINS).await), (Ok(false), Ok(Vec::new())));
        // Of a reader that was killed.
        let killed = Pin::put(objects.clone(), "a2", 7).await.unwrap();
        let ends_ms = self::put_ms(&objects, &key::pin("a2", 1)).await + 600_000;
        assert_eq!(any(&objects, ends_ms - 1).await, Ok(true));
        assert_eq!((any(&objects, ends_ms).await, objects.list(key::PINS).await), (Ok(false), Ok(Vec::new())));
        drop(killed);
    }

    #[tokio::test]
    async fn no_pin_holds_for_ever_whatever_it_says() {
        let objects = objects();
        let long = PinDoc { feed: 1, expires_s: u64::MAX };
        objects.put_doc(&key::pin("b1", 1), &long).await.unwrap();
        objects.put_data(&key::pin("b2", 1), &b"no pin"[..]).await.unwrap();
        let put_ms = put_ms(&objects, &key::pin("b2", 1)).await;
        assert_eq!(any(&objects, put_ms + 3_599_999).await, Ok(true));
        assert_eq!((any(&objects, put_ms + 3_600_000).await, objects.list(key::PINS).await), (Ok(false), Ok(Vec::new())));
    }

    #[tokio::test]
    async fn who_reads_on_puts_the_next_one_first() {
        let objects = objects();
        let mut pin = Pin::put(objects.clone(), "c1", 7).await.unwrap();
        for number in 2..5 {
            pin.renew().await;
            assert_eq!(objects.list(key::PINS).await, Ok(vec![key::pin("c1", number)]));
        }
        // Another's object stands where the next one would: the one before stays.
        objects.put_doc(&key::pin("c1", 5), &PinDoc { feed: 1, expires_s: 1 }).await.unwrap();
        pin.renew().await;
        assert_eq!(objects.list(key::PINS).await, Ok(vec![key::pin("c1", 4), key::pin("c1", 5)]));
        pin.renew().await;
        assert_eq!(objects.list(key::PINS).await, Ok(vec![key::pin("c1", 5), key::pin("c1", 6)]));
        pin.release().await.unwrap();
        assert_eq!(objects.list(key::PINS).await, Ok(vec![key::pin("c1", 5)]), "its own, no other's");
    }
}
