//! Reading pages takes no memory from the allocator once a thread's scratch is warm; but for pco's own list of its (one) kinds of latents, made per page.
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use tailors_format::chunk::{
    BucketInput, ChunkIndex, DecodeScratch, PageRead, SeriesColumn, Span, Steps, assemble, encode_bucket, verify_file,
};
use tailors_model::{MetricMeta, OrgId, ShardId, Tag, window::WINDOW_MS};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// Only counts; all else is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// One metric in one chunk: differences or not, with exceptions or not, doubles, bytes.
fn metrics() -> Vec<(&'static str, Vec<Vec<f64>>)> {
    let walk = |host: u64, n: u64| (0..n).map(|i| ((i * i + host) % 97 + i) as f64 / 100.0).collect::<Vec<f64>>();
    let noise = |host: u64, n: u64| (0..n).map(|i| ((i + host).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64).collect::<Vec<f64>>();
    let doubles = |host: u64, n: u64| -> Vec<f64> {
        let bits = |i: u64| 0x4034 << 48 | (i + host + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        (0..n).map(|i| f64::from_bits(bits(i))).collect()
    };
    let with_nans = |values: Vec<f64>| values.into_iter().enumerate().map(|(i, v)| if i % 50 == 3 { f64::NAN } else { v }).collect();
    vec![
        ("bytes", (0..4).map(|_| (0..20_000).map(|i| f64::from(i / 7 % 13 * 5)).collect()).collect()),
        ("differences", (0..8).map(|host| walk(host, 3_000)).collect()),
        ("doubles", (0..8).map(|host| doubles(host, 3_000)).collect()),
        ("exceptions", (0..8).map(|host| with_nans(walk(host, 3_000))).collect()),
        ("plain", (0..60).map(|host| noise(host, 300)).collect()),
    ]
}

fn file_of(metric: &'static str, series: Vec<Vec<f64>>) -> (ChunkIndex, Vec<u8>) {
    let column = |(host, values): (usize, Vec<f64>)| SeriesColumn {
        tags: vec![Tag::pair("host", format!("h{host:03}"))],
        meta: MetricMeta::default(),
        timestamps: (0..values.len() as u32).map(|i| i * 500).collect(),
        values: values.into(),
    };
    let series = series.into_iter().enumerate().map(column).collect();
    let bucket = BucketInput { org: OrgId(7), metric: Bytes::from_static(metric.as_bytes()), meta: MetricMeta::default(), series };
    let shard = ShardId::of_org(OrgId(7), 64);
    let span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
    let file = assemble(shard, span, vec![encode_bucket(&bucket).unwrap()]).unwrap().remove(0).bytes;
    (verify_file(shard, &file).unwrap(), file)
}

#[test]
fn warm_reads_allocate_nothing_of_ours() {
    for (metric, series) in metrics() {
        let (index, file) = file_of(metric, series);
        let all: Vec<u32> = (0..index.series_len()).collect();
        let reads: Vec<PageRead> = index.plan_reads(&all);
        assert_eq!(index.report().metrics[0].encodings.len(), 1, "{metric}: one chunk class, so that no chunk is opened anew");
        let bytes = |read: &PageRead| &file[read.range.start as usize..read.range.end as usize];
        let steps = Steps { start: 0, step: 60_000, count: 240 };
        let (mut scratch, mut points, mut counted) = (DecodeScratch::default(), 0, 0);
        let mut pass = |scratch: &mut DecodeScratch| {
            for read in &reads {
                index.decode(read, bytes(read), scratch, &mut |_, times, _| points += times.len()).unwrap();
                index.aggregate(read, bytes(read), &steps, scratch, &mut |_, _, own| counted += own.len()).unwrap();
            }
        };
        pass(&mut scratch);
        let by_pco = if metric == "bytes" { 0 } else { 2 * reads.len() as u64 };
        assert_eq!(allocations(|| pass(&mut scratch)), by_pco, "{metric}");
        assert!(points > 0 && counted > 0);
    }
}
