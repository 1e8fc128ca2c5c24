//! Keyslots, header backups and detached headers of LUKS, changed by strongroom and cryptsetup in turn.

use std::path::Path;

use crate::{PASSWORD, place::Place, programs};

/// Each version, with the cheapest costs of a keyslot for both programs.
const VERSIONS: [(&str, &str, &[&str]); 2] = [
    ("luks1", "--kdf-iterations 1000", &["--pbkdf-force-iterations", "1000"]),
    (
        "luks2",
        "--kdf-memory 4M --kdf-passes 4 --kdf-lanes 1",
        &["--pbkdf-memory", "4096", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "1"],
    ),
];

/// A place of an ordinary user, with a password and two keyfiles.
fn place() -> Option<Place> {
    programs::is_there("cryptsetup").then(|| {
        let place = Place::of_ordinary_user();
        place.make_file("key", PASSWORD);
        place.make_file("second", [0, 10, 255, 7]);
        place.make_file("third", b"another\n");
        place
    })
}

/// cryptsetup opens it with this keyfile.
fn opens(place: &Place, key: &str, options: &[&str], container: &Path) {
    let key = place.path(key);
    let open = ["open", "--test-passphrase", "--key-file", key.to_str().unwrap()];
    programs::cryptsetup(&[&open, options, &[container.to_str().unwrap()]].concat());
}

/// strongroom does not open it with this keyfile.
fn is_shut(place: &Place, key: &str, container: &str) {
    let output = place.strongroom(&format!("key test {container} --keyfile {key}"));
    assert_eq!(output.status, Some(2), "{container} {key}: {output:?}");
}

fn create(place: &Place, format: &str, costs: &str, more: &str) {
    place.done(&format!(
        "create c.{format} --format {format} --size 20M --filesystem none --provision quick --keyfile key {costs}{more}"
    ));
}

#[test]
fn keyslots_are_changed_by_both_in_turn() {
    let Some(place) = place() else { return };
    for (format, costs, force) in VERSIONS {
        create(&place, format, costs, "");
        let (name, container) = (format!("c.{format}"), place.path(&format!("c.{format}")));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let add = ["luksAddKey", "--key-file", &text(&place.path("key"))];
        let files = [&text(&container)[..], &text(&place.path("second"))];
        programs::cryptsetup(&[&add, force, &files].concat());
        place.done(&format!("key test {name} --keyfile second --slot 1"));

        place.done(&format!("key add {name} --keyfile second --new-keyfile third {costs}"));
        opens(&place, "third", &["--key-slot", "2"], &container);
        place.done(&format!("key change {name} --slot 1 --keyfile key --new-keyfile third {costs}"));
        opens(&place, "third", &["--key-slot", "1"], &container);
        is_shut(&place, "second", &name);
        place.done(&format!("key remove {name} --slot 1 --keyfile key --yes"));
        let kill = ["luksKillSlot", "--key-file", &text(&place.path("key")), &text(&container), "2"];
        programs::cryptsetup(&kill);
        is_shut(&place, "third", &name);
        opens(&place, "key", &[], &container);
        let dump = programs::cryptsetup(&["luksDump", &text(&container)]);
        assert!(!dump.contains("Key Slot 2: ENABLED"), "{dump}");
    }
}

#[test]
fn header_backups_are_restored_by_the_other_program() {
    let Some(place) = place() else { return };
    for (format, costs, _) in VERSIONS {
        create(&place, format, costs, "");
        let (name, container) = (format!("c.{format}"), place.path(&format!("c.{format}")));
        let (ours, theirs) = (place.path(&format!("ours.{format}")), place.path(&format!("theirs.{format}")));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        place.done(&format!("header backup {name} ours.{format}"));
        let backup = ["luksHeaderBackup", &text(&container), "--header-backup-file", &text(&theirs)];
        programs::cryptsetup(&backup);
        place.give(&theirs);
        let lens = [&ours, &theirs].map(|path| std::fs::metadata(path).unwrap().len());
        assert_eq!(lens[0], lens[1], "{format}");

        let change = format!("key change {name} --keyfile key --new-keyfile second {costs}");
        place.done(&change);
        is_shut(&place, "key", &name);
        let restore = ["luksHeaderRestore", &text(&container), "--header-backup-file", &text(&ours)];
        programs::cryptsetup(&restore);
        place.done(&format!("key test {name} --keyfile key"));
        is_shut(&place, "second", &name);
        place.done(&change);
        place.done(&format!("header restore {name} theirs.{format} --yes"));
        opens(&place, "key", &[], &container);
        is_shut(&place, "second", &name);
    }
}

#[test]
fn detached_headers_are_those_of_both() {
    let Some(place) = place() else { return };
    for (format, costs, force) in VERSIONS {
        create(&place, format, costs, &format!(" --header ours.{format}"));
        let text = |name: String| place.path(&name).to_str().unwrap().to_owned();
        let (container, ours) = (place.path(&format!("c.{format}")), text(format!("ours.{format}")));
        opens(&place, "key", &["--header", &ours], &container);

        let data = place.make_file("data", vec![0; 2 << 20]);
        let (theirs, key) = (text(format!("theirs.{format}")), text("key".to_owned()));
        let make = ["luksFormat", "--type", format, "--header", &theirs, "--key-file", &key];
        programs::cryptsetup(&[&make, force, &[data.to_str().unwrap()]].concat());
        place.give(Path::new(&theirs));
        let header = format!("--header theirs.{format}");
        place.done(&format!("key add data {header} --keyfile key --new-keyfile second {costs}"));
        opens(&place, "second", &["--header", &theirs], &data);
        let info: serde_json::Value =
            serde_json::from_str(&place.done(&format!("info data {header} --json"))).unwrap();
        assert_eq!((&info["data_offset"], &info["data_size"]), (&0.into(), &(2 << 20).into()), "{info}");
        assert_eq!(place.done(&format!("key test theirs.{format} --keyfile key")), "keyslot 0 opens\n");
    }
}
