//! Integers <-> bytes of pages: pco, zstd on varints, or as they are. A chunk of up to 2^18 integers has metadata of its own and many pages.
//!
//! pco, called from here alone: wrapped format, level 8, `ModeSpec::Classic` (Auto and TryDict follow HashMap order: not deterministic), no delta:
//! differences are ours, because they begin anew with each series and cost no allocation per page.

use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec, PagingSpec};
use zstd::bulk::{Compressor, Decompressor};

use super::zigzag::{unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const PCO_LEVEL: usize = 8;
/// Of pages of varints: of small chunks, of large ones (the highest is twenty times as slow), and for a look.
const ZSTD_LEVELS: [i32; 3] = [19, 9, 6];
const SMALL_CHUNK: usize = 1 << 15;
/// Integers looked at before all are tried.
const LOOK: usize = 4_096;
/// pco reads this much beyond a page, whose end it copies otherwise.
const PADDING: usize = 8_192;
/// Varints that a byte of zstd may stand for at most: what a reader pays for a page.
const VARINT_BYTES_MAX: usize = 10;

/// How the integers of a page are written; closed, an unknown number is an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Coder {
    /// pco i32.
    Pco32 = 1,
    /// pco i64.
    Pco64 = 2,
    /// Zigzag varints in a zstd frame per page.
    Bytes = 3,
    /// i64 each.
    Raw = 4,
    /// Columns, each with a coder of its own: sketches and histograms.
    Columns = 5,
}

impl Coder {
    pub(super) fn from_u8(number: u8) -> Option<Self> {
        [Self::Pco32, Self::Pco64, Self::Bytes, Self::Raw, Self::Columns].into_iter().find(|coder| *coder as u8 == number)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pco32 => "pco32",
            Self::Pco64 => "pco64",
            Self::Bytes => "bytes",
            Self::Raw => "raw",
            Self::Columns => "columns",
        }
    }
}

/// Integers as a coder wrote them.
#[derive(Clone, Debug, Default)]
pub(super) struct Coded {
    pub(super) meta: Vec<u8>,
    /// All pages, one after the other.
    pub(super) pages: Vec<u8>,
    pub(super) page_lengths: Vec<usize>,
}

impl Coded {
    pub(super) fn len(&self) -> usize {
        self.meta.len() + self.pages.len()
    }

    /// Metadata and page in one, for columns of the index.
    pub(super) fn into_single_page(mut self) -> Vec<u8> {
        self.meta.append(&mut self.pages);
        self.meta
    }
}

fn pco_error(what: &'static str, error: impl std::fmt::Display) -> FormatError {
    FormatError::invalid(what, format!("pco: {error}"))
}

/// pco on numbers in pages of these sizes.
pub(super) fn encode_pco<T: Number>(numbers: &[T], page_sizes: &[usize]) -> Result<Coded, FormatError> {
    let error = |error| pco_error("pco chunk", error);
    let config = ChunkConfig::default()
        .with_compression_level(PCO_LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp)
        .with_paging_spec(PagingSpec::Exact(page_sizes.to_vec()));
    let mut chunk = FileCompressor::default().chunk_compressor(numbers, &config).map_err(error)?;
    let mut out = Coded { meta: chunk.write_meta(Vec::new()).map_err(error)?, ..Default::default() };
    out.pages.reserve((0..page_sizes.len()).map(|page| chunk.page_size_hint(page)).sum());
    for page in 0..page_sizes.len() {
        let before = out.pages.len();
        out.pages = chunk.write_page(page, std::mem::take(&mut out.pages)).map_err(error)?;
        out.page_lengths.push(out.pages.len() - before);
    }
    Ok(out)
}

/// pco, narrow if the integers are.
pub(super) fn encode_integers(integers: &[i64], page_sizes: &[usize]) -> Result<(Coder, Coded), FormatError> {
    // Without an early end this is made vectors of.
    let wide = integers.iter().fold(0, |wide, integer| wide | (i64::from(*integer as i32) ^ *integer));
    let (coder, coded) = if wide == 0 {
        let narrow: Vec<i32> = integers.iter().map(|integer| *integer as i32).collect();
        (Coder::Pco32, encode_pco(&narrow, page_sizes)?)
    } else {
        (Coder::Pco64, encode_pco(integers, page_sizes)?)
    };
    if coded.len() < integers.len() * 8 {
        return Ok((coder, coded));
    }
    let pages = integers.iter().flat_map(|integer| integer.to_le_bytes()).collect();
    Ok((Coder::Raw, Coded { meta: Vec::new(), pages, page_lengths: page_sizes.iter().map(|size| size * 8).collect() }))
}

/// zstd on zigzag varints; `None` if that takes more than `bytes_max`, or a look at the first pages says it will.
pub(super) fn encode_bytes(integers: &[i64], page_sizes: &[usize], bytes_max: usize) -> Result<Option<Coded>, FormatError> {
    let error = |error: std::io::Error| FormatError::invalid("zstd page", error.to_string());
    let mut zstd = Compressor::new(ZSTD_LEVELS[2]).map_err(error)?;
    zstd.include_contentsize(false).map_err(error)?;
    let mut plain = Vec::new();
    let put = |page: &[i64], plain: &mut Vec<u8>| {
        plain.clear();
        page.iter().for_each(|integer| put_varint(plain, zigzag(*integer)));
    };
    let first = &integers[..integers.len().min(LOOK)];
    put(first, &mut plain);
    if zstd.compress(&plain).map_err(error)?.len() * integers.len() > bytes_max * first.len() {
        return Ok(None);
    }
    zstd.set_compression_level(ZSTD_LEVELS[usize::from(integers.len() > SMALL_CHUNK)]).map_err(error)?;
    let (mut out, mut rest) = (Coded::default(), integers);
    for size in page_sizes {
        let (page, after) = rest.split_at(*size);
        put(page, &mut plain);
        let small = zstd.compress(&plain).map_err(error)?;
        out.pages.extend_from_slice(&small);
        out.page_lengths.push(small.len());
        rest = after;
    }
    Ok((out.len() < bytes_max).then_some(out))
}

