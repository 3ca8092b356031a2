//! Everything that can be turned away, with its stable id: whole requests (`Cause`) and single points (`Reason`). The reply matrix of interfaces.md B8 is
//! `Cause::status` on one screen. Every id is explained in docs/errors.md.

use tailors_format::doc::Scope;

use crate::decode::Protocol;

/// Why a whole request was turned away; nothing of it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// The body is not what its headers say.
    Undecodable,
    /// A content type this path does not know.
    ContentType,
    /// A content encoding this path does not know.
    ContentEncoding,
    /// Remote write 2.0, which is not there yet.
    RemoteWrite2,
    /// Another verb than the path's.
    Method,
    /// No key was sent.
    NoKey,
    /// The key is unknown, revoked or expired.
    UnknownKey,
    /// The key lacks the scope.
    Scope,
    /// Keys can't be looked up now.
    KeyStore,
    /// The body is too large as sent.
    BodyBytes,
    /// The body is too large once decompressed, or looks like a bomb.
    DecodedBytes,
    /// Too many points in one request.
    Points,
    /// The headers are too large.
    HeaderBytes,
    /// Points of too many windows in one request.
    Windows,
    /// Too many windows of the org wait to be built.
    DirtyWindows,
    /// The org sends more points a second than its quota.
    Rate,
    /// The log does not take records now.
    Log,
    /// Too many bytes of bodies are in work.
    Busy,
    /// The body did not arrive in time.
    SlowBody,
    /// A bug of ours.
    Internal,
}

impl Cause {
    /// All of them, in order of id.
    pub const ALL: [Self; 20] = {
        use Cause::*;
        [
            Undecodable,
            ContentType,
            ContentEncoding,
            RemoteWrite2,
            Method,
            NoKey,
            UnknownKey,
            Scope,
            KeyStore,
            BodyBytes,
            DecodedBytes,
            Points,
            Windows,
            DirtyWindows,
            Rate,
            HeaderBytes,
            Log,
            Busy,
            SlowBody,
            Internal,
        ]
    };

    /// Stable id and name (label `reason` of the counters).
    pub const fn id_name(self) -> (&'static str, &'static str) {
        match self {
            Self::Undecodable => ("TLR-1001", "undecodable"),
            Self::ContentType => ("TLR-1002", "content_type"),
            Self::ContentEncoding => ("TLR-1003", "content_encoding"),
            Self::RemoteWrite2 => ("TLR-1004", "remote_write_2"),
            Self::Method => ("TLR-1005", "method"),
            Self::NoKey => ("TLR-1101", "no_key"),
            Self::UnknownKey => ("TLR-1102", "unknown_key"),
            Self::Scope => ("TLR-1103", "scope"),
            Self::KeyStore => ("TLR-1104", "key_store"),
            Self::BodyBytes => ("TLR-1201", "body_bytes"),
            Self::DecodedBytes => ("TLR-1202", "decoded_bytes"),
            Self::Points => ("TLR-1203", "request_points"),
            Self::Windows => ("TLR-1204", "request_windows"),
            Self::DirtyWindows => ("TLR-1205", "dirty_windows"),
            Self::Rate => ("TLR-1206", "rate"),
            Self::HeaderBytes => ("TLR-1207", "header_bytes"),
            Self::Log => ("TLR-1401", "log"),
            Self::Busy => ("TLR-1402", "busy"),
            Self::SlowBody => ("TLR-1403", "slow_body"),
            Self::Internal => ("TLR-1404", "internal"),
        }
    }

    /// The reply matrix: HTTP status by protocol.
    pub const fn status(self, protocol: Protocol) -> u16 {
        let datadog = matches!(protocol, Protocol::Datadog);
        match self {
            Self::Undecodable | Self::Windows => 400,
            // An Agent repeats a 415 for ever, a 400 it drops; remote write 1.0 senders read 400 as "do not repeat".
            Self::ContentType | Self::ContentEncoding => 400,
            Self::RemoteWrite2 => 415,
            Self::Method => 405,
            Self::NoKey | Self::UnknownKey => {
                if datadog {
                    403
                } else {
                    401
                }
            }
            Self::Scope => 403,
            Self::BodyBytes | Self::DecodedBytes | Self::Points => 413,
            Self::DirtyWindows | Self::Rate => 429,
            Self::HeaderBytes => 431,
            // A body that came too slowly is worth another try, and 408 would make Prometheus drop it.
            Self::KeyStore | Self::Log | Self::Busy | Self::SlowBody => 503,
            Self::Internal => 500,
        }
    }

    /// Whether the same request may succeed later: such replies carry `Retry-After`.
    pub const fn is_retry(self) -> bool {
        matches!(self, Self::KeyStore | Self::DirtyWindows | Self::Rate | Self::Log | Self::Busy | Self::SlowBody)
    }
}

/// A request turned away: its cause and what a person needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// The particulars, without the id; holds no secret.
    pub detail: String,
    /// Seconds to wait where the cause knows better than the setting.
    pub retry_after_s: Option<u32>,
}

impl Refusal {
    /// A refusal with its particulars.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), retry_after_s: None }
    }

    /// No key in the request; the words of every route.
    pub fn no_key() -> Self {
        Self::new(Cause::NoKey, "no API key; send it as `Authorization: Bearer KEY` or `DD-API-KEY: KEY`")
    }

    /// A key that is none of ours; the words of every route.
    pub fn unknown_key() -> Self {
        Self::new(Cause::UnknownKey, "the API key is unknown, revoked or expired; `tailors key list` shows the valid ones")
    }

    /// A key without the scope of the route; the words of every route.
    pub fn scope(scope: Scope) -> Self {
        Self::new(Cause::Scope, format!("the API key lacks the scope `{}`", scope.as_str()))
    }
}

