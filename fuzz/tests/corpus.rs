//! Replays what is kept: every seed is accepted by its target, and nothing in the corpus panics.

use std::path::Path;

use tailors_fuzz::TARGETS;

#[test]
fn seeds_are_accepted() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            assert!((target.run)(seed), "{}: seed {number} is refused", target.name);
        }
    }
}

#[test]
fn the_corpus_is_replayed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        for entry in std::fs::read_dir(corpus.join(target.name)).into_iter().flatten() {
            let path = entry.expect("entry").path();
            // The name is shown when a target panics.
            println!("{}", path.display());
            (target.run)(&std::fs::read(&path).expect("reads"));
        }
    }
}
