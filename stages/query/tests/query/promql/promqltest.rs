//! A reader of Prometheus' promqltest language, floats only: `clear`, `load`, `eval instant|range`, expectations. Runs the files of a directory
//! that is given from outside; prints what differs per file, and fails when fewer than a known share agrees.

use tailors_model::Tag;
use tailors_query::promql::labels::{Labels, NAME};
use tailors_query::promql::{Context, Value, eval_instant, eval_range};

use super::{Memory, STALE};

fn seconds(text: &str) -> Option<f64> {
    // The parser takes no zero with a unit.
    let zero = text.trim_end_matches(char::is_alphabetic) == "0";
    let parsed = || promql_parser::util::parse_duration(text).ok().map(|duration| duration.as_secs_f64());
    if zero { Some(0.0) } else { text.parse::<f64>().ok().or_else(parsed) }
}

/// Splits `name{a="b"} rest`.
fn series(line: &str) -> Option<(Labels, &str)> {
    let end = match line.find('{') {
        Some(open) if !line[..open].contains([' ', '\t']) => {
            let mut quoted = false;
            let at = line[open..].char_indices().find(|(i, c)| {
                if *c == '"' && !line[open..open + i].ends_with('\\') {
                    quoted = !quoted;
                }
                *c == '}' && !quoted
            })?;
            open + at.0 + 1
        }
        _ => line.find([' ', '\t']).unwrap_or(line.len()),
    };
    let (head, rest) = line.split_at(end);
    let (name, body) = head.split_once('{').map_or((head, ""), |(name, body)| (name, body.trim_end_matches('}')));
    let mut labels = Labels::new([(NAME, name)]);
    let mut body = body.trim();
    while let Some((key, after)) = body.split_once('=') {
        let after = after.trim_start().strip_prefix('"')?;
        let close = after.find('"')?;
        labels.set(key.trim().trim_matches('"'), &after[..close].replace("\\n", "\n"));
        body = after[close + 1..].trim_start_matches([',', ' ']);
    }
    Some((labels, rest.trim()))
}

/// Values of the notation `1+2x3 _ 4x2 stale`.
fn values(text: &str) -> Option<Vec<Option<f64>>> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        let (word, times) = match word.rsplit_once('x') {
            Some((head, times)) if times.parse::<u32>().is_ok() => (head, times.parse::<u32>().ok()?),
            _ => (word, u32::MAX),
        };
        let repeats = if times == u32::MAX { 0 } else { times };
        if word == "_" {
            out.extend((0..repeats.max(1)).map(|_| None));
            continue;
        }
        if word == "stale" {
            out.push(Some(STALE));
            continue;
        }
        let split = word.char_indices().skip(1).find(|(i, c)| (*c == '+' || *c == '-') && !word[..*i].ends_with(['e', 'E']));
        let (start, step) = match split {
            Some((at, _)) if times != u32::MAX => (word[..at].parse::<f64>().ok()?, word[at..].parse::<f64>().ok()?),
            _ => (word.parse::<f64>().ok()?, 0.0),
        };
        let mut value = start;
        for _ in 0..=repeats {
            out.push(Some(value));
            value += step;
        }
    }
    Some(out)
}

fn load(mut memory: Memory, step_s: f64, line: &str) -> Option<Memory> {
    let (labels, rest) = series(line)?;
    let points = values(rest)?.into_iter().enumerate().filter_map(|(i, value)| Some(((i as f64 * step_s * 1_000.0) as i64, value?)));
    let tags = labels.iter().filter(|(name, _)| *name != NAME).map(|(name, value)| Tag::pair(name.to_owned(), value.to_owned()));
    memory = memory.add(labels.get(NAME).unwrap_or_default().to_owned(), tags.collect(), points.collect());
    Some(memory)
}

fn near(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * (a.abs() + b.abs()).max(1e-300)
}

