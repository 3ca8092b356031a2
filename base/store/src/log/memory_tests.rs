//! The in-memory log: conformance and each injectable fault.

use std::sync::Arc;

use super::*;
use crate::log::conformance::{drain, suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    suite(|| async { Arc::new(MemoryLog::new(2, 1)) as Arc<dyn Log> }).await;
}

#[tokio::test]
async fn faults_do_what_they_say() {
    let log = MemoryLog::new(2, 1);
    let payload = || Bytes::from_static(b"x");
    log.fail_appends([AppendFault::Pass, AppendFault::ReplyLost, AppendFault::NotApplied]);
    assert!(matches!(log.append(0, payload()).await, Ok(0)));
    assert!(log.append(0, payload()).await.is_err());
    assert!(log.append(0, payload()).await.is_err());
    assert_eq!(drain(&log, 0, 0).await.len(), 2, "the lost reply is kept, the other is not");
    log.skip_offsets(0, 10).expect("partition");
    assert!(matches!(log.append(0, payload()).await, Ok(12)));
    let offsets: Vec<u64> = drain(&log, 0, 0).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [0, 1, 12]);
    log.move_start(0, 5).expect("partition");
    assert!(matches!(log.read(0, 0, 1, 0).await, Err(LogError::OutOfRange { start: 5, .. })));
    log.set_unavailable(true);
    assert!(matches!(log.bounds(0).await, Err(LogError::Unavailable(_))));
    log.set_unavailable(false);
    assert!(log.bounds(0).await.is_ok());
}
