//! Log segments: every prefix, every flipped bit, every torn write, and payloads that play markers.

use super::frame;
use super::segment::{Header, MARKER_BYTES, Verdict, put_marker, scan, scan_frames};
use crate::FormatError;

const CLUSTER: &str = "0b0c0d0e-0000-4000-8000-000000000007";
const OTHER: &str = "ffffffff-0000-4000-8000-000000000007";
const EPOCH: u32 = 3;

fn header() -> Header {
    // Offsets 5..9 of partition 1 were skipped at a start.
    Header { cluster: CLUSTER.to_owned(), epoch: EPOCH, number: 12, previous_ends: vec![100, 5], bases: vec![100, 9] }
}

fn put(bytes: &mut Vec<u8>, partition: u32, offset: u64) {
    let payload: Vec<u8> = (0..20_u64).map(|i| (i * 31).wrapping_add(offset) as u8).collect();
    frame::encode(bytes, EPOCH, partition, offset, &payload);
}

/// Two batches over both partitions, each ended by a marker of what was synced before it, a lone marker when `covered`, then zeros. Also the
/// edges of all frames, the header's first.
fn segment(covered: bool) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().to_bytes();
    let mut edges = vec![bytes.len()];
    let mut synced = bytes.len();
    for batch in 0..2 {
        for (partition, base) in [(0, 100), (1, 9)] {
            put(&mut bytes, partition, base + batch);
            edges.push(bytes.len());
        }
        put_marker(&mut bytes, CLUSTER, EPOCH, synced as u64);
        edges.push(bytes.len());
        synced = bytes.len();
    }
    if covered {
        put_marker(&mut bytes, CLUSTER, EPOCH, synced as u64);
        edges.push(bytes.len());
    }
    bytes.resize(bytes.len() + 300, 0);
    (bytes, edges)
}

/// The records of a segment whose log is known, as (partition, offset), and the rest of what was found.
fn known(bytes: &[u8]) -> (Vec<(u32, u64)>, super::segment::Scan) {
    let (header, header_len) = Header::from_bytes(bytes, CLUSTER).expect("header");
    let mut payloads = Vec::new();
    let found = scan_frames(bytes, &header, header_len, |payload| payloads.push(payload.to_vec()));
    assert_eq!(payloads.len(), found.records.len());
    assert!(payloads.iter().all(|payload| payload.len() == 20), "the payload alone, without checksums");
    (found.records.iter().map(|record| (record.partition, record.entry.offset)).collect(), found)
}

