//! Vaults that a desktop opens over its bus, as a double click does it (`org.freedesktop.Application`).

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    thread::{self, sleep},
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use zbus::{Connection, DBusError, DynamicType, Message, Variant, block_on};

use super::{
    bus::{Bus, Desktop},
    place::{CHEAP, PASSWORD, Place, can_mount, children, leave_to_root, name_of, signal, wait_until},
};

const NAME: &str = "org.strongroom.Strongroom";
const OBJECT: &str = "/org/strongroom/Strongroom";
const INTERFACE: &str = "org.freedesktop.Application";

/// A user at a desktop: a bus that starts programs, and a `pinentry` that gives what is in the file `answer`, after some time.
struct Desk {
    place: Place,
    bus: Option<Bus>,
}

impl Desk {
    fn new(has_display: bool) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let place = Place::of_ordinary_user();
        let folder = place.folder().display().to_string();
        for folder in ["services", "config", "config/strongroom"] {
            place.make_folder(folder);
        }
        let service = format!("[D-BUS Service]\nName={NAME}\nExec={folder}/strongroom __desktop {NAME}\n");
        place.make_file(&format!("services/{NAME}.service"), service);
        let script = format!(
            "#!/bin/sh\n\
             cd {folder}\n\
             echo OK\n\
             while read -r line; do\n\
               printf '%s\\n' \"$line\" >> seen\n\
               case $line in\n\
               GETPIN) sleep 1; cat answer;;\n\
               *) echo OK;;\n\
               esac\n\
             done\n"
        );
        let program = place.make_file("pinentry", script);
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
        place.make_file("answer", format!("D {PASSWORD}\nOK\n"));
        place.make_file("config/strongroom/config.toml", format!("pinentry = \"{folder}/pinentry\"\n"));
        let mut environment =
            vec![("XDG_CONFIG_HOME", place.path("config")), ("HOME", place.folder().to_path_buf())];
        if has_display {
            environment.push(("DISPLAY", PathBuf::from(":no-display")));
        }
        let bus = Some(Bus::of_session_with(&place, &environment)?);
        Some(Self { place, bus })
    }

    fn make_vault(&self, name: &str) {
        self.place.done(&format!(
            "create '{name}' --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
        ));
    }

    fn connect(&self) -> Connection {
        self.bus.as_ref().unwrap().connect_as_user_of(&self.place)
    }

    /// Opens the files at these addresses.
    fn open(&self, addresses: &[String]) -> zbus::Result<Message> {
        call(&self.connect(), (OBJECT, INTERFACE, "Open"), &(addresses, platform()))
    }

    fn address(&self, name: &str) -> String {
        format!("file://{}/{name}", self.place.folder().display())
    }

    /// What was asked and shown in windows so far.
    fn seen(&self) -> String {
        fs::read_to_string(self.place.path("seen")).unwrap_or_default()
    }

    fn questions(&self) -> usize {
        self.seen().lines().filter(|line| *line == "GETPIN").count()
    }

    fn wait_for_mounts(&self, count: usize) {
        wait_until(&format!("{count} mounts"), || {
            self.place.json("list")["mounts"].as_array().unwrap().len() == count
        });
    }

    /// The process that answers for the name.
    fn process(&self) -> Option<u64> {
        let bus = "org.freedesktop.DBus";
        let asked = self.connect();
        let asked = asked.call_method(Some(bus), "/", Some(bus), "GetConnectionUnixProcessID", &NAME);
        block_on(asked).ok().map(|reply| reply.body().deserialize::<u32>().unwrap().into())
    }
}

fn platform() -> HashMap<String, Variant<'static>> {
    HashMap::from([("desktop-startup-id".to_owned(), Variant::from("x"))])
}

fn call<B: serde::Serialize + DynamicType>(
    bus: &Connection,
    (object, interface, method): (&str, &str, &str),
    body: &B,
) -> zbus::Result<Message> {
    block_on(bus.call_method(Some(NAME), object, Some(interface), method, body))
}

