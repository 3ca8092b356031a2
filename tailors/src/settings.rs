//! Settings as plain data: defaults < `tailors.toml` < environment < `--set` and flags; an unknown key anywhere is an error that names it.
//!
//! Environment: `TAILORS_SET_BUILD__ENABLED=false` is `--set build.enabled=false`.

mod bounds;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Prefix of settings in the environment.
const ENV_PREFIX: &str = "TAILORS_SET_";
/// Buffers of capture: one that fills, one on its way, and the file it becomes.
const CAPTURE_BUFFERS: u64 = 3;

/// Everything that `tailors.toml` may say; each part is documented beside its stage.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// HTTP.
    pub(crate) server: Server,
    /// Embedded log.
    pub(crate) log: LogSettings,
    /// What is admitted, and how it is spread.
    pub(crate) intake: tailors_intake::Settings,
    /// When raw files are cut.
    pub(crate) capture: tailors_capture::Settings,
    /// When windows are sealed, retried, deleted.
    pub(crate) control: tailors_control::Settings,
    /// How windows are built.
    pub(crate) build: BuildSettings,
    /// Limits and caches of queries.
    pub(crate) query: QuerySettings,
    /// What all roles together may hold, bytes; each has a share of it ([`shares`]) unless its own setting says otherwise.
    pub(crate) memory_bytes_max: MemoryBytes,
}

impl Settings {
    /// Control's settings with what others decide for it.
    pub(crate) fn control(&self) -> tailors_control::Settings {
        tailors_control::Settings { build_enabled: self.build.enabled, ..self.control.clone() }
    }

    /// As TOML, for commands that run without `up`; what was accepted once is not accepted for ever.
    pub(crate) fn to_keep(&self) -> Result<String, Failure> {
        let log = LogSettings { accept_damage: false, accept_holes: false, ..self.log.clone() };
        toml::to_string(&Self { log, ..self.clone() }).map_err(|error| Failure::usage(format!("TLR-4002: settings: {error}")))
    }

    /// What each role may hold, bytes: the settings that bound it.
    fn budgets(&self) -> [(&'static str, u64); 5] {
        [
            ("intake.inflight_bytes_max", self.intake.inflight_bytes_max as u64),
            ("three times capture.flush_bytes_max", (self.capture.flush_bytes_max as u64).saturating_mul(CAPTURE_BUFFERS)),
            ("build.memory_bytes_max", self.build.memory_bytes_max),
            ("query.limits.memory_bytes_max", self.query.limits.memory_bytes_max),
            ("query.source.index_cache_bytes", self.query.source.index_cache_bytes),
        ]
    }

    /// Whether every query ends before the files it reads are deleted.
    fn check_grace(&self) -> Result<(), Failure> {
        if self.query.limits.time_ms_max < self.control.reader_grace_s.saturating_mul(1_000) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "TLR-4006: query.limits.time_ms_max is {} ms, and superseded files are deleted after control.reader_grace_s, {} s; it has to be longer",
            self.query.limits.time_ms_max, self.control.reader_grace_s
        )))
    }

    /// Whether the roles' budgets fit into one.
    fn check_memory(&self) -> Result<(), Failure> {
        let budgets = self.budgets();
        let sum = budgets.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if sum <= self.memory_bytes_max.0 {
            return Ok(());
        }
        let parts: Vec<String> = budgets.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
        Err(Failure::usage(format!(
            "TLR-4005: memory_bytes_max is {}, its roles ask for {sum} ({}); raise it, or lower one of them",
            self.memory_bytes_max.0,
            parts.join(", ")
        )))
    }
}

/// HTTP.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Address to listen on; anything but loopback needs `--insecure-listen`.
    pub(crate) listen: SocketAddr,
}

impl Default for Server {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7878)) }
    }
}

/// Embedded log.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// `always`: 2xx means fsynced. `never`: 2xx means written; a power cut may lose what the kernel had not written back.
    pub(crate) fsync: FsyncSetting,
    /// Partitions; may grow, never shrink.
    pub(crate) partitions: u32,
    /// Start in spite of damage below what was fsynced; what can't be read is an explicit hole.
    pub(crate) accept_damage: bool,
    /// Go on where the log starts behind what is captured; what is gone becomes an explicit hole.
    pub(crate) accept_holes: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { fsync: FsyncSetting::Always, partitions: 4, accept_damage: false, accept_holes: false }
    }
}

