//! `tailors generate`: synthetic points as CSV, in time order as agents would send them; the file is its own truth.

use std::fs::File;
use std::io::{BufWriter, Write};

use tailors_synth::{Class, Spec};

use super::now_ms;
use crate::cli::Generate;
use crate::exit::Failure;
use crate::out::say;
use crate::time::parse_ms;

pub(crate) fn run(args: &Generate) -> Result<(), Failure> {
    let name = args.out.to_string_lossy();
    if !(name.ends_with(".csv") || name.ends_with(".csv.zst")) {
        return Err(Failure::usage(format!("--out {name}: write a name that ends with .csv or .csv.zst")));
    }
    let class = Class::parse(&args.class).ok_or_else(|| {
        let known: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
        Failure::usage(format!("`{}` is no class; there are {}", args.class, known.join(", ")))
    })?;
    let now_ms = now_ms(None)?;
    let start_ms = match &args.start {
        Some(text) => parse_ms(text, now_ms)?,
        None => (now_ms.div_euclid(3_600_000) - 1) * 3_600_000,
    };
    let spec =
        Spec { class, seed: args.seed, series: args.series, start_s: start_ms.div_euclid(1_000), seconds: args.seconds, step_s: args.step };
    let mut rows: Vec<(i64, u32, f64)> = Vec::new();
    let mut names = Vec::new();
    for series in tailors_synth::generate(spec) {
        let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        rows.extend(series.points.iter().map(|(at_ms, value)| (*at_ms, names.len() as u32, *value)));
        names.push((series.metric, tags.join(",")));
    }
    rows.sort_unstable_by_key(|(at_ms, series, _)| (*at_ms, *series));
    let file = File::create(&args.out).map_err(|error| Failure::usage(format!("{}: {error}", args.out.display())))?;
    if args.out.extension().is_some_and(|extension| extension == "zst") {
        let mut zipped = zstd::stream::write::Encoder::new(file, 3)?;
        write_csv(&mut zipped, &rows, &names)?;
        zipped.finish()?.sync_all()?;
    } else {
        write_csv(&file, &rows, &names)?;
    }
    say!("wrote {} points of {} series to {}", rows.len(), names.len(), args.out.display());
    Ok(())
}

fn write_csv(out: impl Write, rows: &[(i64, u32, f64)], names: &[(String, String)]) -> Result<(), Failure> {
    let mut out = BufWriter::new(out);
    writeln!(out, "timestamp,metric,tags,value")?;
    for (at_ms, series, value) in rows {
        let (metric, tags) = &names[*series as usize];
        // Stale markers are sent as plain NaN: CSV has no NaN payloads.
        writeln!(out, "{},{metric},\"{tags}\",{value}", at_ms / 1_000)?;
    }
    out.flush()?;
    Ok(())
}
