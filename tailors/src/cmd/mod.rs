//! Commands: each decides once whether it talks to a running `up` or takes the lock and runs the roles itself.

pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod generate;
mod import;
pub(crate) mod inspect;
pub(crate) mod key;
mod pinned;
mod progress;
pub(crate) mod query;
pub(crate) mod status;
mod verify;
pub(crate) mod window;

use std::path::Path;
use std::sync::Arc;

use tailors_model::{Clock, OrgId};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::{self, Target};
use crate::client::Client;
use crate::clock::SystemClock;
use crate::datadir::{ClientFile, DataDir};
use crate::exit::Failure;
use crate::node::Node;
use crate::out::say;
use crate::settings;
use crate::time::parse_ms;

/// Whom a command works with.
enum Side {
    /// A running server: admin client, and client of the org.
    Server(Client),
    /// Roles in this process, on a directory whose lock was free.
    Own(Box<OwnRoles>),
}

/// Roles running in this process until dropped or stopped.
struct OwnRoles {
    node: Arc<Node>,
    stop: watch::Sender<bool>,
    roles: JoinSet<Result<(), Failure>>,
}

impl OwnRoles {
    async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.roles.join_next().await.is_some() {} };
        tokio::select! { () = ended => {}, () = tokio::time::sleep(std::time::Duration::from_secs(2)) => {} }
        self.node.close().await;
    }
}

/// The directory a command means; none when it was given a server alone.
fn data_dir(target: &Target) -> Option<DataDir> {
    match (&target.data, &target.url) {
        (Some(path), _) => Some(DataDir::new(path)),
        (None, Some(_)) => None,
        (None, None) => Some(DataDir::new(Path::new("./data"))),
    }
}

/// What a command runs on a directory whose lock is free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Roles {
    /// Nothing beside the command itself.
    None,
    /// Capture, control and build.
    All,
}

/// Decides between a running server and roles of our own; `pick` chooses the key of `client.json`.
async fn side(target: &Target, wanted: Roles, pick: fn(&ClientFile) -> &str) -> Result<Side, Failure> {
    let Some(dir) = data_dir(target) else {
        let (url, key) = (target.url.as_deref().unwrap_or_default(), target.key.as_deref().unwrap_or_default());
        return Ok(Side::Server(Client::new(url, key)?));
    };
    if !dir.exists() {
        return Err(no_store(&dir));
    }
    let Some(lock) = dir.try_lock()? else {
        let client = dir.client()?;
        return Ok(Side::Server(Client::new(&client.url, target.key.as_deref().unwrap_or_else(|| pick(&client)))?));
    };
    // What `up` ran with: graces and closing times must be the same for all who decide in this store.
    let settings = settings::load(dir.kept_settings().as_deref(), std::env::vars(), &[])?;
    let clock = SystemClock { offset_ms: dir.clock_offset_ms()? };
    let node = Arc::new(Node::open(&dir, lock, settings, clock).await?);
    let (stop, stopped) = watch::channel(false);
    let mut roles = JoinSet::new();
    if wanted == Roles::All {
        node.start(&mut roles, &stopped);
    }
    Ok(Side::Own(Box::new(OwnRoles { node, stop, roles })))
}

fn no_store(dir: &DataDir) -> Failure {
    Failure::unavailable(format!("{} holds no store yet; start `tailors up --data {0}`", dir.path().display()))
}

fn now_ms(dir: Option<&DataDir>) -> Result<i64, Failure> {
    let offset_ms = dir.map_or(Ok(0), DataDir::clock_offset_ms)?;
    Ok(SystemClock { offset_ms }.now_ms())
}

/// `tailors import`.
pub(crate) async fn import_command(args: cli::Import) -> Result<(), Failure> {
    let dir = data_dir(&args.target);
    let client = match &dir {
        None => Client::new(args.target.url.as_deref().unwrap_or_default(), args.target.key.as_deref().unwrap_or_default())?,
        Some(dir) => {
            let needs_up = || {
                Failure::unavailable(format!(
                    "import needs a running server; start `tailors up --data {}` in another terminal",
                    dir.path().display()
                ))
            };
            if !dir.exists() || dir.try_lock()?.is_some() {
                return Err(needs_up());
            }
            let client = dir.client()?;
            let own = if args.backfill { &client.backfill_key } else { &client.key };
            Client::new(&client.url, args.target.key.as_ref().unwrap_or(own))?
        }
    };
    let now_ms = now_ms(dir.as_ref())?;
    let at_ms = args.at.as_deref().map(|at| parse_ms(at, now_ms)).transpose()?;
    let import = import::Import { file: &args.file, at_ms, rate: args.rate, now_ms };
    let sent = import::run(dir.as_ref(), &client, &import).await?;
    say!("sent {} points, accepted {}", sent.sent, sent.accepted);
    if sent.refused > 0 {
        return Err(Failure::no(format!("{} points were refused, the others are stored", sent.refused)));
    }
    Ok(())
}

/// `tailors verify`.
pub(crate) async fn verify_command(args: cli::Verify) -> Result<(), Failure> {
    let dir = args.store.is_none().then(|| DataDir::new(&args.data));
    let store = match &dir {
        Some(dir) if !dir.exists() => return Err(no_store(dir)),
        Some(dir) => dir.store(),
        None => args.store.unwrap_or_default(),
    };
    let now_ms = now_ms(dir.as_ref())?;
    let shift_ms = match &args.at {
        Some(at) => import::shift_to(import::extent(&args.truth)?, parse_ms(at, now_ms)?),
        None => dir.as_ref().and_then(|dir| import::kept_shift(dir, &import::file_hash(&args.truth).ok()?)).unwrap_or(0),
    };
    let report = verify::run(&store, OrgId(args.org), &args.truth, shift_ms, now_ms).await?;
    if args.json {
        say!("{}", serde_json::to_string(&report).map_err(|error| Failure::unavailable(error.to_string()))?);
    } else {
        say!("joined {} points of {} at feed {}", report.points, args.truth.display(), report.feed);
        if report.sent_again + report.duplicates_removed > 0 {
            say!("duplicates: {} in the truth, {} removed by builds (P4)", report.sent_again, report.duplicates_removed);
        }
        say!("{}", report.line());
    }
    if report.is_exact() { Ok(()) } else { Err(Failure::no("the stored points differ from the truth")) }
}
