//! Passwords in the keyring of the user's desktop: kept where the user says so, taken from there, forgotten.

use std::{collections::HashMap, time::Instant};

use super::{
    bus::Bus,
    place::{CHEAP, Ended, PASSWORD, Place, can_mount},
    secret_service::{Item, Keyring, Manner},
};

/// A user's place with a vault and such a keyring.
fn with_keyring(manner: Manner, walk: impl Fn(&Place, &Keyring)) {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    let Some(bus) = Bus::of_session(&place) else { return };
    let keyring = Keyring::start(&bus, manner);
    make(&place, "v.vault");
    walk(&place, &keyring);
    place.assert_clean();
}

fn make(place: &Place, name: &str) {
    place.done(&format!(
        "create {name} --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
    ));
}

fn uuid(place: &Place, name: &str) -> String {
    place.json(&format!("info {name}"))["uuid"].as_str().unwrap().to_owned()
}

/// Calls strongroom without a terminal; with a display, on which only the keyring can ask.
fn call(place: &Place, display: bool, arguments: &str) -> Ended {
    let mut command = place.command("setsid");
    let display = if display { "export DISPLAY=:99;" } else { "" };
    let script = format!("{display} export HOME=$PWD; exec ./strongroom {arguments} < /dev/null");
    super::place::ended(command.args(["--wait", "/bin/sh", "-euc", &script]))
}

/// Opens the vault and closes it again.
fn opens(place: &Place, arguments: &str) -> Ended {
    let ended = call(place, true, &format!("mount v.vault m --ask terminal {arguments}"));
    if ended.status == Some(0) {
        place.done("unmount m");
    }
    ended
}

#[test]
fn a_password_is_kept_where_the_user_says_so_and_opens_the_vault_from_then_on() {
    with_keyring(Manner::Open, |place, keyring| {
        assert_eq!(opens(place, "--password-file password").status, Some(0));
        assert!(keyring.items().is_empty(), "nobody said that it is to be remembered");
        let refused = opens(place, "");
        assert_eq!(refused.status, Some(1), "{refused:?}");

        let kept = opens(place, "--remember --password-file password");
        assert!(
            kept.status == Some(0) && kept.errors.contains("remembers the password of v.vault"),
            "{kept:?}"
        );
        let [item] = &keyring.items()[..] else { panic!("{:?}", keyring.items()) };
        assert_eq!((&*item.label, &*item.secret), ("strongroom: v.vault", PASSWORD.as_bytes()));
        let attributes = [("application", "strongroom".to_owned()), ("uuid", uuid(place, "v.vault"))];
        assert_eq!(item.attributes, attributes.map(|(key, value)| (key.to_owned(), value)).into());

        // By whatever name it goes.
        place.shell("mv v.vault w.vault; ln -s w.vault v.vault");
        for arguments in ["", "--read-only", "--slot 0"] {
            let opened = opens(place, arguments);
            assert_eq!((opened.status, opened.errors.contains("warning")), (Some(0), false), "{opened:?}");
        }
        assert!(!keyring.saw(PASSWORD.as_bytes()), "the password crossed the bus in clear");
        assert_eq!(keyring.prompts(), 0);

        // Other commands ask for it.
        let refused = call(place, true, "key test v.vault --ask terminal");
        assert_eq!(refused.status, Some(1), "{refused:?}");
        // Of another vault nothing is known.
        make(place, "other.vault");
        assert_eq!(call(place, true, "mount other.vault m --ask terminal").status, Some(1));
    });
}

