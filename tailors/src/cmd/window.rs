//! `tailors seal`, `tailors build` and `tailors compact`.

use serde_json::{Value, json};
use tailors_model::ShardId;

use super::{Roles, Side, now_ms, side};
use crate::admin;
use crate::cli::{Target, WindowArgs};
use crate::exit::Failure;
use crate::out::say;
use crate::time::parse_ms;

pub(crate) async fn seal(args: WindowArgs) -> Result<(), Failure> {
    let window = window_of(&args)?;
    let outcome = match side(&args.target, Roles::All, |client| &client.admin_key).await? {
        Side::Server(client) => client.post_json("/api/admin/v1/seal", &json!({"window_ms": window.start_ms()})).await?,
        Side::Own(own) => {
            let outcome = own.node.control.seal_by_hand(window).await;
            own.stop().await;
            json!(outcome.map_err(|error| admin::control_failure(&error))?)
        }
    };
    say(&outcome);
    Ok(())
}

pub(crate) async fn build(args: WindowArgs, shard: Option<String>) -> Result<(), Failure> {
    let window = window_of(&args)?;
    let shard = shard_of(shard)?;
    let outcome = match side(&args.target, Roles::All, |client| &client.admin_key).await? {
        Side::Server(client) => client.post_json("/api/admin/v1/build", &json!({"window_ms": window.start_ms(), "shard": shard})).await?,
        Side::Own(own) => {
            let outcome = own.node.control.build_window(window, shard).await;
            own.stop().await;
            json!(outcome.map_err(|error| admin::control_failure(&error))?)
        }
    };
    say(&outcome);
    Ok(())
}

pub(crate) async fn compact(day: &str, shard: Option<String>, target: Target) -> Result<(), Failure> {
    let no_day = |_| Failure::usage(format!("`{day}` is no day; write it as 2026-11-20 (UTC)"));
    let day = parse_ms(&format!("{day}T00:00:00Z"), 0).map_err(no_day).and_then(admin::window_at)?;
    let shard = shard_of(shard)?;
    let outcome = match side(&target, Roles::All, |client| &client.admin_key).await? {
        Side::Server(client) => client.post_json("/api/admin/v1/compact", &json!({"day_ms": day.start_ms(), "shard": shard})).await?,
        Side::Own(own) => {
            let outcome = own.node.control.compact_day(day, shard).await;
            own.stop().await;
            json!(outcome.map_err(|error| admin::control_failure(&error))?)
        }
    };
    say(&outcome);
    Ok(())
}

fn shard_of(shard: Option<String>) -> Result<Option<ShardId>, Failure> {
    let shard = shard.map(|text| text.parse()).transpose();
    shard.map_err(|error: tailors_model::shard::ShardNameError| Failure::usage(error.to_string()))
}

fn window_of(args: &WindowArgs) -> Result<tailors_model::Window, Failure> {
    admin::window_at(parse_ms(&args.window, now_ms(super::data_dir(&args.target).as_ref())?)?)
}

fn say(outcome: &Value) {
    for sentence in outcome["message"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say!("{sentence}");
    }
}