/// When the log fsyncs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FsyncSetting {
    /// Before every acknowledgement.
    Always,
    /// Never.
    Never,
}

/// How windows are built here.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BuildSettings {
    /// Whether `up` builds by itself; by hand always works.
    pub(crate) enabled: bool,
    /// Cores of one build, 1 to 256.
    pub(crate) cores: usize,
    /// Bytes that all builds together may hold; sorts spill beyond it.
    pub(crate) memory_bytes_max: u64,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self { enabled: true, cores: tailors_build::Settings::default().cores, memory_bytes_max: 512 << 20 }
    }
}

impl BuildSettings {
    /// The build stage's own settings; sorts spill into `spill_dir`.
    pub(crate) fn stage(&self, spill_dir: PathBuf) -> tailors_build::Settings {
        tailors_build::Settings { cores: self.cores, spill_dir: Some(spill_dir), ..tailors_build::Settings::default() }
    }
}

/// Limits and reading of queries.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QuerySettings {
    /// What one query may cost.
    pub(crate) limits: tailors_query::Limits,
    /// How chunk files are read.
    pub(crate) source: tailors_query::SourceSettings,
}

/// Bytes of memory for all roles together.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct MemoryBytes(pub(crate) u64);

impl Default for MemoryBytes {
    fn default() -> Self {
        Self(2 << 30)
    }
}

/// Reads file, environment and `--set name=value`, in rising precedence.
pub(crate) fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, sets: &[String]) -> Result<Settings, Failure> {
    let mut table = match file {
        Some(path) => {
            let at = |error: String| Failure::usage(format!("TLR-4002: {}: {error}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
            text.parse::<toml::Table>().map_err(|error| at(error.to_string()))?
        }
        None => up_defaults(),
    };
    if file.is_some() {
        merge(&mut table, up_defaults());
    }
    let mut from_environment: Vec<_> =
        environment.filter_map(|(name, value)| Some((name.strip_prefix(ENV_PREFIX)?.to_lowercase(), value))).collect();
    from_environment.sort();
    for (name, value) in from_environment {
        set(&mut table, &name.replace("__", "."), &value)?;
    }
    for assignment in sets {
        let (name, value) =
            assignment.split_once('=').ok_or_else(|| Failure::usage(format!("TLR-4002: --set {assignment}: write name=value")))?;
        set(&mut table, name, value)?;
    }
    let below = shares(&table);
    merge(&mut table, below);
    inherit_org(&mut table);
    // The path is what toml's own error leaves out.
    let settings: Settings = serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
        let said = one_line(error.inner());
        Failure::usage(format!("TLR-4002: setting {}: {said}; docs/settings.md lists every name", error.path()))
    })?;
    bounds::check(&settings)?;
    settings.check_memory()?;
    settings.check_grace()?;
    Ok(settings)
}

/// What an org's own settings don't say is as `intake.org` says.
fn inherit_org(table: &mut toml::Table) {
    let Some(toml::Value::Table(intake)) = table.get_mut("intake") else { return };
    let Some(toml::Value::Table(org)) = intake.get("org").cloned() else { return };
    let Some(toml::Value::Table(overrides)) = intake.get_mut("overrides") else { return };
    overrides.iter_mut().filter_map(|(_, own)| own.as_table_mut()).for_each(|own| merge(own, org.clone()));
}

