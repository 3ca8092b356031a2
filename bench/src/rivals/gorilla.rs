//! Gorilla (VLDB 2015) as Prometheus has it: delta of delta of milliseconds, XOR of values, one bit stream per series; labels once as zstd-3 lines.
//!
//! ```text
//! stream   points u32 | first timestamp 32 bits | first value 64 bits | then per point: timestamp, value
//! stamp    0: dod = 0 | 10 + 14 bits | 110 + 17 bits | 1110 + 20 bits | 1111 + 64 bits     (Prometheus' sizes, for milliseconds)
//! value    0: equal | 10: the window before + its bits | 11: leading zeros 5 bits, length 6 bits (0 = 64), bits
//! ```

use super::Measured;
use crate::Outcome;
use crate::data::{Dataset, fingerprint, label_lines};
use crate::timing::{best_s, time_cpu};

const STAMP_BITS: [u32; 3] = [14, 17, 20];

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    used: u32,
}

impl BitWriter {
    fn put(&mut self, value: u64, bits: u32) {
        if bits > 32 {
            self.put(value >> 32, bits - 32);
            return self.put(value & 0xffff_ffff, 32);
        }
        let value = value & ((1u64 << bits) - 1);
        self.pending = self.pending << bits | value;
        self.used += bits;
        while self.used >= 8 {
            self.used -= 8;
            self.bytes.push((self.pending >> self.used) as u8);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.put(0, 8 - self.used);
        }
        self.bytes
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    pending: u64,
    have: u32,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, pending: 0, have: 0 }
    }

    /// Past the end there are zeros: the streams are our own, and the comparison finds what is wrong.
    fn take(&mut self, bits: u32) -> u64 {
        if bits > 32 {
            let high = self.take(bits - 32);
            return high << 32 | self.take(32);
        }
        while self.have < bits {
            self.pending = self.pending << 8 | u64::from(self.bytes.get(self.at).copied().unwrap_or(0));
            self.at += 1;
            self.have += 8;
        }
        self.have -= bits;
        self.pending >> self.have & ((1u64 << bits) - 1)
    }
}

/// One series.
pub(crate) fn encode(timestamps: &[u32], values: &[f64]) -> Vec<u8> {
    let mut out = BitWriter::default();
    let (mut last_time, mut last_step, mut last_bits) = (0i64, 0i64, 0u64);
    let (mut lead, mut length) = (0u32, 0u32);
    out.put(timestamps.len() as u64, 32);
    for (i, (time, value)) in timestamps.iter().zip(values).enumerate() {
        let (time, bits) = (i64::from(*time), value.to_bits());
        if i == 0 {
            out.put(time as u64, 32);
            out.put(bits, 64);
        } else {
            put_stamp(&mut out, time - last_time - last_step);
            last_step = time - last_time;
            let xor = bits ^ last_bits;
            if xor == 0 {
                out.put(0, 1);
            } else {
                let (own_lead, own_trail) = (xor.leading_zeros().min(31), xor.trailing_zeros());
                if length > 0 && own_lead >= lead && own_trail >= 64 - lead - length {
                    out.put(0b10, 2);
                } else {
                    (lead, length) = (own_lead, 64 - own_lead - own_trail);
                    out.put(0b11, 2);
                    out.put(u64::from(lead), 5);
                    out.put(u64::from(length & 63), 6);
                }
                out.put(xor >> (64 - lead - length), length);
            }
        }
        (last_time, last_bits) = (time, bits);
    }
    out.finish()
}

fn put_stamp(out: &mut BitWriter, dod: i64) {
    if dod == 0 {
        return out.put(0, 1);
    }
    for (i, bits) in STAMP_BITS.into_iter().enumerate() {
        let half = 1i64 << (bits - 1);
        if (1 - half..=half).contains(&dod) {
            // 10, 110, 1110
            out.put((1 << (i + 2)) - 2, i as u32 + 2);
            return out.put((dod + half - 1) as u64, bits);
        }
    }
    out.put(0b1111, 4);
    out.put(dod as u64, 64);
}

fn take_stamp(from: &mut BitReader<'_>) -> i64 {
    if from.take(1) == 0 {
        return 0;
    }
    for bits in STAMP_BITS {
        if from.take(1) == 0 {
            return from.take(bits) as i64 - (1i64 << (bits - 1)) + 1;
        }
    }
    from.take(64) as i64
}

/// The reverse of [`encode`], into buffers that are cleared first.
pub(crate) fn decode(stream: &[u8], timestamps: &mut Vec<u32>, values: &mut Vec<f64>) {
    let mut from = BitReader::new(stream);
    timestamps.clear();
    values.clear();
    let points = from.take(32);
    let (mut time, mut bits, mut step) = (0i64, 0u64, 0i64);
    let (mut lead, mut length) = (0u32, 0u32);
    for i in 0..points {
        if i == 0 {
            time = from.take(32) as i64;
            bits = from.take(64);
        } else {
            step += take_stamp(&mut from);
            time += step;
            if from.take(1) == 1 {
                if from.take(1) == 1 {
                    lead = from.take(5) as u32;
                    length = from.take(6) as u32;
                    length = if length == 0 { 64 } else { length };
                }
                bits ^= from.take(length) << (64 - lead - length);
            }
        }
        timestamps.push(time as u32);
        values.push(f64::from_bits(bits));
    }
}

/// Encodes all series, reads them back, compares.
pub(crate) fn measure(dataset: &Dataset) -> Outcome<Measured> {
    let (streams, encode_s) =
        time_cpu(|| dataset.series().map(|(_, series)| encode(&series.timestamps, series.values.doubles())).collect::<Vec<_>>());
    let labels = zstd::bulk::compress(label_lines(dataset).as_bytes(), 3)?;
    let (mut times, mut values, mut sum) = (Vec::new(), Vec::new(), 0u64);
    for stream in &streams {
        decode(stream, &mut times, &mut values);
        sum = sum.wrapping_add(fingerprint(&times, &values));
    }
    if sum != dataset.fingerprint() {
        return Err("Gorilla: read back other points".into());
    }
    let decode_s = best_s(10, 2.0, || -> Outcome<()> {
        for stream in &streams {
            decode(stream, &mut times, &mut values);
            std::hint::black_box((&times, &values));
        }
        Ok(())
    })?;
    Ok(Measured { bytes: labels.len() + streams.iter().map(Vec::len).sum::<usize>(), encode_s, decode_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_is_bit_exact() {
        let times = [5, 1_005, 2_005, 3_006, 60_000, 60_001, 14_399_999];
        let values = [1.5, 1.5, f64::NAN, -0.0, f64::INFINITY, f64::from_bits(1), f64::from_bits(u64::MAX)];
        let (mut got_times, mut got_values) = (Vec::new(), Vec::new());
        for n in 0..=times.len() {
            decode(&encode(&times[..n], &values[..n]), &mut got_times, &mut got_values);
            assert_eq!(got_times, times[..n]);
            assert!(got_values.iter().map(|v| v.to_bits()).eq(values[..n].iter().map(|v| v.to_bits())));
        }
    }
}
