//! `tailors key create | list | revoke`.

use reqwest::Method;
use serde_json::json;
use tailors_format::doc::Scope;

use super::{Roles, Side, now_ms, side};
use crate::admin::{self, KeyRequest, KeyRow};
use crate::cli::{KeyCommand, Target};
use crate::exit::Failure;
use crate::out::say;
use crate::time::{parse_ms, rfc3339};

pub(crate) async fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Create { target, org, scope, expires } => create(&target, org, &scope, expires.as_deref()).await,
        KeyCommand::List { target } => list(&target).await,
        KeyCommand::Revoke { target, id } => revoke(&target, &id).await,
    }
}

async fn create(target: &Target, org: Option<u32>, scopes: &[String], expires: Option<&str>) -> Result<(), Failure> {
    let scope = |text: &String| {
        Scope::parse(text).ok_or_else(|| Failure::usage(format!("`{text}` is no scope; write write, query, admin, metrics or backfill")))
    };
    let scopes = scopes.iter().map(scope).collect::<Result<Vec<_>, _>>()?;
    let now_ms = now_ms(super::data_dir(target).as_ref())?;
    let expires_ms = expires.map(|text| parse_ms(text, now_ms)).transpose()?;
    let request = KeyRequest { org, scopes, expires_ms };
    let key = match side(target, Roles::None, |client| &client.admin_key).await? {
        Side::Server(client) => {
            let answer = client.post_json("/api/admin/v1/keys", &json!(request)).await?;
            answer["key"].as_str().unwrap_or_default().to_owned()
        }
        Side::Own(own) => {
            let made = admin::create_key(&own.node.objects, &request, own.node.clock.now_ms()).await;
            own.stop().await;
            made?.1
        }
    };
    say!("{key}");
    Ok(())
}

async fn list(target: &Target) -> Result<(), Failure> {
    let rows: Vec<KeyRow> = match side(target, Roles::None, |client| &client.admin_key).await? {
        Side::Server(client) => {
            let answer = client.get_json("/api/admin/v1/keys", &[]).await?;
            serde_json::from_value(answer).map_err(|error| Failure::unavailable(error.to_string()))?
        }
        Side::Own(own) => {
            let rows = admin::list_keys(&own.node.objects).await;
            own.stop().await;
            rows?
        }
    };
    let now_ms = now_ms(super::data_dir(target).as_ref())?;
    say!("{:<14}{:<12}{:<28}{:<22}state", "id", "org", "scopes", "created");
    for row in rows {
        let org = row.org.map_or_else(|| "-".to_owned(), |org| org.to_string());
        let scopes = row.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
        let state = match (row.revoked_ms, row.expires_ms) {
            (Some(at), _) => format!("revoked {}", rfc3339(at)),
            (None, Some(at)) if at <= now_ms => format!("expired {}", rfc3339(at)),
            (None, Some(at)) => format!("until {}", rfc3339(at)),
            (None, None) => "valid".to_owned(),
        };
        say!("{:<14}{org:<12}{scopes:<28}{:<22}{state}", row.id, rfc3339(row.created_ms / 1_000 * 1_000));
    }
    Ok(())
}

async fn revoke(target: &Target, text: &str) -> Result<(), Failure> {
    // As copied from a key: `tlr_ID_SECRET_CHECK`, or a part of it.
    let id = text.strip_prefix("tlr_").map_or(text, |rest| rest.split('_').next().unwrap_or(rest));
    match side(target, Roles::None, |client| &client.admin_key).await? {
        Side::Server(client) => {
            client
                .send(Method::DELETE, &format!("/api/admin/v1/keys/{}", crate::client::escape(id)), &[], bytes::Bytes::new())
                .await?
                .json()?;
        }
        Side::Own(own) => {
            let revoked = admin::revoke_key(&own.node.objects, id, own.node.clock.now_ms()).await;
            own.stop().await;
            revoked?;
        }
    }
    say!("revoked {id}");
    Ok(())
}