/// Each role's part of `memory_bytes_max`, for what nobody set: a quarter to the intake, to builds and to queries, the rest to flushes, to
/// cached indexes, and to what no role counts.
fn shares(table: &toml::Table) -> toml::Table {
    let asked = table.get("memory_bytes_max").and_then(toml::Value::as_integer);
    let total = asked.unwrap_or(i64::try_from(MemoryBytes::default().0).unwrap_or(i64::MAX)).max(0);
    let bytes = |share: i64| toml::Value::Integer(share);
    let group = |name: &str, share: i64| toml::Table::from_iter([(name.to_owned(), bytes(share))]);
    toml::Table::from_iter([
        ("intake".to_owned(), group("inflight_bytes_max", total / 4).into()),
        ("capture".to_owned(), group("flush_bytes_max", (total / 32).min(64 << 20)).into()),
        ("build".to_owned(), group("memory_bytes_max", total / 4).into()),
        (
            "query".to_owned(),
            toml::Table::from_iter([
                ("limits".to_owned(), group("memory_bytes_max", total / 4).into()),
                ("source".to_owned(), group("index_cache_bytes", total / 16).into()),
            ])
            .into(),
        ),
    ])
}

/// Defaults of `up` that differ from a fleet's: points become visible within a minute (protocol.md 2.3).
fn up_defaults() -> toml::Table {
    let mut table = toml::Table::new();
    let mut capture = toml::Table::new();
    capture.insert("flush_after_s".into(), 20.into());
    table.insert("capture".into(), capture.into());
    let mut control = toml::Table::new();
    control.insert("quiet_min_s".into(), 20.into());
    control.insert("provisional".into(), true.into());
    table.insert("control".into(), control.into());
    table
}

/// Takes from `below` what `table` does not say.
fn merge(table: &mut toml::Table, below: toml::Table) {
    for (name, value) in below {
        match (table.get_mut(&name), value) {
            (Some(toml::Value::Table(have)), toml::Value::Table(value)) => merge(have, value),
            (Some(_), _) => {}
            (None, value) => drop(table.insert(name, value)),
        }
    }
}