/// The name of the D-Bus error that a call ended with.
fn refusal(answer: zbus::Result<Message>) -> String {
    match answer {
        Err(zbus::Error::FDO(error)) => {
            error.name().as_str().trim_start_matches("org.freedesktop.DBus.Error.").to_owned()
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_desktop_opens_a_vault_over_its_bus_and_the_program_ends_by_itself() {
    let Some(desk) = Desk::new(true) else { return };
    desk.make_vault("a b%#.vault");
    desk.make_vault("./--all");
    // Whoever double-clicks many times is asked once.
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| desk.open(&[desk.address("a%20b%25%23.vault")]).unwrap());
        }
    });
    desk.wait_for_mounts(1);
    assert_eq!(desk.questions(), 1, "{}", desk.seen());
    assert_eq!(
        desk.place.listed()["mountpoint"].as_str().map(PathBuf::from),
        Some(desk.place.path("Vaults/a b%#")),
    );
    let first = desk.process().unwrap();
    assert_eq!(name_of(first), "strongroom");
    desk.open(&[desk.address("--all"), desk.address("a%20b%25%23.vault")]).unwrap();
    desk.wait_for_mounts(2);
    assert_eq!(desk.questions(), 2, "{}", desk.seen());
    assert!(!desk.seen().contains(PASSWORD));
    wait_until("an end", || desk.process().is_none());
    // A call starts it again.
    let (none, action) = (Vec::<Variant<'_>>::new(), "close-all");
    let answer = call(&desk.connect(), (OBJECT, INTERFACE, "ActivateAction"), &(action, none, platform()));
    answer.unwrap();
    assert_ne!(desk.process().unwrap(), first);
    desk.wait_for_mounts(0);
}

#[test]
fn what_goes_wrong_is_told_in_a_window_or_where_there_is_none_as_a_notice() {
    for has_display in [true, false] {
        let Some(desk) = Desk::new(has_display) else { return };
        let desktop = Desktop::start(desk.bus.as_ref().unwrap(), false);
        desk.make_vault("v.vault");
        desk.place.make_file("answer", "D wrong\nOK\n");
        desk.open(&["smb://host/v.vault".to_owned(), desk.address("v.vault")]).unwrap();
        let told = |words: &str| {
            if has_display {
                wait_until(words, || desk.seen().contains(words));
            } else {
                desktop.wait_for(words);
            }
        };
        told("cannot open smb://host/v.vault: it is an address, and no file of this machine");
        told(if has_display { "cannot unlock" } else { "cannot ask for the password" });
        assert_eq!(desk.questions(), if has_display { 3 } else { 0 });
        // While the one is shown, a click begins no other.
        let is_over = || desk.process().is_none_or(|process| children(process).is_empty());
        wait_until("the end of all that was begun", is_over);
        // Who closes the window knows that.
        desk.place.make_file("answer", "ERR 83886179 Operation cancelled <Pinentry>\n");
        let before = desk.seen().matches("MESSAGE").count();
        desk.open(&[desk.address("v.vault")]).unwrap();
        if has_display {
            wait_until("a question", || desk.questions() == 4);
            sleep(Duration::from_secs(1));
            assert_eq!(desk.seen().matches("MESSAGE").count(), before);
        }
        desk.wait_for_mounts(0);
    }
}

