//! Decompression: each encoding, its limits, and bombs.

use std::io::Write;

use super::*;

fn packed(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => plain.to_vec(),
        Encoding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zstd => zstd::encode_all(plain, 1).unwrap(),
        Encoding::SnappyBlock => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
    }
}

const ALL: [Encoding; 5] = [Encoding::Identity, Encoding::Deflate, Encoding::Gzip, Encoding::Zstd, Encoding::SnappyBlock];

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn round_trip_with_a_reused_buffer() {
    let mut out = Vec::new();
    for encoding in ALL {
        for plain in [noise(300_000), noise(10), Vec::new(), vec![7; 100_000]] {
            let body = packed(encoding, &plain);
            assert_eq!(decompress(encoding, &body, 1 << 20, &mut out).unwrap(), plain, "{encoding:?}");
        }
    }
}

#[test]
fn the_cap_is_exact() {
    for encoding in ALL {
        let body = packed(encoding, &noise(100_000));
        assert!(decompress(encoding, &body, 100_000, &mut Vec::new()).is_ok(), "{encoding:?}");
        let error = decompress(encoding, &body, 99_999, &mut Vec::new()).unwrap_err();
        assert_eq!(error.cause, Cause::DecodedBytes, "{encoding:?}");
    }
}

#[test]
fn bombs_stop_at_their_cap() {
    let plain = vec![0; 64 << 20];
    for encoding in [Encoding::Deflate, Encoding::Gzip, Encoding::Zstd, Encoding::SnappyBlock] {
        let mut out = Vec::new();
        let body = packed(encoding, &plain);
        assert_eq!(decompress(encoding, &body, 32 << 20, &mut out).unwrap_err().cause, Cause::DecodedBytes, "{encoding:?}");
        assert!(out.capacity() <= (32 << 20) + (8 << 20), "{encoding:?}");
    }
    // The ratio counts above 8 MiB only.
    let (small, large) = (vec![0; 8 << 20], vec![0; (8 << 20) + 1]);
    assert!(decompress(Encoding::Zstd, &packed(Encoding::Zstd, &small), 32 << 20, &mut Vec::new()).is_ok());
    let error = decompress(Encoding::Zstd, &packed(Encoding::Zstd, &large), 32 << 20, &mut Vec::new()).unwrap_err();
    assert_eq!(error.cause, Cause::DecodedBytes);
}

#[test]
fn every_prefix_and_every_tail_is_an_error() {
    for encoding in ALL.into_iter().skip(1) {
        let body = packed(encoding, &noise(2_000));
        for cut in 0..body.len() {
            let error = decompress(encoding, &body[..cut], 1 << 20, &mut Vec::new()).expect_err("a prefix");
            assert_eq!(error.cause, Cause::Undecodable, "{encoding:?} cut at {cut}");
        }
        let longer = [&body[..], b"x"].concat();
        assert!(decompress(encoding, &longer, 1 << 20, &mut Vec::new()).is_err(), "{encoding:?}");
        let twice = [&body[..], &body[..]].concat();
        assert!(decompress(encoding, &twice, 1 << 20, &mut Vec::new()).is_err(), "{encoding:?}: one frame only");
    }
}

#[test]
fn a_declared_length_allocates_nothing() {
    // 31 MiB declared by five bytes.
    let body = [0x80, 0x80, 0xc0, 0x0f, 0x00];
    let mut out = Vec::new();
    assert_eq!(decompress(Encoding::SnappyBlock, &body, 32 << 20, &mut out).unwrap_err().cause, Cause::Undecodable);
    assert_eq!(out.capacity(), 0);
}

#[test]
fn zstd_windows_above_8_mib_are_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&noise(20 << 20)).unwrap();
    let body = encoder.finish().unwrap();
    assert_eq!(decompress(Encoding::Zstd, &body, 32 << 20, &mut Vec::new()).unwrap_err().cause, Cause::Undecodable);
}

#[test]
fn names_of_encodings() {
    let of = |text| Encoding::of_header(text, Encoding::SnappyBlock);
    assert_eq!(of(None), Ok(Encoding::SnappyBlock));
    assert_eq!(of(Some("ZSTD1")), Ok(Encoding::Zstd));
    assert_eq!(of(Some("identity")), Ok(Encoding::Identity));
    assert_eq!(of(Some("br")).unwrap_err().cause, Cause::ContentEncoding);
    assert_eq!(of(Some("gzip, gzip")).unwrap_err().cause, Cause::ContentEncoding);
}