fn set(table: &mut toml::Table, name: &str, value: &str) -> Result<(), Failure> {
    // A value that is no TOML literal is text.
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut at = table;
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            at.insert(part.to_owned(), value);
            return Ok(());
        }
        let next = at.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(|| Failure::usage(format!("TLR-4002: setting {name}: `{part}` is a value, not a group")))?;
    }
    Ok(())
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(environment: &[(&str, &str)], sets: &[&str]) -> Result<Settings, Failure> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(None, environment, &sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_beat_environment_beats_defaults() {
        let settings = load_with(
            &[("TAILORS_SET_LOG__PARTITIONS", "5"), ("TAILORS_SET_BUILD__ENABLED", "false"), ("HOME", "x")],
            &["log.partitions=6"],
        );
        let settings = settings.expect("good");
        assert_eq!(settings.log.partitions, 6);
        assert!(!settings.build.enabled);
        assert_eq!(settings.log.fsync, FsyncSetting::Always);
        assert_eq!(load_with(&[], &["log.fsync=never"]).expect("good").log.fsync, FsyncSetting::Never);
    }

    #[test]
    fn roles_share_one_memory_budget() {
        let small = load_with(&[], &["memory_bytes_max=536870912"]).expect("good");
        assert_eq!((small.intake.inflight_bytes_max, small.build.memory_bytes_max), (128 << 20, 128 << 20));
        assert_eq!((small.capture.flush_bytes_max, small.query.source.index_cache_bytes), (16 << 20, 32 << 20));
        assert!(small.budgets().iter().map(|(_, bytes)| bytes).sum::<u64>() <= 512 << 20);
        let default = load_with(&[], &[]).expect("good");
        assert_eq!((default.capture.flush_bytes_max, default.query.limits.memory_bytes_max), (64 << 20, 512 << 20));
        let own = load_with(&[], &["build.memory_bytes_max=1048576"]).expect("less is fine");
        assert_eq!(own.build.memory_bytes_max, 1 << 20);
        let error = load_with(&[], &["build.memory_bytes_max=1610612736"]).expect_err("too much");
        assert!(error.message.contains("TLR-4005") && error.message.contains("intake.inflight_bytes_max 536870912"), "{}", error.message);
    }

    #[test]
    fn what_is_kept_is_read_again_as_it_was_but_for_what_was_accepted_once() {
        let sets = ["log.accept_damage=true", "control.quiet_min_s=7", "intake.overrides.7.late_policy=refuse", "intake.org.ahead_max_s=5"];
        let settings = load_with(&[], &sets).expect("good");
        let own = settings.intake.of(tailors_model::OrgId(7));
        assert_eq!((own.late_policy, own.ahead_max_s), (tailors_intake::LatePolicy::Refuse, 5), "what it does not say is inherited");
        let temp = tempfile::tempdir().expect("temp dir");
        let path = temp.path().join("settings.toml");
        std::fs::write(&path, settings.to_keep().expect("serializes")).expect("writes");
        let again = load(Some(&path), std::iter::empty(), &[]).expect("reads");
        assert!(!again.log.accept_damage);
        let log = LogSettings { accept_damage: true, ..again.log.clone() };
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings { log, ..again }));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_group() {
        for (set, named) in [
            ("capture.flush_every=3", "capture.flush_every"),
            ("log.fsyncc=always", "log.fsyncc"),
            ("build.enabled=maybe", "build.enabled"),
            ("log.fsync=sometimes", "log.fsync"),
            ("query.limits.points_max=lots", "query.limits.points_max"),
            ("memory_bytes_max=lots", "memory_bytes_max"),
            ("intake.overrides.7.late_policy=perhaps", "intake.overrides.7.late_policy"),
            ("intake.overrides.seven.late_policy=accept", "`seven`"),
            ("log.partitions.first=3", "log.partitions"),
            ("nonsense", "nonsense"),
        ] {
            let error = load_with(&[], &[set]).expect_err(set);
            assert!(error.message.starts_with("TLR-4002: ") && error.message.contains(named), "{set}: {}", error.message);
        }
        let error = load_with(&[("TAILORS_SET_BUILD__ENABLED", "maybe")], &[]).expect_err("no boolean");
        assert!(error.message.contains("build.enabled"), "{}", error.message);
        let missing = load(Some(Path::new("/nowhere/tailors.toml")), std::iter::empty(), &[]).expect_err("missing");
        assert!(missing.message.starts_with("TLR-4002: /nowhere/tailors.toml"), "{}", missing.message);
    }

    #[test]
    fn values_out_of_their_bounds_are_refused_by_name_value_and_bounds() {
        for (set, said) in [
            ("intake.request_windows_max=100", "intake.request_windows_max is 100; it must be 1 to 64"),
            ("intake.inflight_bytes_max=5", "intake.inflight_bytes_max is 5; it must be at least 67108864"),
            ("build.cores=0", "build.cores is 0; it must be 1 to 256"),
            ("memory_bytes_max=1", "memory_bytes_max is 1; it must be at least 268435456"),
            ("capture.flush_after_s=0", "capture.flush_after_s is 0; it must be 1 to 3600"),
            ("log.partitions=0", "log.partitions is 0; it must be 1 to 1024"),
            ("intake.overrides.7.dirty_windows_max=513", "intake.overrides.7.dirty_windows_max is 513; it must be 1 to 512"),
        ] {
            assert_eq!(load_with(&[], &[set]).expect_err(set).message, format!("TLR-4007: {said}"));
        }
    }

    /// `docs/settings.md` holds every name once, and its second column begins with the default of `up` as TOML writes it.
    #[test]
    fn the_page_of_settings_says_every_name_and_default() {
        fn leaves(group: &str, table: &toml::Table, out: &mut std::collections::BTreeMap<String, String>) {
            for (name, value) in table {
                let name = if group.is_empty() { name.clone() } else { format!("{group}.{name}") };
                match value {
                    toml::Value::Table(inner) => leaves(&name, inner, out),
                    toml::Value::String(text) => drop(out.insert(name, text.clone())),
                    other => drop(out.insert(name, other.to_string())),
                }
            }
        }
        let mut expected = std::collections::BTreeMap::new();
        let settings = load_with(&[], &[]).expect("defaults");
        leaves("", &toml::Table::try_from(&settings).expect("serializes"), &mut expected);
        let page = include_str!("../../docs/settings.md");
        let mut found = std::collections::BTreeMap::new();
        for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
            let (name, rest) = row.split_once("` | ").expect("a name and a default");
            let default = rest.split([' ', '|']).next().unwrap_or_default();
            assert!(found.insert(name.to_owned(), default.to_owned()).is_none(), "{name} stands twice");
        }
        assert_eq!(found, expected);
    }
}