/// Why single points of a request were refused while the others were stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Reason {
    /// Older than the org's limit.
    Late,
    /// Further ahead than the org's limit.
    Future,
    /// The timestamp is no number.
    BadTimestamp,
    /// The value is no number.
    BadValue,
    /// The series has no metric name.
    NoName,
    /// Two labels of a series have the same name.
    DuplicateLabel,
    /// A name or value is not UTF-8.
    NotUtf8,
    /// More tags than a series may have.
    TooManyTags,
    /// The metric name is too long.
    LongName,
    /// A tag key is too long.
    LongTagKey,
    /// A tag value is too long.
    LongTagValue,
    /// A label has an empty name.
    EmptyLabel,
    /// The series is not of the protocol's shape.
    Malformed,
    /// Native histograms are not stored yet.
    NativeHistogram,
    /// Exemplars are not stored; counted only, the reply stays 2xx.
    Exemplar,
    /// Metadata that is not usable; counted only, the reply stays 2xx.
    Metadata,
}

impl Reason {
    /// All of them, in order of id.
    pub const ALL: [Self; 16] = {
        use Reason::*;
        [
            Late,
            Future,
            BadTimestamp,
            BadValue,
            NoName,
            DuplicateLabel,
            NotUtf8,
            TooManyTags,
            LongName,
            LongTagKey,
            LongTagValue,
            EmptyLabel,
            Malformed,
            NativeHistogram,
            Exemplar,
            Metadata,
        ]
    };

    /// Stable id, name (label `reason` of the counters) and what it says to people.
    pub const fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Late => ("TLR-1301", "late", "older than the limit"),
            Self::Future => ("TLR-1302", "future", "further ahead than the limit"),
            Self::BadTimestamp => ("TLR-1303", "bad_timestamp", "the timestamp is no number"),
            Self::BadValue => ("TLR-1304", "bad_value", "the value is no number"),
            Self::NoName => ("TLR-1305", "no_name", "the series has no metric name"),
            Self::DuplicateLabel => ("TLR-1306", "duplicate_label", "a label name occurs twice in a series"),
            Self::NotUtf8 => ("TLR-1307", "not_utf8", "a name or value is not UTF-8"),
            Self::TooManyTags => ("TLR-1308", "too_many_tags", "more than 128 tags in a series"),
            Self::LongName => ("TLR-1309", "long_name", "the metric name is longer than 512 bytes"),
            Self::LongTagKey => ("TLR-1310", "long_tag_key", "a tag key is longer than 512 bytes"),
            Self::LongTagValue => ("TLR-1311", "long_tag_value", "a tag value is longer than 2048 bytes"),
            Self::EmptyLabel => ("TLR-1312", "empty_label", "a label has an empty name"),
            Self::Malformed => ("TLR-1313", "malformed", "the series is not of the protocol's shape"),
            Self::NativeHistogram => ("TLR-1314", "native_histogram", "native histograms are not stored yet"),
            Self::Exemplar => ("TLR-1315", "exemplar", "exemplars are not stored"),
            Self::Metadata => ("TLR-1316", "metadata", "metadata without a usable metric name"),
        }
    }

    /// Whether points were lost by it, so that protocols which report partial success say so.
    pub const fn is_reported(self) -> bool {
        !matches!(self, Self::Exemplar | Self::Metadata)
    }
}

/// What was refused of one request: per reason how often, and one example.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refused {
    by_reason: [Option<Tally>; Reason::ALL.len()],
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Tally {
    points: u64,
    example: String,
}

impl Refused {
    /// Counts `points` (0 for a bad series without points); `example` is made for the first only.
    pub fn add(&mut self, reason: Reason, points: u64, example: impl FnOnce() -> String) {
        match &mut self.by_reason[reason as usize] {
            Some(tally) => tally.points += points,
            none => *none = Some(Tally { points, example: example() }),
        }
    }

    /// Points refused by reason, of those that occurred, in order of id.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(&self.by_reason).filter_map(|(reason, tally)| Some((reason, tally.as_ref()?.points)))
    }

    /// Whether anything was refused that a sender has to hear of.
    pub fn is_reported(&self) -> bool {
        self.counts().any(|(reason, _)| reason.is_reported())
    }

    /// One line per reason: id, what, how many points, an example; `stored` points of the same request were taken.
    pub fn lines(&self, stored: u64) -> Vec<String> {
        let others = if stored > 0 { "the others are stored" } else { "none of the request is stored" };
        let tallies = Reason::ALL.into_iter().zip(&self.by_reason).filter(|(reason, _)| reason.is_reported());
        let line = |reason: Reason, tally: &Tally| {
            let (id, _, text) = reason.describe();
            format!("{id}: {text}: {} points refused, {others}; {}", tally.points, tally.example)
        };
        tallies.filter_map(|(reason, tally)| Some(line(reason, tally.as_ref()?))).collect()
    }
}

/// Text of outside origin for a reply: at most 100 bytes, control characters replaced.
pub fn shown(text: &[u8]) -> String {
    let cut = &text[..text.len().min(100)];
    String::from_utf8_lossy(cut).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
