//! The primitives against published vectors: those typed from standards lie in `tests/vectors`, the rest in the fixtures.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests too")]

mod aead;
mod kdf;
mod mac;
mod sector;
mod xts;

use std::{collections::HashMap, env, fs, path::PathBuf};

/// A file of the fixtures' `vectors` folder.
///
/// `None`, and one line that says so, where the folder is absent. Panics there with `STRONGROOM_REQUIRE=1`, so that CI
/// cannot skip in silence.
fn fixture(name: &str) -> Option<Vec<u8>> {
    let folder = env::var_os("STRONGROOM_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let path = folder.join("vectors").join(name);
    if path.exists() {
        return Some(fs::read(&path).unwrap());
    }
    assert_ne!(env::var("STRONGROOM_REQUIRE").as_deref(), Ok("1"), "{} is missing", path.display());
    println!("skipped: {} is not there", path.display());
    None
}

/// The tests of a Wycheproof file, each with the group that it is in.
fn wycheproof(name: &str) -> Option<Vec<(serde_json::Value, serde_json::Value)>> {
    let file: serde_json::Value = serde_json::from_slice(&fixture(name)?).unwrap();
    let groups = file["testGroups"].as_array().unwrap();
    let tests = groups.iter().flat_map(|group| {
        let tests = group["tests"].as_array().unwrap();
        tests.iter().map(|test| (group.clone(), test.clone()))
    });
    Some(tests.collect())
}

/// The bytes of a hexadecimal field.
fn bytes(test: &serde_json::Value, field: &str) -> Vec<u8> {
    hex::decode(test[field].as_str().unwrap()).unwrap()
}

/// Whether a Wycheproof test must pass. There is no "acceptable" one among those used.
fn is_valid(test: &serde_json::Value) -> bool {
    match test["result"].as_str().unwrap() {
        "valid" => true,
        "invalid" => false,
        other => panic!("result {other}"),
    }
}

/// The `name = value` lines of a text vector file, a record at a time: a record ends with the field `last`.
///
/// Each record carries under `section` the `[heading]` that it stands below.
fn records(text: &str, last: &str) -> Vec<HashMap<String, String>> {
    let (mut records, mut record, mut section) = (Vec::new(), HashMap::new(), String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(heading) = line.strip_prefix('[') {
            heading.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once('=') {
            record.insert(name.trim().to_owned(), value.trim().to_owned());
            if name.trim() == last {
                record.insert("section".to_owned(), section.clone());
                records.push(std::mem::take(&mut record));
            }
        }
    }
    records
}
