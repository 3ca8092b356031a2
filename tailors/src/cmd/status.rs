//! `tailors status`: which window x shard is done, which is late, and by how much.

use serde_json::json;
use tailors_control::Status;

use super::{Roles, Side, side};
use crate::admin;
use crate::cli::Target;
use crate::exit::Failure;
use crate::out::say;
use crate::time::rfc3339;

pub(crate) async fn run(target: Target, json: bool) -> Result<(), Failure> {
    let answer = match side(&target, Roles::None, |client| &client.admin_key).await? {
        Side::Server(client) => client.get_json("/api/admin/v1/status", &[]).await?,
        Side::Own(own) => {
            let status = own.node.control.status().await;
            own.stop().await;
            json!(status.map_err(|error| admin::control_failure(&error))?)
        }
    };
    if json {
        say!("{answer}");
        return Ok(());
    }
    let status: Status = serde_json::from_value(answer).map_err(|error| Failure::unavailable(error.to_string()))?;
    say!("captured to {}", rfc3339(status.captured_to_ms));
    say!(
        "{:<22}{:<16}{:<16}{:>4}{:>14}{:>12}{:>9}{:>9}{:>9}  {:<8}{:>6}  {:<10}max timestamp",
        "window",
        "shard",
        "seal",
        "gen",
        "points",
        "duplicates",
        "late",
        "corrupt",
        "B/point",
        "file",
        "lag s",
        "state"
    );
    for row in &status.windows {
        let seal = row.seal.as_ref().map_or_else(|| "-".to_owned(), |seal| format!("{} {}", seal.k, seal.kind.as_str()));
        let generation = row.generation.map_or_else(|| "-".to_owned(), |g| g.to_string());
        let size = row.bytes_per_point.map_or_else(|| "-".to_owned(), |size| format!("{size:.3}"));
        let state = json!(row.state);
        let file = match (row.generation, row.in_day_file) {
            (None, _) => "-",
            (Some(_), true) => "day",
            (Some(_), false) => "window",
        };
        say!(
            "{:<22}{:<16}{seal:<16}{generation:>4}{:>14}{:>12}{:>9}{:>9}{size:>9}  {file:<8}{:>6}  {:<10}{}",
            row.window,
            row.shard.to_string(),
            row.points,
            row.duplicates,
            row.late,
            row.corrupt,
            row.lag_s,
            state.as_str().unwrap_or_default(),
            row.max_timestamp_ms.map_or_else(|| "-".to_owned(), rfc3339),
        );
    }
    Ok(())
}