/// An opened chunk of pco numbers: its metadata is parsed and its tables are built, pages can be read in any order.
#[derive(Clone, Debug)]
pub(super) struct PcoChunk<T: Number>(ChunkDecompressor<T>);

/// Buffers for reading pages.
#[derive(Default)]
pub(super) struct CoderScratch {
    pco: DecompressorScratch,
    padded: Vec<u8>,
    narrow: Vec<i32>,
    zstd: Option<Decompressor<'static>>,
    varints: Vec<u8>,
}

impl<T: Number> PcoChunk<T> {
    /// Opens a chunk; also returns what follows its metadata.
    pub(super) fn open<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FormatError> {
        let error = |error| pco_error(what, error);
        // pco's own file header: its format version, the same for every chunk, so no file holds it.
        let header = FileCompressor::default().write_header(Vec::new()).map_err(error)?;
        let (file, _) = FileDecompressor::new(header.as_slice()).map_err(error)?;
        let (chunk, rest) = file.chunk_decompressor::<T, &'a [u8]>(bytes).map_err(error)?;
        // What this format never writes is refused: other modes and deltas would take memory that the bytes don't pay for.
        if !matches!(chunk.meta().delta_encoding, DeltaEncoding::NoOp) || !matches!(chunk.meta().mode, Mode::Classic) {
            return Err(FormatError::invalid(what, "pco mode or delta that this format does not use"));
        }
        Ok((Self(chunk), rest))
    }

    /// Reads one page that holds exactly `out.len()` numbers in exactly these bytes. The caller has paid for `out`.
    pub(super) fn read_page(
        &self,
        what: &'static str,
        bytes: &[u8],
        pco: &mut DecompressorScratch,
        padded: &mut Vec<u8>,
        out: &mut [T],
    ) -> Result<(), FormatError> {
        let error = |error| pco_error(what, error);
        // With room behind its end, pco reads the page where it lies; without, it allocates and copies the end.
        padded.clear();
        padded.extend_from_slice(bytes);
        padded.resize(bytes.len() + PADDING, 0);
        let mut page = self.0.page_decompressor_with_scratch(padded.as_slice(), out.len(), pco).map_err(error)?;
        let progress = page.read(out).map_err(error)?;
        let rest = page.into_src();
        if progress.finished && progress.n_processed == out.len() && rest.len() == PADDING {
            return Ok(());
        }
        Err(FormatError::invalid(what, "pco page of another length"))
    }
}

/// An opened chunk.
pub(super) enum OpenCoder {
    Pco32(PcoChunk<i32>),
    Pco64(PcoChunk<i64>),
    Bytes,
    Raw,
}

impl OpenCoder {
    pub(super) fn open(what: &'static str, coder: Coder, meta: &[u8]) -> Result<Self, FormatError> {
        let (chunk, rest) = match coder {
            Coder::Pco32 => PcoChunk::open(what, meta).map(|(chunk, rest)| (Self::Pco32(chunk), rest))?,
            Coder::Pco64 => PcoChunk::open(what, meta).map(|(chunk, rest)| (Self::Pco64(chunk), rest))?,
            Coder::Bytes => (Self::Bytes, meta),
            Coder::Raw => (Self::Raw, meta),
            Coder::Columns => return Err(FormatError::invalid(what, "columns where integers are asked for")),
        };
        if rest.is_empty() { Ok(chunk) } else { Err(FormatError::invalid(what, "chunk metadata of another length")) }
    }

    /// The integers of a page, which are exactly `out.len()`.
    pub(super) fn read(&self, what: &'static str, bytes: &[u8], scratch: &mut CoderScratch, out: &mut [i64]) -> Result<(), FormatError> {
        match self {
            Self::Pco32(chunk) => {
                scratch.narrow.resize(out.len(), 0);
                chunk.read_page(what, bytes, &mut scratch.pco, &mut scratch.padded, &mut scratch.narrow)?;
                out.iter_mut().zip(&scratch.narrow).for_each(|(out, narrow)| *out = i64::from(*narrow));
                Ok(())
            }
            Self::Pco64(chunk) => chunk.read_page(what, bytes, &mut scratch.pco, &mut scratch.padded, out),
            Self::Bytes => read_bytes(what, bytes, scratch, out),
            Self::Raw if bytes.len() == out.len() * 8 => {
                out.iter_mut().zip(bytes.as_chunks::<8>().0).for_each(|(out, bytes)| *out = i64::from_le_bytes(*bytes));
                Ok(())
            }
            Self::Raw => Err(FormatError::invalid(what, "raw page of another length")),
        }
    }
}

fn read_bytes(what: &'static str, bytes: &[u8], scratch: &mut CoderScratch, out: &mut [i64]) -> Result<(), FormatError> {
    let error = |error: std::io::Error| FormatError::invalid(what, format!("zstd: {error}"));
    let zstd = match &mut scratch.zstd {
        Some(zstd) => zstd,
        none => none.insert(Decompressor::new().map_err(error)?),
    };
    scratch.varints.clear();
    scratch.varints.reserve(out.len() * VARINT_BYTES_MAX);
    zstd.decompress_to_buffer(bytes, &mut scratch.varints).map_err(error)?;
    let mut cursor = Cursor::new(what, &scratch.varints);
    for out in out {
        *out = unzigzag(cursor.varint()?);
    }
    cursor.finish()
}
