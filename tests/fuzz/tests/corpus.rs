//! The corpus of every target, replayed; some thousand mutations of it; and that
//! nothing is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod seeds;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use counterfoil_fuzz::mutate::{Random, mutate};
use counterfoil_fuzz::{TARGETS, Target};

/// Mutations of each target's corpus. The same ones in every run.
const MUTATIONS: usize = 2000;
/// Of a target that writes files.
const MUTATIONS_ON_DISK: usize = 400;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = here().join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(here().join(folder)).unwrap();
    let stem = |file: std::io::Result<std::fs::DirEntry>| {
        file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()
    };
    files.map(stem).collect()
}

/// Runs a target; says what it was given if it fails.
fn withstands((name, target): Target, data: &[u8], what: &str) {
    let outcome = std::panic::catch_unwind(|| target(data));
    assert!(outcome.is_ok(), "{name} fails on {what}:\n{}", data.escape_ascii());
}

#[test]
fn every_target_has_a_corpus_and_a_libfuzzer_binary() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), targets, "tests/fuzz/corpus");
    assert_eq!(names("libfuzzer/targets"), targets, "tests/fuzz/libfuzzer/targets");
    let manifest = std::fs::read_to_string(here().join("libfuzzer/Cargo.toml")).unwrap();
    for target in &targets {
        assert!(corpus(target).len() >= 3, "{target}: a corpus is more than one input");
        let binary = format!("[[bin]]\nname = \"{target}\"\npath = \"targets/{target}.rs\"");
        assert!(manifest.contains(&binary), "{target} is not in libfuzzer/Cargo.toml");
    }
}

#[test]
fn every_target_withstands_its_corpus() {
    for target in TARGETS {
        for (file, data) in corpus(target.0) {
            withstands(*target, &data, &file.display().to_string());
        }
        withstands(*target, b"", "nothing");
    }
}

#[test]
fn every_target_withstands_what_is_made_of_its_corpus() {
    for target in TARGETS {
        let corpus = corpus(target.0);
        let on_disk = ["journal_file", "journal_row", "settings_file"].contains(&target.0);
        let mut random = Random::new(0x0c0_ffee);
        for number in 0..if on_disk { MUTATIONS_ON_DISK } else { MUTATIONS } {
            let mut data = corpus[random.below(corpus.len())].1.clone();
            let other = &corpus[random.below(corpus.len())].1;
            mutate(&mut data, other, &mut random);
            withstands(*target, &data, &format!("mutation {number}"));
        }
    }
}

/// The seeds are written by `UPDATE_GOLDEN=1 cargo test -p counterfoil-fuzz`.
#[test]
fn the_corpus_holds_the_golden_messages_and_what_is_known_to_hurt() {
    for (target, name, data) in seeds::all() {
        let file = here().join("corpus").join(target).join(&name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &data).unwrap();
        }
        let is = std::fs::read(&file).unwrap_or_else(|_| panic!("no {}", file.display()));
        assert!(is == data, "{} is another", file.display());
    }
}
