//! `tailors doctor`: does an object store keep the promises that the commit protocol rests on (protocol.md 2.7)?

use std::path::Path;

use tailors_store::objects::probe;

use crate::exit::Failure;
use crate::node::{random, store_beside};
use crate::out::say;

pub(crate) async fn run(store: &str) -> Result<(), Failure> {
    if store.contains("://") && !store.starts_with("file://") {
        return Err(Failure::usage(format!("`{store}`: only directories can be checked yet; S3 comes with its own issue")));
    }
    let root = Path::new(store.strip_prefix("file://").unwrap_or(store));
    if !root.is_dir() {
        return Err(Failure::usage(format!("`{store}`: there is no such directory")));
    }
    let objects = store_beside(root)?;
    let name: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let report = probe::run(&objects, &name).await;
    // Only what is empty goes: another doctor may be at work.
    for left in [format!("probe/v1/{name}").as_str(), "probe/v1", "probe"] {
        let _ = std::fs::remove_dir(root.join(left));
    }
    let report = report?;
    let kept = |name: &str, kept: bool| say!("{}  {name}", if kept { "kept  " } else { "BROKEN" });
    kept("one winner in every race of conditional puts", report.races_failed == 0);
    kept("read after write, also in lists", report.read_after_write);
    kept("exact ranges", report.range_read);
    kept("an aborted upload leaves nothing", report.multipart_abort);
    if report.passed() {
        Ok(())
    } else {
        Err(Failure::no(format!("{store} does not keep every promise; several writers on it could lose or double data")))
    }
}