#[test]
fn what_is_no_call_of_a_desktop_is_refused_and_begins_nothing() {
    let Some(desk) = Desk::new(true) else { return };
    desk.make_vault("v.vault");
    let bus = desk.connect();
    let vault = desk.address("v.vault");
    let to = |method| (OBJECT, INTERFACE, method);
    for bad in [
        vec![vault.clone(), "--force".to_owned()],
        vec![vault.clone(), format!("{vault}%00")],
        vec![vault.clone(), format!("{vault}%4")],
        vec![desk.place.path("v.vault").display().to_string()],
        vec!["UUID=0".to_owned()],
        vec!["a".repeat(100_000)],
        vec![vault.replace("file://", "file://elsewhere")],
    ] {
        assert_eq!(refusal(call(&bus, to("Open"), &(&bad, platform()))), "InvalidArgs", "{bad:?}");
    }
    let many = vec![vault.clone(); 5000];
    assert_eq!(refusal(call(&bus, to("Open"), &(many, platform()))), "LimitsExceeded");
    assert_eq!(refusal(call(&bus, to("Open"), &vault)), "InvalidArgs");
    assert_eq!(refusal(call(&bus, to("Activate"), &())), "InvalidArgs");
    let none = Vec::<Variant<'_>>::new();
    let action = ("close --all --force", none, platform());
    assert_eq!(refusal(call(&bus, to("ActivateAction"), &action)), "InvalidArgs");
    assert_eq!(refusal(call(&bus, to("Close"), &())), "UnknownMethod");
    assert_eq!(refusal(call(&bus, (OBJECT, "org.example.Other", "Open"), &())), "UnknownInterface");
    assert_eq!(refusal(call(&bus, ("/", INTERFACE, "Activate"), &platform())), "UnknownObject");
    // What tools ask anybody.
    call(&bus, ("/", "org.freedesktop.DBus.Peer", "Ping"), &()).unwrap();
    let told = call(&bus, (OBJECT, "org.freedesktop.DBus.Introspectable", "Introspect"), &()).unwrap();
    assert!(told.body().deserialize::<String>().unwrap().contains("ActivateAction"));
    assert_eq!(desk.seen(), "");
    desk.wait_for_mounts(0);
}

#[test]
fn a_bus_that_ends_takes_the_program_with_it_and_no_vault() {
    let Some(mut desk) = Desk::new(true) else { return };
    desk.make_vault("v.vault");
    desk.open(&[desk.address("v.vault")]).unwrap();
    wait_until("a question", || desk.questions() == 1);
    let process = desk.process().unwrap();
    // While the window is open.
    desk.bus = None;
    super::place::wait_for_end_of(process);
    desk.wait_for_mounts(1);
    desk.place.shell("echo text > Vaults/v/f; cat Vaults/v/f");
    desk.place.shell("HOME=$PWD ./strongroom close v");
}

#[test]
fn a_program_that_is_told_to_end_leaves_the_vault_and_the_window() {
    let Some(desk) = Desk::new(true) else { return };
    desk.make_vault("v.vault");
    desk.open(&[desk.address("v.vault")]).unwrap();
    wait_until("a question", || desk.questions() == 1);
    let process = desk.process().unwrap();
    signal(process, Signal::TERM);
    super::place::wait_for_end_of(process);
    desk.wait_for_mounts(1);
    desk.place.shell("HOME=$PWD ./strongroom close v");
}

#[test]
fn another_user_is_not_served_and_another_users_bus_is_not_gone_to() {
    let Some(desk) = Desk::new(true) else { return };
    if !geteuid().is_root() {
        return leave_to_root("be two users");
    }
    desk.make_vault("v.vault");
    // Root, who gets in everywhere.
    let root = desk.bus.as_ref().unwrap().connect().0;
    let addresses = vec![desk.address("v.vault")];
    assert_eq!(refusal(call(&root, (OBJECT, INTERFACE, "Open"), &(addresses, platform()))), "AccessDenied");
    assert_eq!(desk.questions(), 0);
    let other = Bus::of_other(&desk.place).unwrap();
    let address = other.address();
    let ended = desk.place.shell(&format!(
        "DBUS_SESSION_BUS_ADDRESS={address} ./strongroom __desktop {NAME} 2>&1 || echo status $?"
    ));
    assert!(ended.contains("the bus is somebody else's") && ended.contains("status 6"), "{ended}");
}
