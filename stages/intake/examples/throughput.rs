//! Points per CPU-second of the intake alone (key check, snappy, scan, admit, payload encoding, in-memory log), for bodies as in the benchmark
//! `import`: 1, 5 and 500 samples per series; and the bytes of a payload beside the request's own. `cargo run -p tailors-intake --example throughput`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use tower::ServiceExt;

use tailors_intake::{Authorizer, Intake, IntakeDeps, Principal, Scope, Settings, Unavailable};
use tailors_model::{ManualClock, OrgId};
use tailors_store::log::Log;
use tailors_store::log::memory::MemoryLog;

const NOW_MS: i64 = 1_763_728_800_000;

struct Anyone;

#[async_trait]
impl Authorizer for Anyone {
    async fn authorize(&self, _key: &str, _now_ms: i64) -> Result<Option<Principal>, Unavailable> {
        Ok(Some(Principal { org: Some(OrgId(1)), scopes: vec![Scope::Write] }))
    }
}

fn field(out: &mut Vec<u8>, tag: u8, payload: &[u8]) {
    out.push(tag);
    let mut len = payload.len();
    while len > 127 {
        out.push((len & 127) as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(payload);
}

/// A body as `rw_load.py` writes it: `series` series with five labels, `samples` samples a second apart, two-decimal walks.
fn body(series: usize, samples: usize, at_ms: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for s in 0..series {
        let mut message = Vec::new();
        let host = s / 2;
        let name = if s % 2 == 0 { "fleet_value" } else { "fleet_requests_total" };
        let labels = [
            ("__name__", name.to_owned()),
            ("env", ["prod", "staging", "dev"][host % 3].to_owned()),
            ("host", format!("host-{host:04}")),
            ("region", ["eu-1", "eu-2", "us-1", "us-2"][host % 4].to_owned()),
            ("service", format!("svc-{:02}", host % 20)),
        ];
        for (key, value) in &labels {
            let mut pair = Vec::new();
            field(&mut pair, 0x0a, key.as_bytes());
            field(&mut pair, 0x12, value.as_bytes());
            field(&mut message, 0x0a, &pair);
        }
        let mut state = s as u64;
        let mut hundredths = 5_000i64;
        for i in 0..samples {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            hundredths += (state >> 58) as i64 - 32;
            let value = if samples == 1 { (state >> 45) as f64 / 100.0 } else { hundredths as f64 / 100.0 };
            let mut sample = vec![0x09];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(0x10);
            let mut time = (at_ms + i as i64 * 1_000) as u64;
            while time > 127 {
                sample.push((time & 127) as u8 | 128);
                time >>= 7;
            }
            sample.push(time as u8);
            field(&mut message, 0x12, &sample);
        }
        field(&mut request, 0x0a, &message);
    }
    snap::raw::Encoder::new().compress_vec(&request).unwrap_or_default()
}

/// CPU seconds of this process, all threads.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for (series, samples, requests) in [(10_000, 1, 300), (2_000, 5, 300), (20, 500, 400)] {
        let log = Arc::new(MemoryLog::new(4, 1));
        let router = tailors_intake::router(Arc::new(Intake::new(IntakeDeps {
            log: log.clone(),
            clock: Arc::new(ManualClock::at_ms(NOW_MS)),
            authorizer: Arc::new(Anyone),
            settings: Settings::default(),
            intake_id: 1,
            hash_seed: 2,
            received_floor_us: 0,
            dirty_windows: Arc::new(|_| 0),
            windows_with_points: tokio::sync::watch::channel(Default::default()).0,
        })));
        let sent = body(series, samples, NOW_MS - 600_000);
        let began = cpu_s();
        for _ in 0..requests {
            let request = Request::post("/api/v1/write").header("authorization", "Bearer x").body(Body::from(sent.clone()));
            let Ok(request) = request else { return };
            let Ok(reply) = router.clone().oneshot(request).await;
            assert_eq!(reply.status(), 204);
        }
        let used = cpu_s() - began;
        let points = series * samples;
        let records = log.read(0, 0, 1, 0).await.map(|batch| batch.records).unwrap_or_default();
        let stored = records.first().map_or(0, |record| record.frame.len());
        println!(
            "{samples:>3} samples a series: {:.2} M points/CPU-s, request {:.2} B/point, payload {:.2} B/point",
            (points * requests) as f64 / used / 1e6,
            sent.len() as f64 / points as f64,
            stored as f64 / points as f64
        );
    }
}
