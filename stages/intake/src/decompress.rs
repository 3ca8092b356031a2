//! Content encodings. Output is capped while it is made, so a bomb costs its cap and no more; declared sizes are believed only where they save work.

use std::io::{self, BufRead, Read};

use crate::refusal::{Cause, Refusal};

/// Output up to here may have any ratio to its input.
const RATIO_FREE_BYTES: usize = 8 << 20;
/// Output bytes per input byte beyond it.
const RATIO_MAX: usize = 200;
/// A snappy block can't hold more: 64 bytes come from 3 at best.
const SNAPPY_RATIO_MAX: usize = 22;
/// zstd windows up to 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// zlib.
    Deflate,
    /// gzip, one member.
    Gzip,
    /// zstd, one frame, no dictionary.
    Zstd,
    /// Snappy's block format, as remote write uses it.
    SnappyBlock,
}

impl Encoding {
    /// The encoding that `Content-Encoding` names; `absent` where there is none.
    pub fn of_header(value: Option<&str>, absent: Self) -> Result<Self, Refusal> {
        let Some(text) = value.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(absent) };
        let known = [
            ("identity", Self::Identity),
            ("none", Self::Identity),
            ("deflate", Self::Deflate),
            ("gzip", Self::Gzip),
            ("zstd", Self::Zstd),
            ("zstd1", Self::Zstd),
            ("snappy", Self::SnappyBlock),
        ];
        let found = known.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        let refusal =
            || Refusal::new(Cause::ContentEncoding, format!("content encoding `{}` is not known", crate::refusal::shown(text.as_bytes())));
        found.map(|(_, encoding)| encoding).ok_or_else(refusal)
    }
}

/// Decompresses `body` into `out` (a buffer that is reused; its length only grows) and gives the part that holds the result.
pub fn decompress<'a>(encoding: Encoding, body: &'a [u8], bytes_max: usize, out: &'a mut Vec<u8>) -> Result<&'a [u8], Refusal> {
    if body.is_empty() && encoding != Encoding::Identity {
        return Err(Refusal::new(Cause::Undecodable, "the body is empty"));
    }
    let len = match encoding {
        Encoding::Identity if body.len() > bytes_max => return Err(too_large(bytes_max)),
        Encoding::Identity => return Ok(body),
        Encoding::SnappyBlock => snappy(body, bytes_max, out)?,
        Encoding::Deflate => {
            let mut decoder = flate2::bufread::ZlibDecoder::new(body);
            let len = stream(&mut decoder, body.len(), bytes_max, out)?;
            whole(decoder.into_inner(), len)?
        }
        Encoding::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(body);
            let len = stream(&mut decoder, body.len(), bytes_max, out)?;
            whole(decoder.into_inner(), len)?
        }
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(undecodable)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(undecodable)?;
            let len = stream(&mut decoder, body.len(), bytes_max, out)?;
            whole(decoder.finish(), len)?
        }
    };
    Ok(&out[..len])
}

fn snappy(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<usize, Refusal> {
    let declared = snap::raw::decompress_len(body).map_err(undecodable)?;
    if declared > bytes_max {
        return Err(too_large(bytes_max));
    }
    if declared > body.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(Refusal::new(
            Cause::Undecodable,
            format!("a snappy block of {} bytes can't hold the {declared} it declares", body.len()),
        ));
    }
    if out.len() < declared {
        out.resize(declared, 0);
    }
    snap::raw::Decoder::new().decompress(body, out).map_err(undecodable)
}

fn stream(decoder: &mut impl Read, input_len: usize, bytes_max: usize, out: &mut Vec<u8>) -> Result<usize, Refusal> {
    let cap = bytes_max.min(RATIO_FREE_BYTES.max(input_len.saturating_mul(RATIO_MAX)));
    let mut len = 0;
    loop {
        if len == out.len() {
            // One byte above the cap tells "exactly full" from "more to come".
            let grown = (out.len() * 2).max(64 << 10).min(cap + 1);
            if grown <= len {
                return Err(too_large(cap));
            }
            // Exactly, or the doubling of `Vec` would reach beyond the cap.
            out.reserve_exact(grown - len);
            out.resize(grown, 0);
        }
        let end = out.len().min(cap + 1);
        if len >= end {
            return Err(too_large(cap));
        }
        match decoder.read(&mut out[len..end]) {
            Ok(0) => return Ok(len),
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(undecodable(error)),
        }
        if len > cap {
            return Err(too_large(cap));
        }
    }
}

/// A body is one frame or member: what follows it is no padding but a mistake or an attack.
fn whole(mut rest: impl BufRead, len: usize) -> Result<usize, Refusal> {
    match rest.fill_buf() {
        Ok([]) => Ok(len),
        _ => Err(Refusal::new(Cause::Undecodable, "bytes follow the end of the compressed body")),
    }
}

fn undecodable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Cause::Undecodable, format!("decompress the body: {error}"))
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::new(Cause::DecodedBytes, format!("the body is larger than {bytes_max} bytes once decompressed; send smaller batches"))
}

#[cfg(test)]
mod tests;
