//! pco, called from here alone: a chunk of up to 2^18 numbers with metadata of its own and many pages.
//!
//! Level 8, `ModeSpec::Classic` (Auto and TryDict follow HashMap order: not deterministic), delta none or first-order, whichever is smaller.

use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec, PagingSpec};

use crate::FormatError;

const LEVEL: usize = 8;

fn pco_error(what: &'static str, error: impl std::fmt::Display) -> FormatError {
    FormatError::invalid(what, format!("pco: {error}"))
}

/// pco's own file header: its format version, the same for every chunk, so a file holds it once (in the encoder version).
fn file_header() -> Result<Vec<u8>, FormatError> {
    FileCompressor::default().write_header(Vec::new()).map_err(|error| pco_error("pco", error))
}

/// Numbers as pco wrote them.
#[derive(Clone, Debug, Default)]
pub(super) struct PcoBytes {
    pub(super) meta: Vec<u8>,
    /// All pages, one after the other.
    pub(super) pages: Vec<u8>,
    pub(super) page_lengths: Vec<usize>,
}

impl PcoBytes {
    pub(super) fn len(&self) -> usize {
        self.meta.len() + self.pages.len()
    }

    /// Metadata and page in one, for columns of the index.
    pub(super) fn into_single_page(mut self) -> Vec<u8> {
        self.meta.append(&mut self.pages);
        self.meta
    }
}

fn encode<T: Number>(numbers: &[T], page_points: &[usize], delta: DeltaSpec) -> Result<PcoBytes, FormatError> {
    let what = "pco chunk";
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(page_points.to_vec()));
    let error = |error| pco_error(what, error);
    let mut chunk = FileCompressor::default().chunk_compressor(numbers, &config).map_err(error)?;
    let mut out = PcoBytes { meta: chunk.write_meta(Vec::new()).map_err(error)?, ..Default::default() };
    for page in 0..page_points.len() {
        let before = out.pages.len();
        out.pages = chunk.write_page(page, std::mem::take(&mut out.pages)).map_err(error)?;
        out.page_lengths.push(out.pages.len() - before);
    }
    Ok(out)
}

/// Compresses numbers into pages of the given sizes; tries both deltas on the real numbers and keeps the smaller.
pub(super) fn encode_best<T: Number>(numbers: &[T], page_points: &[usize]) -> Result<PcoBytes, FormatError> {
    let plain = encode(numbers, page_points, DeltaSpec::NoOp)?;
    if page_points.iter().all(|points| *points == 1) {
        return Ok(plain);
    }
    let first_order = encode(numbers, page_points, DeltaSpec::TryConsecutive(1))?;
    Ok(if first_order.len() < plain.len() { first_order } else { plain })
}

/// An opened chunk: its metadata is parsed and its tables are built, pages can be read in any order.
#[derive(Clone, Debug)]
pub(super) struct PcoChunk<T: Number>(ChunkDecompressor<T>);

impl<T: Number> PcoChunk<T> {
    /// Opens a chunk; also returns what follows its metadata.
    pub(super) fn open<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FormatError> {
        let error = |error| pco_error(what, error);
        let header = file_header()?;
        let (file, _) = FileDecompressor::new(header.as_slice()).map_err(error)?;
        let (chunk, rest) = file.chunk_decompressor::<T, &'a [u8]>(bytes).map_err(error)?;
        // What this format never writes is refused: other modes and deltas would take memory that the bytes don't pay for.
        let known_delta = matches!(chunk.meta().delta_encoding, DeltaEncoding::NoOp | DeltaEncoding::Consecutive { order: 1, .. });
        if !known_delta || !matches!(chunk.meta().mode, Mode::Classic) {
            return Err(FormatError::invalid(what, "pco mode or delta that this format does not use"));
        }
        Ok((Self(chunk), rest))
    }

    /// Reads one page that holds exactly `out.len()` numbers in exactly these bytes. The caller has paid for `out`.
    pub(super) fn read_page(
        &self,
        what: &'static str,
        bytes: &[u8],
        scratch: &mut DecompressorScratch,
        out: &mut [T],
    ) -> Result<(), FormatError> {
        let error = |error| pco_error(what, error);
        let mut page = self.0.page_decompressor_with_scratch(bytes, out.len(), scratch).map_err(error)?;
        let progress = page.read(out).map_err(error)?;
        let rest = page.into_src();
        if progress.finished && progress.n_processed == out.len() && rest.is_empty() {
            return Ok(());
        }
        Err(FormatError::invalid(what, "pco page of another length"))
    }
}
