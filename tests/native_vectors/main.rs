//! The vectors of the native format: made from the specification, kept in the repository, read by the product.
//!
//! `STRONGROOM_WRITE_VECTORS=1 cargo test --test native_vectors` writes them anew after a change of the specification.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::assigning_clones,
    reason = "a test stops at the first thing that is not as it must be; its sizes are its own"
)]

mod example;
mod generator;
mod rules;
mod walk;

use std::{collections::BTreeMap, fs, path::PathBuf};

use generator::{Made, Vector};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/native")
}

/// Every vector in the repository by name.
fn stored() -> BTreeMap<String, Vector> {
    let mut vectors = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let vector = toml::from_str(&fs::read_to_string(&path).unwrap());
            vectors.insert(name.clone(), vector.unwrap_or_else(|error| panic!("{name}: {error}")));
        }
    }
    vectors
}

#[test]
fn stored_vectors_are_what_the_specification_gives() {
    let (bases, vectors) = (generator::bases(), generator::vectors());
    if std::env::var_os("STRONGROOM_WRITE_VECTORS").is_some() {
        write(&bases, &vectors);
    }
    for (name, made) in &bases {
        assert!(fs::read(folder().join(name)).unwrap() == made.bytes, "{name} is another");
    }
    assert_eq!(stored(), vectors);
}

fn write(bases: &BTreeMap<&'static str, Made>, vectors: &BTreeMap<String, Vector>) {
    fs::remove_dir_all(folder()).unwrap();
    fs::create_dir_all(folder()).unwrap();
    for (name, made) in bases {
        fs::write(folder().join(name), &made.bytes).unwrap();
    }
    for (name, vector) in vectors {
        fs::write(folder().join(format!("{name}.toml")), toml::to_string(vector).unwrap()).unwrap();
    }
}