#[test]
fn headers_are_as_drawn_and_refuse_every_prefix_flip_and_other_log() {
    let bytes = header().to_bytes();
    assert_eq!(bytes.len(), 28 + 2 * 16 + 4);
    assert_eq!(bytes[..12], *b"tlrseg\x01\0\x40\0\0\0");
    assert_eq!((bytes[12], bytes[16], bytes[24], bytes[28], bytes[36], bytes[44], bytes[52]), (3, 12, 2, 100, 100, 5, 9));
    assert_eq!(Header::from_bytes(&bytes, CLUSTER), Ok((header(), bytes.len())));
    assert!(matches!(Header::from_bytes(&bytes, OTHER), Err(FormatError::Checksum { .. })));
    for cut in 0..bytes.len() {
        assert!(Header::from_bytes(&bytes[..cut], CLUSTER).is_err() && scan(&bytes[..cut]).is_err(), "prefix {cut}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::from_bytes(&bad, CLUSTER).is_err(), "bit {bit}");
    }
    let mut huge = bytes;
    huge[24..28].fill(0xff);
    assert!(Header::from_bytes(&huge, CLUSTER).is_err(), "nothing is allocated for partitions that aren't there");
}

#[test]
fn markers_are_as_drawn() {
    let mut marker = Vec::new();
    put_marker(&mut marker, CLUSTER, EPOCH, 77);
    assert_eq!(marker.len() as u64, MARKER_BYTES);
    let (decoded, _) = frame::decode(&marker).expect("decodes");
    assert_eq!((decoded.epoch, decoded.partition, decoded.offset, decoded.payload), (EPOCH, u32::MAX, 77, CLUSTER.as_bytes()));
}

#[test]
fn clean_segments_give_all_with_zeros_behind_and_the_id_is_found_in_them() {
    let (bytes, edges) = segment(true);
    let (records, found) = known(&bytes);
    assert_eq!(records, [(0, 100), (1, 9), (0, 101), (1, 10)]);
    assert_eq!((found.good_until, found.synced_to, found.torn), (edges[7] as u64, edges[6] as u64, false));
    assert_eq!((&found.verdict, found.damage.len()), (&Verdict::Clean, 0));
    let offsets: Vec<Vec<u64>> = found.by_partition().iter().map(|entries| entries.iter().map(|entry| entry.offset).collect()).collect();
    assert_eq!(offsets, [[100, 101], [9, 10]]);
    let second = found.records[1].entry;
    assert_eq!((second.position as usize, second.length as usize), (edges[1], edges[2] - edges[1]));
    assert_eq!(scan(&bytes), Ok(found));
}

#[test]
fn without_a_marker_the_header_is_not_vouched_for() {
    let (bytes, edges) = segment(true);
    let fresh = scan(&[&bytes[..edges[0]], &[0; 500]].concat()).expect("scans");
    assert_eq!((fresh.verdict, fresh.records.len(), fresh.good_until), (Verdict::NoMarker, 0, edges[0] as u64));
    let torn = scan(&bytes[..edges[2] + 9]).expect("scans");
    assert_eq!((torn.verdict, torn.records.len(), torn.torn), (Verdict::NoMarker, 2, true));
}

#[test]
fn a_torn_write_is_a_torn_tail_and_never_damage() {
    // What a crash leaves of the second batch: everything before it was synced, it and its marker arrived in any part.
    let (bytes, edges) = segment(false);
    for cut in edges[3] + 1..edges[6] {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        for torn in [&torn[..], &torn[..cut]] {
            let (records, found) = known(torn);
            let edge = *edges.iter().rfind(|edge| **edge <= cut).expect("edge");
            // Ending in zeros, a frame may be whole already.
            if found.good_until == edge as u64 && edge != cut {
                assert_eq!(found.verdict, Verdict::TornTail { at: edge as u64 }, "cut {cut}");
            } else {
                assert_eq!(found.verdict, Verdict::Clean, "cut {cut}");
            }
            assert!(records.len() >= 2 && found.damage.is_empty());
            assert_eq!(scan(torn), Ok(found));
        }
        // A later page arrived, an earlier one did not.
        let mut holed = bytes.clone();
        holed[edges[3]..cut].fill(0);
        let (records, found) = known(&holed);
        let blank = holed[edges[3]..].iter().all(|byte| *byte == 0);
        let verdict = if blank { Verdict::Clean } else { Verdict::TornTail { at: edges[3] as u64 } };
        assert_eq!((&found.verdict, found.good_until, records.len()), (&verdict, edges[3] as u64, 2), "hole to {cut}");
    }
}

#[test]
fn every_flipped_bit_below_a_marker_is_damage_and_above_it_a_torn_tail() {
    let (bytes, edges) = segment(true);
    let whole = known(&bytes).0;
    for bit in 0..edges[7] * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if bit / 8 < edges[0] {
            assert!(scan(&bad).is_err() && Header::from_bytes(&bad, CLUSTER).is_err(), "bit {bit}");
            continue;
        }
        let at = *edges.iter().rfind(|edge| **edge <= bit / 8).expect("edge") as u64;
        let (records, found) = known(&bad);
        assert_eq!(scan(&bad).as_ref(), Ok(&found), "bit {bit}");
        if bit / 8 >= edges[6] {
            assert_eq!((&found.verdict, records), (&Verdict::TornTail { at }, whole.clone()), "bit {bit}");
            continue;
        }
        // What is behind the damage is still found, and nothing is made up: a bad payload costs its record, a bad header those up to the marker.
        assert!(matches!(&found.verdict, Verdict::Damage { at: first, .. } if *first == at), "bit {bit}: {:?}", found.verdict);
        assert_eq!((found.good_until, found.damage.len(), found.torn), (edges[7] as u64, 1, false), "bit {bit}");
        let in_header = bit / 8 < at as usize + frame::HEADER_BYTES - 4;
        let lost = match edges.iter().position(|edge| *edge == at as usize).expect("edge") % 3 {
            2 => 0,
            nth if in_header => 2 - nth,
            _ => 1,
        };
        assert_eq!(records.len() + lost, whole.len(), "bit {bit}");
        assert!(records.iter().all(|record| whole.contains(record)), "bit {bit}");
    }
}

#[test]
fn a_payload_can_not_play_a_marker() {
    // A tenant knows everything but the id: whole markers and whole frames inside a payload, whose own frame is torn.
    let mut bytes = header().to_bytes();
    let at = bytes.len();
    let mut fake = Vec::new();
    put(&mut fake, 0, 100);
    put_marker(&mut fake, OTHER, EPOCH, at as u64 + 200);
    let mut framed = Vec::new();
    frame::encode(&mut framed, EPOCH, 0, 100, &fake);
    framed[0] ^= 1;
    bytes.extend(framed);
    let (records, found) = known(&bytes);
    assert_eq!((records.len(), found.good_until, found.verdict), (0, at as u64, Verdict::TornTail { at: at as u64 }));
    let unknown = scan(&bytes).expect("scans");
    assert_eq!((unknown.verdict, unknown.records.len()), (Verdict::NoMarker, 0), "nor can it name the log");
    let mut last = header();
    last.bases[0] = u64::MAX;
    let mut bytes = last.to_bytes();
    put(&mut bytes, 0, u64::MAX);
    assert!(known(&bytes).0.is_empty(), "the offset after the last one does not overflow");
}

#[test]
fn frames_in_a_payload_stay_a_payload_behind_damage() {
    // The tenant guesses epoch, partition and the next offset; then its own frame is damaged in each of its bytes and a marker vouches for it.
    let mut fake = Vec::new();
    put(&mut fake, 0, 101);
    let mut bytes = header().to_bytes();
    let at = bytes.len();
    frame::encode(&mut bytes, EPOCH, 0, 100, &[fake.clone(), fake.clone(), fake].concat());
    let end = bytes.len();
    put_marker(&mut bytes, CLUSTER, EPOCH, at as u64);
    put(&mut bytes, 0, 101);
    let synced = bytes.len() as u64;
    put_marker(&mut bytes, CLUSTER, EPOCH, synced);
    for bit in at * 8..end * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (header, header_len) = Header::from_bytes(&bad, CLUSTER).expect("header");
        let found = scan_frames(&bad, &header, header_len, |_| {});
        let places: Vec<usize> = found.records.iter().map(|record| record.entry.position as usize).collect();
        assert_eq!(places, [end + MARKER_BYTES as usize], "bit {bit}");
        assert!(matches!(found.verdict, Verdict::Damage { .. }), "bit {bit}");
        assert_eq!(scan(&bad), Ok(found), "bit {bit}");
    }
}
