//! Ties the specification to its proofs.

use std::{collections::BTreeSet, fs, path::Path};

/// Every `NAT-XXX-nn` in a text.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| word.starts_with("NAT-") && word.ends_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

/// The ids that tests name on lines `// proves: NAT-...`.
fn proven_by_tests(folder: &Path, proven: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            proven_by_tests(&path, proven);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            proven.extend(
                text.lines().filter(|line| line.trim_start().starts_with("// proves: ")).flat_map(ids),
            );
        }
    }
}

#[test]
fn every_rule_is_proven_by_a_vector_or_a_named_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = ids(&fs::read_to_string(root.join("spec/native-v1.md")).unwrap());
    assert!(rules.len() > 40, "only {} rules found", rules.len());

    let mut proven: BTreeSet<String> =
        super::stored().into_values().flat_map(|vector| vector.rules).collect();
    proven_by_tests(&root.join("src"), &mut proven);
    proven_by_tests(&root.join("tests"), &mut proven);

    let unproven: Vec<_> = rules.difference(&proven).collect();
    assert!(unproven.is_empty(), "no vector and no test proves {unproven:?}");
    let unknown: Vec<_> = proven.difference(&rules).collect();
    assert!(unknown.is_empty(), "the specification has no {unknown:?}");
}
