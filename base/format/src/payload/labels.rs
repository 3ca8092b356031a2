//! The label block, reading half; `tables` writes it.

use bytes::Bytes;
use tailors_model::limits::SERIES_TAGS_MAX;
use tailors_model::{MetricKind, MetricMeta, Tag, TagKind};

use super::block::{self, Part};
use super::tables::{SERIES_MAX, TAGS_MAX};
use crate::FormatError;
use crate::bytes::Cursor;

const WHAT: &str = "label block";

/// The label block: dictionaries, and series by number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels {
    /// Metric names.
    pub metrics: Vec<Bytes>,
    /// Tags.
    pub tags: Vec<Tag>,
    /// Series; the position is the series number of the runs.
    pub series: Vec<LabelSeries>,
    /// Tag numbers of all series, one after the other.
    pub tag_refs: Vec<u32>,
    /// Metadata that came without samples: metric number, metadata.
    pub metadata: Vec<(u32, MetricMeta)>,
}

/// One series of a payload. Two of them may have equal labels and different metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelSeries {
    /// Number in [`Labels::metrics`].
    pub metric: u32,
    /// First of its tag numbers in [`Labels::tag_refs`].
    pub tags_start: u32,
    /// How many of them; in canonical order.
    pub tags_len: u32,
    /// What its numbers mean.
    pub kind: MetricKind,
    /// Unit as sent; empty when not said.
    pub unit: Bytes,
    /// Seconds between points of a count or rate; 0 when not said.
    pub interval_s: u32,
}

impl Labels {
    /// Tag numbers of a series.
    pub fn refs_of(&self, series: &LabelSeries) -> &[u32] {
        // Both numbers were checked when the block was decoded.
        &self.tag_refs[series.tags_start as usize..][..series.tags_len as usize]
    }

    /// Tags of a series in canonical order.
    pub fn tags_of(&self, series: &LabelSeries) -> impl Iterator<Item = &Tag> {
        self.refs_of(series).iter().map(|tag| &self.tags[*tag as usize])
    }
}

/// Decodes the label block of a payload, or of a prefix of `census_len` bytes.
pub fn decode_labels(payload: &[u8]) -> Result<Labels, FormatError> {
    let (envelope, raw) = block::get(payload, Part::Labels)?;
    let raw = Bytes::from(raw);
    let mut cursor = Cursor::new(WHAT, &raw);
    let metrics = dictionary(&mut cursor, &raw, SERIES_MAX)?;
    let keys = dictionary(&mut cursor, &raw, TAGS_MAX)?;
    let tags = tags(&mut cursor, &raw, &keys)?;
    let metas = dictionary(&mut cursor, &raw, SERIES_MAX)?.into_iter().map(meta).collect::<Result<Vec<_>, _>>()?;
    let count = limited(cursor.count(3)?, SERIES_MAX)?;
    if count != envelope.header.series as usize {
        return Err(FormatError::invalid(WHAT, format!("{count} series, its envelope says {}", envelope.header.series)));
    }
    let metric_numbers = codes(&mut cursor, count, metrics.len())?;
    let meta_numbers = codes(&mut cursor, count, metas.len())?;
    let mut series = Vec::with_capacity(count);
    let mut refs_len = 0u32;
    for (metric, meta) in metric_numbers.into_iter().zip(meta_numbers) {
        let tags_len = limited(cursor.count(1)?, SERIES_TAGS_MAX)? as u32;
        let (kind, interval_s, unit) = &metas[meta as usize];
        series.push(LabelSeries { metric, tags_start: refs_len, tags_len, kind: *kind, unit: unit.clone(), interval_s: *interval_s });
        refs_len += tags_len;
    }
    let tag_refs = tag_refs(&mut cursor, &series, refs_len as usize, tags.len())?;
    let metadata = alone(&mut cursor, &raw, metrics.len())?;
    cursor.finish()?;
    Ok(Labels { metrics, tags, series, tag_refs, metadata })
}

/// The next `len` bytes as a shared slice.
fn text(cursor: &mut Cursor<'_>, raw: &Bytes, len: usize) -> Result<Bytes, FormatError> {
    Ok(raw.slice_ref(cursor.take(len)?))
}

fn limited(count: usize, most: usize) -> Result<usize, FormatError> {
    if count <= most { Ok(count) } else { Err(FormatError::invalid(WHAT, format!("{count} entries, at most {most}"))) }
}

