//! zstd-3 on plain columns: series number u32, milliseconds u32, value f64 per row, in order of series and time; labels once as lines.

use zstd::bulk::{Compressor, Decompressor};

use super::Measured;
use crate::Outcome;
use crate::data::{Dataset, fingerprint, label_lines};
use crate::timing::{best_s, keep, time_cpu};

const LEVEL: i32 = 3;
/// Rows of a block.
const BLOCK_ROWS: usize = 1 << 18;

struct Block {
    rows: usize,
    columns: [Vec<u8>; 3],
}

/// Encodes, reads back, compares.
pub(crate) fn measure(dataset: &Dataset) -> Outcome<Measured> {
    let (blocks, encode_s) = time_cpu(|| encode(dataset));
    let blocks = blocks?;
    let labels = zstd::bulk::compress(label_lines(dataset).as_bytes(), LEVEL)?;
    let bytes = labels.len() + blocks.iter().flat_map(|block| &block.columns).map(Vec::len).sum::<usize>();
    let mut sum = 0u64;
    decode(&blocks, &mut |times, values| sum = sum.wrapping_add(fingerprint(times, values)))?;
    if sum != dataset.fingerprint() {
        return Err("zstd-3: read back other points".into());
    }
    let decode_s = best_s(10, 2.0, || decode(&blocks, &mut |times, values| keep(times, values)))?;
    Ok(Measured { bytes, encode_s, decode_s })
}

fn encode(dataset: &Dataset) -> Outcome<Vec<Block>> {
    let mut compressor = Compressor::new(LEVEL)?;
    let (mut blocks, mut rows, mut columns) = (Vec::new(), 0, [const { Vec::new() }; 3]);
    let mut cut = |rows: &mut usize, columns: &mut [Vec<u8>; 3]| -> Outcome<()> {
        let [series, times, values] = &*columns;
        let packed = [compressor.compress(series)?, compressor.compress(times)?, compressor.compress(values)?];
        blocks.push(Block { rows: std::mem::take(rows), columns: packed });
        columns.iter_mut().for_each(Vec::clear);
        Ok(())
    };
    for (number, (_, series)) in dataset.series().enumerate() {
        for (time, value) in series.timestamps.iter().zip(series.values.doubles()) {
            columns[0].extend_from_slice(&(number as u32).to_le_bytes());
            columns[1].extend_from_slice(&time.to_le_bytes());
            columns[2].extend_from_slice(&value.to_le_bytes());
            rows += 1;
            if rows == BLOCK_ROWS {
                cut(&mut rows, &mut columns)?;
            }
        }
    }
    if rows > 0 {
        cut(&mut rows, &mut columns)?;
    }
    Ok(blocks)
}

/// Hands out timestamps and values of each block; the series column is decompressed too, for a reader needs it.
fn decode(blocks: &[Block], each: &mut dyn FnMut(&[u32], &[f64])) -> Outcome<()> {
    let mut decompressor = Decompressor::new()?;
    let mut raw = vec![0u8; BLOCK_ROWS * 8];
    let (mut times, mut values) = (Vec::with_capacity(BLOCK_ROWS), Vec::with_capacity(BLOCK_ROWS));
    for block in blocks {
        let [series, time_bytes, value_bytes] = &block.columns;
        decompressor.decompress_to_buffer(series, &mut raw[..block.rows * 4])?;
        times.clear();
        decompressor.decompress_to_buffer(time_bytes, &mut raw[..block.rows * 4])?;
        times.extend(raw[..block.rows * 4].as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        values.clear();
        decompressor.decompress_to_buffer(value_bytes, &mut raw[..block.rows * 8])?;
        values.extend(raw[..block.rows * 8].as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        each(&times, &values);
    }
    Ok(())
}
