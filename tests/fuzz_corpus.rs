//! The fuzz targets over their corpora, as an ordinary test: it always builds, and a finding once fixed stays fixed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as it must be"
)]

#[path = "../fuzz/crash_model.rs"]
mod crash_model;
#[allow(dead_code, reason = "each target uses a part")]
#[path = "../fuzz/foreign.rs"]
mod foreign;
#[path = "../fuzz/reencryption.rs"]
mod reencryption;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn no_input_of_the_native_header_corpus_panics() {
    let inputs = corpus("native_header");
    assert!(inputs.len() >= 100, "only {} inputs", inputs.len());
    for input in &inputs {
        targets::native_header(input);
    }
}

#[test]
fn no_input_of_the_luks_corpora_panics() {
    let targets = [
        ("luks1_header", targets::luks1_header as fn(&[u8])),
        ("luks2_header", targets::luks2_header),
        ("luks2_json", targets::luks2_json),
    ];
    for (name, target) in targets {
        let inputs = corpus(name);
        assert!(inputs.len() >= 2, "only {} inputs of {name}", inputs.len());
        for input in &inputs {
            target(input);
            // One changed byte at a time, all over the first copy of the fields.
            for at in (0..input.len().min(8192)).step_by(37) {
                let mut changed = input.clone();
                changed[at] ^= 0x55;
                target(&changed);
            }
        }
    }
}

#[test]
fn no_input_of_the_partitions_corpus_panics() {
    let inputs = corpus("partitions");
    assert!(inputs.len() >= 5, "only {} inputs", inputs.len());
    for input in &inputs {
        targets::partitions(input);
        for at in (0..input.len().min(8192)).step_by(3) {
            let mut changed = input.clone();
            changed[at] ^= 0x55;
            targets::partitions(&changed);
        }
    }
}

#[test]
fn no_input_of_the_pieces_corpus_panics() {
    let inputs = corpus("pieces");
    assert!(inputs.len() >= 5, "only {} inputs", inputs.len());
    for input in &inputs {
        targets::pieces(input);
        for at in (0..input.len()).step_by(3).filter(|at| !(200..4000).contains(at)) {
            let mut changed = input.clone();
            changed[at] ^= 0x55;
            targets::pieces(&changed);
        }
    }
}

#[test]
fn no_input_of_the_corpora_of_foreign_containers_panics() {
    let targets = [
        ("unlock", foreign::unlock as fn(&[u8]) -> bool, 257),
        ("veracrypt_header", foreign::veracrypt_header, 7),
        ("freeotfe_header", foreign::freeotfe_header, 7),
        ("free_space", foreign::free_space, 41),
        ("ext", foreign::ext, 41),
        ("ntfs", foreign::ntfs, 41),
        ("iso", foreign::iso, 41),
        ("udf", foreign::udf, 41),
    ];
    for (name, target, step) in targets {
        let inputs = corpus(name);
        assert!(inputs.len() >= 4, "only {} inputs of {name}", inputs.len());
        let whole = inputs.iter().filter(|input| target(input)).count();
        // Each file system is one that is read.
        let wanted =
            if ["free_space", "ext", "ntfs", "iso", "udf"].contains(&name) { inputs.len() } else { 4 };
        assert!(whole >= wanted, "only {whole} inputs of {name} are what they should be");
        for input in &inputs {
            for at in (0..input.len().min(8192)).step_by(step) {
                let mut changed = input.clone();
                changed[at] ^= 0x55;
                target(&changed);
            }
        }
    }
}

#[test]
fn each_container_that_is_changed_opens_unchanged() {
    for format in 0..4 {
        assert!(foreign::unlock(&[format]) && foreign::unlock(&[format | 4]), "{format}");
    }
}

#[test]
fn no_input_of_the_crash_model_corpus_loses_anything() {
    let inputs = corpus("crash_model");
    assert!(inputs.len() >= 20, "only {} inputs", inputs.len());
    for input in &inputs {
        crash_model::crash_model(input);
    }
}

#[test]
fn no_input_of_the_header_file_corpus_panics() {
    let inputs = corpus("header_file");
    assert!(inputs.len() >= 50, "only {} inputs", inputs.len());
    for input in &inputs {
        targets::header_file(input);
    }
}

#[test]
fn no_input_of_the_reencryption_corpus_panics() {
    let inputs = corpus("reencryption");
    assert!(inputs.len() >= 50, "only {} inputs", inputs.len());
    for input in &inputs {
        reencryption::reencryption(input);
    }
}