fn lengths(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<usize>, FormatError> {
    (0..count).map(|_| cursor.count(1)).collect()
}

fn dictionary(cursor: &mut Cursor<'_>, raw: &Bytes, most: usize) -> Result<Vec<Bytes>, FormatError> {
    let count = limited(cursor.count(1)?, most)?;
    let lengths = lengths(cursor, count)?;
    lengths.into_iter().map(|len| text(cursor, raw, len)).collect()
}

fn tags(cursor: &mut Cursor<'_>, raw: &Bytes, keys: &[Bytes]) -> Result<Vec<Tag>, FormatError> {
    let count = limited(cursor.count(2)?, TAGS_MAX)?;
    let mut key_kinds = Vec::with_capacity(count);
    for _ in 0..count {
        let code = cursor.varint()?;
        let key = usize::try_from(code >> 1).ok().and_then(|key| keys.get(key));
        let key = key.ok_or_else(|| FormatError::invalid(WHAT, "a tag with an unknown key"))?;
        key_kinds.push((key, if code & 1 == 0 { TagKind::Bare } else { TagKind::Pair }));
    }
    let lengths = lengths(cursor, count)?;
    let tag = |((key, kind), len): ((&Bytes, TagKind), usize)| {
        if kind == TagKind::Bare && len > 0 {
            return Err(FormatError::invalid(WHAT, "a bare tag with a value"));
        }
        Ok(Tag { key: key.clone(), kind, value: text(cursor, raw, len)? })
    };
    key_kinds.into_iter().zip(lengths).map(tag).collect()
}

fn kind(number: u64) -> Result<MetricKind, FormatError> {
    let kind = u8::try_from(number).ok().and_then(MetricKind::from_u8);
    kind.ok_or(FormatError::Unknown { what: WHAT, field: "metric kind", number })
}

fn meta(bytes: Bytes) -> Result<(MetricKind, u32, Bytes), FormatError> {
    let mut cursor = Cursor::new(WHAT, &bytes);
    let (kind, interval_s) = (kind(u64::from(cursor.u8()?))?, cursor.u32()?);
    Ok((kind, interval_s, bytes.slice(5..)))
}

fn codes(cursor: &mut Cursor<'_>, count: usize, known: usize) -> Result<Vec<u32>, FormatError> {
    let (mut before, mut fresh) = (None, 0);
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        let number = code(cursor, before, &mut fresh, known)?;
        numbers.push(number);
        before = Some(number);
    }
    Ok(numbers)
}

fn tag_refs(cursor: &mut Cursor<'_>, series: &[LabelSeries], refs_len: usize, known: usize) -> Result<Vec<u32>, FormatError> {
    if refs_len > cursor.remaining() {
        return Err(FormatError::Truncated { what: WHAT, needed: refs_len as u64, present: cursor.remaining() as u64 });
    }
    let mut refs: Vec<u32> = Vec::with_capacity(refs_len);
    let (mut before, mut fresh) = (0..0, 0);
    for one in series {
        let start = refs.len();
        for place in 0..one.tags_len as usize {
            let near = if place < before.len() { Some(refs[before.start + place]) } else { None };
            refs.push(code(cursor, near, &mut fresh, known)?);
        }
        before = start..refs.len();
    }
    Ok(refs)
}

/// Reads a number below `known`; see `tables` for the codes.
fn code(cursor: &mut Cursor<'_>, before: Option<u32>, fresh: &mut u32, known: usize) -> Result<u32, FormatError> {
    let unknown = || FormatError::invalid(WHAT, "a label number without a label");
    let number = match cursor.varint()? {
        0 => return before.ok_or_else(unknown),
        1 => *fresh,
        code => u32::try_from(code - 2).map_err(|_| unknown())?,
    };
    if number as usize >= known {
        return Err(unknown());
    }
    *fresh = (*fresh).max(number + 1);
    Ok(number)
}

fn alone(cursor: &mut Cursor<'_>, raw: &Bytes, metrics: usize) -> Result<Vec<(u32, MetricMeta)>, FormatError> {
    let count = limited(cursor.count(5)?, SERIES_MAX)?;
    let mut heads = Vec::with_capacity(count);
    for _ in 0..count {
        let metric = u32::try_from(cursor.varint()?).ok().filter(|metric| (*metric as usize) < metrics);
        let metric = metric.ok_or_else(|| FormatError::invalid(WHAT, "metadata of an unknown metric"))?;
        let kind = kind(cursor.varint()?)?;
        let interval_s = u32::try_from(cursor.varint()?).map_err(|_| FormatError::invalid(WHAT, "an interval beyond 32 bits"))?;
        heads.push((metric, kind, interval_s, cursor.count(1)?, cursor.count(1)?));
    }
    let mut metadata = Vec::with_capacity(count);
    for (metric, kind, interval_s, unit, help) in heads {
        let unit = text(cursor, raw, unit)?;
        metadata.push((metric, MetricMeta { kind, unit, interval_s, help: text(cursor, raw, help)? }));
    }
    Ok(metadata)
}
