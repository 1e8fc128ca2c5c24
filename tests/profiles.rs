//! Ties the profiles of foreign formats to their proofs: each rule has a test that names it, and no test names another.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::{collections::BTreeSet, fs, path::Path};

/// Every id such as `L1-HDR-01` or `VC-HDR-01` in a text: a format's letters, a group's, a number.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_id = |word: &&str| {
        let parts: Vec<_> = word.split('-').collect();
        matches!(parts.as_slice(), ["L1" | "L2" | "VC" | "FO", group, number]
            if group.chars().all(|c| c.is_ascii_uppercase()) && number.len() == 2)
    };
    words.filter(is_id).map(str::to_owned).collect()
}

fn each_file(folder: &Path, extension: &str, visit: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, extension, visit);
        } else if path.extension().is_some_and(|found| found == extension) {
            visit(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_rule_of_a_profile_is_proven_by_a_named_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut rules = BTreeSet::new();
    each_file(&root.join("spec/profiles"), "md", &mut |text| {
        rules.extend(
            text.lines()
                .filter(|line| {
                    line.starts_with("| L") || line.starts_with("| VC-") || line.starts_with("| FO-")
                })
                .filter_map(|row| ids(row.split('|').nth(1)?).pop_first()),
        );
    });
    assert!(rules.len() > 20, "only {} rules found", rules.len());

    let mut proven = BTreeSet::new();
    for folder in ["src", "tests"] {
        each_file(&root.join(folder), "rs", &mut |text| {
            let proofs = text.lines().filter(|line| line.trim_start().starts_with("// proves: "));
            proven.extend(proofs.flat_map(ids));
        });
    }
    let unproven: Vec<_> = rules.difference(&proven).collect();
    assert!(unproven.is_empty(), "no test proves {unproven:?}");
    let unknown: Vec<_> = proven.difference(&rules).collect();
    assert!(unknown.is_empty(), "the profiles have no {unknown:?}");
}
