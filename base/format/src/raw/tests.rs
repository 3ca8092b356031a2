//! Frames and raw files: every prefix, every bit, every cut.

use super::file::{self, ExtentKey, FrameIter, RawFileWriter};
use super::{file::RawFile, frame};
use crate::FormatError;

fn framed(partition: u32, offset: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let payload: Vec<u8> = (0..len).map(|i| (i as u64 * 31 + offset) as u8).collect();
    frame::encode(&mut out, 1, partition, offset, &payload);
    out
}

#[test]
fn frames_round_trip_and_refuse_every_prefix_and_flip() {
    for len in [0, 1, 40] {
        let bytes = framed(2, 9, len);
        let (decoded, used) = frame::decode(&bytes).expect("decodes");
        assert_eq!((decoded.epoch, decoded.partition, decoded.offset, decoded.payload.len(), used), (1, 2, 9, len, bytes.len()));
        assert_eq!(frame::peek_len(&bytes), Ok(bytes.len()));
        for cut in 0..bytes.len() {
            assert!(matches!(frame::decode(&bytes[..cut]), Err(FormatError::Truncated { .. })));
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(frame::decode(&bad).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn long_payloads_have_a_checksum_per_mib() {
    let bytes = framed(0, 1, (2 << 20) + 5);
    assert_eq!(bytes.len(), frame::HEADER_BYTES + (2 << 20) + 5 + 8);
    assert!(frame::decode(&bytes).is_ok());
    for at in [30, (1 << 20) + 100, bytes.len() - 10, bytes.len() - 1, bytes.len() - 8] {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        assert!(frame::decode(&bad).is_err(), "{at}");
    }
}

fn raw_file() -> RawFile {
    let mut writer = RawFileWriter::new("ab12", 7, 1);
    writer.offers(1, 0, 100);
    writer.offers(1, 3, 5);
    for (partition, section, window_s) in [(0, "mod-0064-0001", 14_400), (0, "mod-0064-0002", 14_400), (3, "none", 0)] {
        writer.begin_extent(ExtentKey { partition, section: section.to_owned(), window_s });
        for offset in 0..3u64 {
            writer.frame(&framed(partition, 100 + offset, 10 + offset as usize * 3), 4, -5 + offset as i64).expect("takes");
        }
    }
    writer.begin_extent(ExtentKey { partition: 9, section: "none".to_owned(), window_s: 0 });
    writer.finish().expect("finishes")
}

#[test]
fn raw_files_round_trip() {
    let raw = raw_file();
    let trailer = file::verify(&raw.bytes).expect("verifies");
    assert_eq!(trailer.extents, raw.extents);
    assert_eq!((trailer.writer.as_str(), trailer.flush, trailer.attempt, trailer.offers.len()), ("ab12", 7, 1, 2));
    assert_eq!(trailer.frame_index, raw.extents.iter().map(|extent| extent.start).collect::<Vec<_>>());
    let extent = &raw.extents[1];
    assert_eq!((extent.payloads, extent.points, extent.received_min_us, extent.received_max_us), (3, 12, -5, -3));
    assert_eq!(raw.crc32c, crc32c::crc32c(&raw.bytes));
    let file_len = raw.bytes.len() as u64;
    let footer = &raw.bytes[raw.bytes.len() - file::FOOTER_BYTES..];
    let needed = file::trailer_len(footer).expect("footer");
    assert!(matches!(file::read_trailer(footer, file_len), Err(FormatError::Truncated { needed: n, .. }) if n == needed as u64));
    assert_eq!(file::read_trailer(&raw.bytes[raw.bytes.len() - needed..], file_len).as_ref(), Ok(&trailer));
    let empty = RawFileWriter::new("w", 0, 0).finish().expect("finishes");
    assert!(file::verify(&empty.bytes).expect("verifies").extents.is_empty());
    let mut writer = RawFileWriter::new("w", 0, 0);
    assert!(writer.frame(&framed(0, 1, 1), 0, 0).is_err());
    writer.begin_extent(ExtentKey { partition: 1, section: "none".to_owned(), window_s: 0 });
    assert!(writer.frame(&framed(0, 1, 1), 0, 0).is_err());
}

#[test]
fn raw_files_refuse_every_prefix_and_flip() {
    let bytes = raw_file().bytes;
    for cut in 0..bytes.len() {
        assert!(file::verify(&bytes[..cut]).is_err(), "prefix {cut}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(file::verify(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn any_cut_yields_each_frame_exactly_once() {
    let raw = raw_file();
    let trailer = file::verify(&raw.bytes).expect("verifies");
    for extent in &raw.extents {
        let whole = |from: u64, to: u64| {
            let base = trailer.base_of(extent, from);
            let bytes = &raw.bytes[base as usize..extent.end as usize];
            FrameIter::new(bytes, base, from, to).map(|item| item.expect("good").1.offset).collect::<Vec<_>>()
        };
        let all = whole(extent.start, extent.end);
        assert_eq!(all, [100, 101, 102]);
        for cut in extent.start..=extent.end {
            assert_eq!([whole(extent.start, cut), whole(cut, extent.end)].concat(), all, "cut {cut}");
        }
    }
    // A damaged payload is one error, and the rest comes.
    let extent = &raw.extents[0];
    let mut bytes = raw.bytes[extent.start as usize..extent.end as usize].to_vec();
    bytes[frame::HEADER_BYTES + 2] ^= 1;
    let items: Vec<bool> = FrameIter::new(&bytes, extent.start, extent.start, extent.end).map(|item| item.is_ok()).collect();
    assert_eq!(items, [false, true, true]);
    bytes[1] ^= 1;
    assert_eq!(FrameIter::new(&bytes, extent.start, extent.start, extent.end).map(|item| item.is_ok()).collect::<Vec<_>>(), [false]);
}

#[test]
fn the_frame_index_has_an_entry_per_mib() {
    let mut writer = RawFileWriter::new("w", 1, 1);
    writer.begin_extent(ExtentKey { partition: 0, section: "none".to_owned(), window_s: 0 });
    for offset in 0..50 {
        writer.frame(&framed(0, offset, 100_000), 1, 1).expect("takes");
    }
    let raw = writer.finish().expect("finishes");
    let trailer = file::verify(&raw.bytes).expect("verifies");
    assert_eq!(trailer.frame_index.len(), 5);
    let (extent, base) = (&raw.extents[0], trailer.base_of(&raw.extents[0], 3_000_000));
    assert!(base > 1_900_000 && base <= 3_000_000);
    let first = FrameIter::new(&raw.bytes[base as usize..extent.end as usize], base, 3_000_000, extent.end).next();
    assert!(first.expect("one").expect("good").0 >= 3_000_000);
}