#[test]
fn one_that_no_longer_opens_is_told_each_time_and_replaced_only_where_the_user_says_so() {
    with_keyring(Manner::Open, |place, keyring| {
        assert_eq!(opens(place, "--remember --password-file password").status, Some(0));
        place.make_file("new", "another one");
        let changed =
            call(place, false, "key change v.vault --password-file password --new-password-file new");
        assert_eq!(changed.status, Some(0), "{changed:?}");
        assert!(
            changed.errors.contains("your keyring remembers a password of this container"),
            "{changed:?}"
        );
        for _ in 0..2 {
            let refused = opens(place, "");
            assert!(refused.errors.contains("the remembered password does not open v.vault"), "{refused:?}");
            assert_eq!(refused.status, Some(1), "{refused:?}");
        }
        assert_eq!(opens(place, "--password-file new").status, Some(0));
        assert_eq!(keyring.items()[0].secret, PASSWORD.as_bytes());
        assert_eq!(opens(place, "--remember --password-file new").status, Some(0));
        assert_eq!((keyring.items().len(), &*keyring.items()[0].secret), (1, &b"another one"[..]));
        assert_eq!(opens(place, "").status, Some(0));
        // One that is not even text.
        keyring.replace_secrets("\u{1}\n\u{7f}");
        assert_eq!(opens(place, "").status, Some(1));
    });
}

#[test]
fn a_password_is_forgotten_of_one_vault_of_one_that_is_gone_and_of_all() {
    with_keyring(Manner::Open, |place, keyring| {
        let other = Item {
            label: "of another program".to_owned(),
            attributes: HashMap::from([("uuid".to_owned(), uuid(place, "v.vault"))]),
            secret: b"theirs".to_vec(),
        };
        keyring.put(other.clone());
        let ours =
            || keyring.items().iter().filter(|item| item.attributes.contains_key("application")).count();
        let keep = || assert_eq!(opens(place, "--remember --password-file password").status, Some(0));
        keep();
        assert_eq!(ours(), 1);
        let forgotten = call(place, true, "forget v.vault --json");
        assert_eq!((forgotten.status, &forgotten.json()["forgotten"]), (Some(0), &1.into()), "{forgotten:?}");
        assert_eq!(ours(), 0);
        let again = call(place, true, "forget v.vault");
        assert!(again.status == Some(0) && again.errors.contains("nothing is remembered"), "{again:?}");
        assert_eq!(opens(place, "").status, Some(1));
        keep();
        let erased = call(place, true, "erase v.vault --yes");
        let forget = format!("strongroom forget {}", keyring.items().last().unwrap().attributes["uuid"]);
        assert!(erased.errors.contains(&forget), "{erased:?}");
        let forgotten = call(place, true, forget.strip_prefix("strongroom ").unwrap());
        assert!(forgotten.status == Some(0) && forgotten.errors.contains("forgot"), "{forgotten:?}");
        assert_eq!(ours(), 0);
        place.shell("rm v.vault");
        make(place, "v.vault");
        keep();
        let forgotten = call(place, true, "forget --all");
        assert!(forgotten.errors.contains("forgot 1 password"), "{forgotten:?}");
        assert_eq!((ours(), keyring.items().contains(&other)), (0, true));
    });
}

#[test]
fn a_locked_keyring_is_unlocked_by_its_own_window_and_only_where_it_has_something() {
    with_keyring(Manner::Locked, |place, keyring| {
        assert_eq!(opens(place, "").status, Some(1));
        assert_eq!(keyring.prompts(), 0, "somebody was asked to unlock it for nothing");
        assert_eq!(opens(place, "--remember --password-file password").status, Some(0));
        assert_eq!((keyring.prompts(), keyring.items().len()), (1, 1));
    });
    for manner in [Manner::Locked, Manner::Dismissed] {
        with_keyring(manner, |place, keyring| {
            keyring.put(Item {
                label: "v".to_owned(),
                attributes: HashMap::from([
                    ("application".to_owned(), "strongroom".to_owned()),
                    ("uuid".to_owned(), uuid(place, "v.vault")),
                ]),
                secret: PASSWORD.into(),
            });
            // Without a display nobody could unlock it.
            let refused = call(place, false, "mount v.vault m");
            assert_eq!((refused.status, keyring.prompts()), (Some(1), 0), "{refused:?}");
            assert!(refused.errors.contains("cannot be had: the keyring is locked"), "{refused:?}");
            let opened = opens(place, "");
            let status = i32::from(manner != Manner::Locked);
            assert_eq!((opened.status, keyring.prompts()), (Some(status), 1), "{opened:?}");
        });
    }
}

