//! `cargo xtask rivals`: builds VictoriaMetrics and Prometheus from their Go modules, where the benchmarks look for them.
//!
//! Out: `vm` and `prom` in `$TSDB_CACHE`, by default below the home directory, outside the checkout. What is there stays; a lock lets two callers
//! share one build. Needs `go`; a build takes one to several minutes of one core.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the binary, module with version, package inside it.
const RIVALS: [(&str, &str, &str); 2] = [
    ("vm", "github.com/VictoriaMetrics/VictoriaMetrics@v1.150.0", "app/victoria-metrics"),
    ("prom", "github.com/prometheus/prometheus@v0.315.0", "cmd/prometheus"),
];

/// Builds what is missing; gives where they lie.
pub(crate) fn install() -> Result<Vec<PathBuf>, String> {
    let cache = cache().ok_or("neither TSDB_CACHE nor HOME is set")?;
    std::fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(cache.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| format!("waiting for another build: {error}"))?;
    let mut installed = Vec::new();
    for (name, module, package) in RIVALS {
        let binary = cache.join(name);
        if !binary.is_file() {
            println!("building {module}");
            build(&cache, &binary, module, package)?;
        }
        installed.push(binary);
    }
    Ok(installed)
}

/// As the benchmark `import` has it.
fn cache() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/tailors-bench/tsdb"));
    std::env::var_os("TSDB_CACHE").map(PathBuf::from).or_else(home)
}

/// In a copy of the module: both carry replace directives, which `go install` refuses.
fn build(cache: &Path, binary: &Path, module: &str, package: &str) -> Result<(), String> {
    let said = output(Command::new("go").current_dir(cache).args(["mod", "download", "-json", module]))?;
    let source = said.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.split('"').next());
    let source = source.ok_or_else(|| format!("go mod download does not say where {module} lies"))?;
    let copy = cache.join(format!("build.{}", std::process::id()));
    output(Command::new("cp").arg("-r").arg(source).arg(&copy))?;
    output(Command::new("chmod").args(["-R", "u+w"]).arg(&copy))?;
    let vendored = copy.join("vendor");
    if vendored.is_dir() {
        std::fs::remove_dir_all(&vendored).map_err(|error| error.to_string())?;
    }
    let mut go = Command::new("go");
    go.current_dir(&copy).env("GOWORK", "off").env("GOFLAGS", "-mod=mod");
    go.args(["build", "-tags", "netgo,remove_all_sd", "-ldflags", "-s -w", "-o"]).arg(binary).arg(format!("./{package}"));
    let built = output(&mut go);
    std::fs::remove_dir_all(&copy).map_err(|error| error.to_string())?;
    built.map(drop)
}

/// Standard output of a command that ends well.
fn output(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}
