//! `strongroom benchmark`: its JSON is a contract, its words are read by people.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod place;

use place::{Place, ended};
use serde_json::Value;

#[test]
fn json_has_every_rate_and_nothing_is_zero() {
    let told = Place::of_this_user().strongroom("benchmark --json");
    assert_eq!((told.status, told.errors.as_str()), (Some(0), ""));
    let rates = told.json();
    assert!(rates["memcpy"].as_u64().unwrap() > 0);
    for row in rates["xts"].as_array().unwrap().iter().chain(rates["other"].as_array().unwrap()) {
        assert!(row["encrypt"].as_u64().unwrap() > 0 && row["decrypt"].as_u64().unwrap() > 0, "{row}");
        assert!(!row["backend"].as_str().unwrap().is_empty(), "{row}");
    }
    for (cipher, sector_size) in [("aes-256-xts", 4096), ("aes-256-xts", 512), ("serpent-256-xts", 4096)] {
        let is_row = |row: &Value| row["cipher"] == cipher && row["sector_size"] == sector_size;
        assert_eq!(rates["xts"].as_array().unwrap().iter().filter(|row| is_row(row)).count(), 1, "{cipher}");
    }

    let kdfs = rates["kdf"].as_array().unwrap();
    assert!(kdfs.iter().all(|kdf| kdf["seconds"].as_f64().unwrap() > 0.0));
    let least = kdfs.iter().find(|kdf| kdf["name"] == "argon2id").unwrap();
    assert_eq!(
        (&least["memory"], &least["passes"], &least["lanes"]),
        (&(64 << 20).into(), &3.into(), &4.into())
    );
    let pbkdf2 = kdfs.iter().find(|kdf| kdf["name"] == "pbkdf2-sha512").unwrap();
    assert!(pbkdf2["iterations"].as_u64().unwrap() > 0 && pbkdf2["memory"].is_null());
}

#[test]
fn a_forced_backend_is_the_one_that_is_measured() {
    let place = Place::of_this_user();
    let mut command = place.command(place.path("strongroom"));
    let text = ended(command.arg("benchmark").env("STRONGROOM_XTS_BACKEND", "portable")).out;
    let aes: Vec<&str> = text.lines().filter(|line| line.starts_with("aes-256-xts")).collect();
    assert_eq!(aes.len(), 2, "{text}");
    assert!(aes.iter().all(|line| line.ends_with("  portable")), "{text}");
}