#[test]
fn what_the_keyring_cannot_do_keeps_nobody_from_the_vault() {
    for (manner, told) in [
        (Manner::Plain, "remembers the password"),
        (Manner::Hangs, "is not remembered: the keyring does not answer"),
        (Manner::Dismissed, "is not remembered: the keyring was not unlocked"),
    ] {
        with_keyring(manner, |place, _| {
            let begun = Instant::now();
            let opened = opens(place, "--remember --password-file password");
            assert!(opened.status == Some(0) && opened.errors.contains(told), "{opened:?}");
            assert!(begun.elapsed().as_secs() < 40, "{manner:?} {:?}", begun.elapsed());
            assert_eq!(opens(place, "").status, Some(i32::from(manner != Manner::Plain)));
        });
    }
    with_keyring(Manner::Garbles, |place, _| {
        assert_eq!(opens(place, "--remember --password-file password").status, Some(0));
        let refused = opens(place, "");
        assert!(refused.errors.contains("cannot be decrypted"), "{refused:?}");
    });
}

#[test]
fn where_there_is_no_keyring_one_line_says_so_and_the_vault_opens() {
    if !can_mount() {
        return;
    }
    for has_bus in [true, false] {
        let place = Place::of_ordinary_user();
        let bus = if has_bus { Bus::of_session(&place) } else { None };
        make(&place, "v.vault");
        let opened = opens(&place, "--password-file password");
        assert!(opened.status == Some(0) && !opened.errors.contains("keyring"), "{opened:?}");
        let opened = opens(&place, "--remember --password-file password");
        assert_eq!((opened.status, opened.errors.matches("keyring (Secret Service)").count()), (Some(0), 1));
        let forgotten = call(&place, true, "forget v.vault");
        assert!(forgotten.status == Some(7) && forgotten.errors.contains("hint: log in to a desktop"));
        drop(bus);
        place.assert_clean();
    }
    let place = Place::of_this_user();
    if place.is_root() {
        let refused = place.strongroom("forget --all");
        assert!(refused.status == Some(2) && refused.errors.contains("root has no keyring"), "{refused:?}");
    }
}

#[test]
fn config_toml_says_it_of_one_vault() {
    with_keyring(Manner::Open, |place, keyring| {
        for folder in [".config", ".config/strongroom"] {
            place.make_folder(folder);
        }
        let config = format!("[vault.\"{}\"]\nremember = true\n", uuid(place, "v.vault"));
        place.make_file(".config/strongroom/config.toml", config);
        assert_eq!(opens(place, "--password-file password").status, Some(0));
        assert_eq!(keyring.items().len(), 1);
        assert_eq!(opens(place, "").status, Some(0));
        make(place, "other.vault");
        assert_eq!(call(place, true, "mount other.vault m --password-file password").status, Some(0));
        place.done("unmount m");
        assert_eq!(keyring.items().len(), 1);
    });
}

#[test]
fn what_has_no_uuid_and_what_a_keyfile_opens_is_not_remembered() {
    with_keyring(Manner::Open, |place, keyring| {
        place.shell("head -c 64 /dev/urandom > key");
        for means in ["--keyfile key", "--recovery-key", "--security-key"] {
            let refused = opens(place, &format!("--remember {means}"));
            assert!(
                refused.status == Some(1) && refused.errors.contains("cannot be used with"),
                "{refused:?}"
            );
        }
        place.shell("./strongroom create hc --size 4M --format veracrypt --filesystem vfat --provision quick --prf sha512 --pim 1 --password-file password");
        let options = "--format veracrypt --prf sha512 --pim 1 --password-file password --remember";
        let opened = call(place, true, &format!("mount hc m {options}"));
        assert!(opened.status == Some(0) && opened.errors.contains("it has no UUID"), "{opened:?}");
        place.done("unmount m");
        assert!(keyring.items().is_empty());
    });
}