async fn check(memory: &Memory, header: &str, expected: &[String]) -> Result<(), String> {
    let mut context: Context = memory.clone().context();
    context.limits.experimental_functions = true;
    let fails = header.starts_with("eval_fail") || expected.iter().any(|line| line.starts_with("expect fail"));
    let ordered = header.starts_with("eval_ordered") || expected.iter().any(|line| line.starts_with("expect ordered"));
    let words: Vec<&str> = header.split_whitespace().collect();
    let query_at = |word: usize| {
        let mut rest = header;
        for _ in 0..word {
            rest = rest.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
        }
        rest.trim()
    };
    let ms = |word: &str| seconds(word).map(|s| (s * 1_000.0).round() as i64).ok_or("time");
    let (result, grid) = if words[1] == "range" {
        let (from, to, step) = (ms(words[3])?, ms(words[5])?, ms(words[7])?);
        (eval_range(&context, query_at(8), from, to, step).await, (from, step))
    } else {
        let at = ms(words[3])?;
        (eval_instant(&context, query_at(4), at).await, (at, 1))
    };
    let value = match (result, fails) {
        (Err(_), true) => return Ok(()),
        (Ok(_), true) => return Err("should fail".to_owned()),
        (Err(error), false) => return Err(error.to_string()),
        (Ok(answer), false) => answer.value,
    };
    let wanted: Vec<&String> = expected.iter().filter(|line| !line.starts_with("expect")).collect();
    let got: Vec<(Labels, Vec<(i64, f64)>)> = match value {
        Value::Scalar(_, value) => {
            let wanted = wanted.first().and_then(|line| values(line)).and_then(|values| values.first().copied().flatten());
            return if wanted.is_some_and(|wanted| near(wanted, value)) { Ok(()) } else { Err(format!("{value}")) };
        }
        Value::Text(_, text) => {
            let fits = wanted.is_empty() || wanted[0].contains(&text);
            return if fits { Ok(()) } else { Err(text) };
        }
        Value::Vector(samples) => samples.into_iter().map(|(labels, at, value)| (labels, vec![(at, value)])).collect(),
        Value::Matrix(_) if expected.iter().any(|line| line.starts_with("expect range vector")) => return Ok(()),
        Value::Matrix(series) => series,
    };
    let mut left = got.clone();
    for (number, line) in wanted.iter().enumerate() {
        let (labels, rest) = series(line).ok_or("unreadable expectation")?;
        let points: Vec<(i64, f64)> = values(rest)
            .ok_or("unreadable expectation")?
            .into_iter()
            .enumerate()
            .filter_map(|(i, v)| Some((grid.0 + grid.1 * i as i64, v?)))
            .collect();
        let same = |(found, values): &(Labels, Vec<(i64, f64)>)| {
            *found == labels && values.len() == points.len() && values.iter().zip(&points).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
        };
        let at = if ordered { got.get(number).filter(|found| same(found)).map(|_| 0) } else { left.iter().position(same) };
        match at {
            Some(at) => drop(left.remove(at)),
            None => return Err(format!("missing {line}; got {got:?}")),
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("too much: {left:?}")) }
}

/// (agree, evals without histograms) of one file.
async fn file(name: &str, text: &str) -> (usize, usize) {
    let (mut memory, mut good, mut all) = (Memory::default(), 0, 0);
    let mut lines = text.lines().map(|line| line.trim_end()).filter(|line| !line.trim_start().starts_with('#')).peekable();
    let mut histograms = false;
    while let Some(line) = lines.next() {
        let mut block = Vec::new();
        while lines.peek().is_some_and(|next| next.starts_with([' ', '\t'])) {
            block.extend(
                lines.next().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned()).filter(|line| !line.is_empty()),
            );
        }
        if line.trim() == "clear" {
            (memory, histograms) = (Memory::default(), false);
        } else if let Some(step) = line.strip_prefix("load ").or_else(|| line.strip_prefix("load_with_nhcb ")) {
            for series in &block {
                match load(memory.clone(), seconds(step.trim()).unwrap_or(60.0), series) {
                    Some(more) => memory = more,
                    None => histograms = true,
                }
            }
        } else if line.starts_with("eval") {
            let skip = histograms
                || block.iter().any(|line| line.contains("{{"))
                || line.contains("histogram_") && !line.contains("histogram_quantile");
            if skip {
                continue;
            }
            all += 1;
            match check(&memory, line, &block).await {
                Ok(()) => good += 1,
                Err(why) => println!("{name}: {line}\n    {}", why.chars().take(300).collect::<String>()),
            }
        }
    }
    (good, all)
}

#[tokio::test]
async fn prometheus_own_tests_agree() {
    let Some(dir) = std::env::var_os("TAILORS_PROMQLTEST") else { return };
    let only = std::env::var("TAILORS_PROMQLTEST_FILE").unwrap_or_default();
    let mut names: Vec<_> = std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").path()).collect();
    names.sort();
    let (mut good, mut all) = (0, 0);
    let mut table = String::new();
    for path in names.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (one, of) = file(&name, &std::fs::read_to_string(path).expect("text")).await;
        table.push_str(&format!("{name}: {one}/{of}\n"));
        (good, all) = (good + one, all + of);
    }
    println!("{table}total: {good}/{all}");
    assert!(good * 100 >= all * 50, "{good} of {all} agree");
}
