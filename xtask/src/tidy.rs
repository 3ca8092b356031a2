//! House rules that a compiler does not know: every module has a header, files stay readable, a stage depends on `base` only, nothing names one machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Code lines of a file, tests apart.
const FILE_LINES_MAX: usize = 1_000;
/// Stages in travel order.
const STAGES: [&str; 4] = ["intake", "capture", "build", "query"];
/// What ARCHITECTURE.md, README.md and the workspace must name in this order.
const ORDERED_IN: [&str; 2] = ["ARCHITECTURE.md", "Cargo.toml"];

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// One sentence per broken rule.
pub(crate) fn findings(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for folder in ["base", "stages", "control", "tailors", "bench", "fuzz", "xtask"] {
        rust_files(&root.join(folder), &mut files);
    }
    files.sort();
    let mut findings = Vec::new();
    for file in &files {
        let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
        let Ok(text) = fs::read_to_string(file) else { continue };
        check_file(&shown, &text, &mut findings);
    }
    check_edges(root, &mut findings);
    check_order(root, &mut findings);
    findings
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn check_file(shown: &str, text: &str, findings: &mut Vec<String>) {
    if !text.starts_with("//!") {
        findings.push(format!("{shown}: no module header; say in, out, invariant, unit or why"));
    }
    let is_test = shown.contains("/tests") || shown.ends_with("tests.rs");
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count();
    if !is_test && lines > FILE_LINES_MAX {
        findings.push(format!("{shown}: {lines} code lines, at most {FILE_LINES_MAX}"));
    }
    for (number, line) in text.lines().enumerate() {
        let unfinished = ["todo!(", "unimplemented!(", "FIXME"].iter().any(|word| line.contains(word));
        if unfinished && !shown.starts_with("xtask") {
            findings.push(format!("{shown}:{}: unfinished", number + 1));
        }
    }
}

/// A stage depends on `base` only; `base` depends on no stage.
fn check_edges(root: &Path, findings: &mut Vec<String>) {
    for stage in STAGES {
        let manifest = fs::read_to_string(root.join("stages").join(stage).join("Cargo.toml")).unwrap_or_default();
        for other in STAGES.iter().filter(|other| **other != stage).chain(&["control"]) {
            if manifest.contains(&format!("tailors-{other}.")) {
                findings.push(format!("stages/{stage} depends on {other}: a stage depends on base only"));
            }
        }
    }
    for base in ["model", "synth", "format", "store", "engine"] {
        let manifest = fs::read_to_string(root.join("base").join(base).join("Cargo.toml")).unwrap_or_default();
        for stage in STAGES {
            if manifest.contains(&format!("tailors-{stage}.")) {
                findings.push(format!("base/{base} depends on stage {stage}"));
            }
        }
    }
}

fn check_order(root: &Path, findings: &mut Vec<String>) {
    for file in ORDERED_IN {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        let places: Vec<_> = STAGES.iter().map(|stage| text.find(&format!("stages/{stage}"))).collect();
        if !places.is_sorted() || places.contains(&None) {
            findings.push(format!("{file}: stages do not stand in travel order {STAGES:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_rules() {
        assert_eq!(findings(&root()), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let mut findings = Vec::new();
        check_file("base/x.rs", &"let x = 1;\n".repeat(FILE_LINES_MAX + 1), &mut findings);
        check_file("base/y.rs", "//! Header.\nfn f() { todo!() }\n", &mut findings);
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}
