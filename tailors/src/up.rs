//! `tailors up`: every role in one process, until it is told to stop.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tailors_format::doc::Scope;
use tailors_model::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, KeyRequest};
use crate::cli::Up;
use crate::clock::SystemClock;
use crate::datadir::{ClientFile, DataDir, make_durable_dir};
use crate::exit::Failure;
use crate::http;
use crate::node::Node;
use crate::settings;
use crate::time::{parse_ms, rfc3339};

/// How long roles and requests may take to end, seconds.
const STOP_S_MAX: u64 = 10;

pub(crate) async fn run(up: Up) -> Result<(), Failure> {
    let dir = DataDir::new(&up.data);
    let file = up.config.clone().or_else(|| dir.settings_file());
    let mut settings = settings::load(file.as_deref(), std::env::vars(), &up.sets)?;
    if let Some(listen) = up.listen {
        settings.server.listen = listen;
    }
    settings.log.accept_damage |= up.accept_log_damage;
    // Damage at the log's front is a hole to capture.
    settings.log.accept_holes |= up.accept_holes || settings.log.accept_damage;
    let listen = settings.server.listen;
    if !listen.ip().is_loopback() && !up.insecure_listen {
        return Err(Failure::usage(format!(
            "TLR-4004: {listen} is not loopback and there is no TLS yet; keys would travel in the clear. Add --insecure-listen to accept that"
        )));
    }
    make_durable_dir(dir.path())?;
    let lock = dir.lock()?;
    let clock = clock_of(&dir, up.now.as_deref())?;
    let listener = TcpListener::bind(listen).await.map_err(|error| Failure::unavailable(format!("{listen}: {error}")))?;
    let listen = listener.local_addr()?;
    let metrics = PrometheusBuilder::new().install_recorder().map_err(|error| Failure::unavailable(error.to_string()))?;
    let node = Arc::new(Node::open(&dir, lock, settings.clone(), clock).await?);
    // Only now: settings that a store refuses must not become those of commands that run without `up`.
    dir.keep_settings(&settings.to_keep()?)?;
    write_client_file(&dir, &node, listen).await?;
    let (stop, stopped) = watch::channel(false);
    let mut roles = JoinSet::new();
    node.start(&mut roles, &stopped);
    let app = http::router(&node, &settings, metrics)?.into_make_service_with_connect_info::<SocketAddr>();
    let mut ending = stopped.clone();
    roles.spawn(async move {
        let drained = async move {
            // An error means that the sender is gone: the process ends anyway.
            let _ = ending.wait_for(|stop| *stop).await;
        };
        axum::serve(listener, app).with_graceful_shutdown(drained).await.map_err(Failure::from)
    });
    tracing::info!(%listen, data = %dir.path().display(), "ready");
    let ended = tokio::select! {
        ended = roles.join_next() => flatten(ended),
        () = asked_to_stop() => Ok(()),
    };
    stop.send_replace(true);
    let ends = async { while roles.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(STOP_S_MAX), ends).await.is_err() {
        tracing::warn!("some role did not end in {STOP_S_MAX} s");
    }
    node.close().await;
    ended
}

fn flatten(ended: Option<Result<Result<(), Failure>, tokio::task::JoinError>>) -> Result<(), Failure> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(Failure::unavailable(format!("a role ended: {error}"))),
        None => Ok(()),
    }
}

async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}

/// The clock of this directory; `--now` is fixed when it is made, and refused on any other.
fn clock_of(dir: &DataDir, now: Option<&str>) -> Result<SystemClock, Failure> {
    if let Some(now) = now {
        let machine_ms = SystemClock::default().now_ms();
        if dir.exists() {
            return Err(Failure::usage(format!("--now is fixed when a data directory is made; {} is there already", dir.path().display())));
        }
        // Before the parts that make the directory one: a start that is killed here begins anew.
        dir.write_clock_offset_ms(parse_ms(now, machine_ms)? - machine_ms)?;
    }
    dir.create()?;
    Ok(SystemClock { offset_ms: dir.clock_offset_ms()? })
}

/// Keeps `client.json` true; on the first start makes its keys and prints one more, to paste into an agent or Grafana.
async fn write_client_file(dir: &DataDir, node: &Node, listen: SocketAddr) -> Result<(), Failure> {
    let url = format!("http://{listen}");
    let now_ms = node.clock.now_ms();
    let mut greeting = Vec::new();
    if let Ok(client) = dir.client() {
        // Untouched when it is true already: a start must not need space on a full disk.
        if client.url != url {
            dir.write_client(&ClientFile { url: url.clone(), ..client })?;
        }
    } else {
        let make = async |org: Option<u32>, scopes: &[Scope]| {
            let request = KeyRequest { org, scopes: scopes.to_vec(), expires_ms: None };
            admin::create_key(&node.objects, &request, now_ms).await.map(|(_, key)| key)
        };
        let client = ClientFile {
            url: url.clone(),
            admin_key: make(None, &[Scope::Admin]).await?,
            key: make(Some(1), &[Scope::Write, Scope::Query]).await?,
            backfill_key: make(Some(1), &[Scope::Backfill]).await?,
        };
        let shown = make(Some(1), &[Scope::Write, Scope::Query]).await?;
        dir.write_client(&client)?;
        writeln!(greeting, "API key of org 1 (write, query), shown once: {shown}")?;
    }
    writeln!(greeting, "tailors is up at {url}, its clock shows {}", rfc3339(now_ms))?;
    writeln!(greeting, "  remote write   {url}/api/v1/write")?;
    writeln!(greeting, "  Datadog agent  {url}")?;
    writeln!(greeting, "  Grafana        {url}  (Prometheus data source, key as Basic password)")?;
    // Nobody may listen to a daemon's stdout; that is no reason not to start.
    let _ = std::io::stdout().write_all(&greeting);
    Ok(())
}
