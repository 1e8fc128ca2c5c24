//! Volumes that close before the machine sleeps and while the screen is locked, and what a desktop is told.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    bus::{Bus, Desktop, Locker, Logind, OTHER_SESSION, OWN_SESSION},
    place::{CHEAP, Place, USER, Who, can_mount, is_running, signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver, with_vault_of},
};

/// The number of the user of a place.
fn user_of(place: &Place) -> u32 {
    if place.is_root() { 0 } else { USER }
}

/// Walks with each driver, a logind, and a volume that is mounted with these options and holds the machine back.
fn with_logind(options: &str, walk: impl Fn(&World, &Logind)) {
    with_each_driver("--size 32M --provision quick", |world| {
        let Some(bus) = Bus::of_system(world) else { return };
        let logind = Logind::start(&bus, user_of(world));
        world.done(&format!("{} {options}", world.mount_command()));
        wait_until("a hold on the machine", || logind.is_held());
        walk(world, &logind);
        world.done("unmount --all --force");
        world.mount();
        world.done("unmount m");
        world.check_file_system();
    });
}

fn is_open(world: &World) -> bool {
    !world.listed().is_null()
}

/// Nothing of the volume is mounted, looked at without a command of ours.
fn is_gone(world: &World) -> bool {
    !fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(world.folder().to_str().unwrap())
}

#[test]
fn the_machine_sleeps_only_once_the_volume_is_closed() {
    for what in ["Sleep", "Shutdown"] {
        with_logind("--close-at sleep", |world, logind| {
            world.shell("head -c 3000000 /dev/urandom > m/a; cp m/a copy");
            let server = world.server();
            logind.prepare_for(what, true);
            wait_until("leave to sleep", || !logind.is_held());
            assert!(is_gone(world), "{world}: the machine slept with the volume open");
            wait_for_end_of(server);
            world.mount();
            world.shell("cmp m/a copy");
        });
    }
}

#[test]
fn what_a_user_mounts_closes_before_sleep_and_what_root_does_only_where_that_is_said() {
    for who in super::place::everybody() {
        let place = Place::of(who);
        let Some(bus) = Bus::of_system(&place) else { return };
        place.done(&format!(
            "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem none"
        ));
        place.done("mount v.vault m --block --close-at sleep --password-file password");
        let is_unheard = || {
            let listed = place.done("list");
            assert!(listed.contains("closes at sleep"), "{place} {listed}");
            listed.contains("logind is not running")
        };
        assert!(is_unheard(), "{place}");
        let logind = Logind::start(&bus, user_of(&place));
        wait_until("a volume that hears", || !is_unheard());
        place.done("unmount m");
        for (options, at) in [("", !place.is_root()), ("--close-at none", false), ("--close-at sleep", true)]
        {
            place.done(&format!("mount v.vault m --block --password-file password {options}"));
            let shown = match (at, options) {
                (false, _) => serde_json::json!([]),
                (true, "") => serde_json::json!(["sleep", "logout"]),
                _ => serde_json::json!(["sleep"]),
            };
            assert_eq!(place.listed()["close_at"], shown, "{place} {options}");
            assert_eq!(place.done("list").contains("closes at sleep"), at, "{place} {options}");
            if at {
                wait_until("a hold on the machine", || logind.is_held());
                let server = place.listed()["pid"].as_u64().unwrap();
                logind.prepare_for("Sleep", true);
                wait_for_end_of(server);
            } else {
                sleep(Duration::from_millis(500));
                assert!(!logind.is_held(), "{place} {options}");
                logind.prepare_for("Sleep", true);
                sleep(Duration::from_secs(1));
                place.done("unmount m");
            }
        }
    }
}

#[test]
fn a_volume_in_use_stays_open_in_sleep_and_is_saved_before() {
    with_logind("--close-at sleep --when-busy wait", |world, logind| {
        for round in 0..2 {
            let holder = world.holder(&format!("exec 9> m/held-{round}; seq 50000 > m/written-{round}"));
            logind.prepare_for("Sleep", true);
            wait_until("leave to sleep", || !logind.is_held());
            assert!(is_open(world), "{world}");
            logind.prepare_for("Sleep", false);
            wait_until("a hold on the machine", || logind.is_held());
            drop(holder);
            assert!(is_open(world), "{world}: nobody asked for that any more");
        }
        let holder = world.holder("exec 9> m/last; seq 50000 > m/last-written");
        logind.prepare_for("Sleep", true);
        wait_until("leave to sleep", || !logind.is_held());
        // The battery ends in sleep.
        signal(world.server(), Signal::KILL);
        drop(holder);
        world.strongroom("unmount m --force");
        world.mount();
        world.shell("for f in m/written-0 m/written-1 m/last-written; do seq 50000 | cmp - $f; done");
    });
}

#[test]
fn a_volume_in_use_that_is_forced_closes_before_sleep_with_all_that_was_written() {
    with_logind("--close-at sleep --when-busy force", |world, logind| {
        let holder = world.holder("exec 9> m/held; seq 50000 >&9");
        let server = world.server();
        let begun = Instant::now();
        logind.prepare_for("Sleep", true);
        wait_until("leave to sleep", || !logind.is_held());
        assert!(begun.elapsed() < Duration::from_secs(20), "{world}: later than the machine waits");
        wait_for_end_of(server);
        assert!(is_gone(world), "{world}");
        drop(holder);
        world.mount();
        world.shell("seq 50000 | cmp - m/held");
    });
}

#[test]
fn a_locked_screen_closes_a_volume_where_that_is_said() {
    for by_hint in [false, true] {
        with_logind("--close-at lock", |world, logind| {
            let lock = |session| {
                if by_hint {
                    logind.hint_locked(true);
                } else {
                    logind.signal(session, "Lock");
                }
            };
            // Before sleep it is only saved.
            logind.prepare_for("Sleep", true);
            wait_until("leave to sleep", || !logind.is_held());
            logind.prepare_for("Sleep", false);
            if !by_hint {
                lock(OTHER_SESSION);
            }
            sleep(Duration::from_secs(1));
            let server = world.server();
            lock(OWN_SESSION);
            wait_for_end_of(server);
            assert!(!is_open(world), "{world}");
        });
    }
}

#[test]
fn a_volume_in_use_closes_once_it_is_let_go_while_the_screen_is_locked() {
    with_logind("--close-at lock", |world, logind| {
        let holder = world.holder("exec 9> m/held");
        logind.signal(OWN_SESSION, "Lock");
        sleep(Duration::from_secs(3));
        assert!(is_open(world), "{world}");
        logind.signal(OWN_SESSION, "Unlock");
        sleep(Duration::from_millis(500));
        drop(holder);
        sleep(Duration::from_secs(6));
        assert!(is_open(world), "{world}: the screen is not locked any more");
        let holder = world.holder("exec 9> m/held");
        logind.hint_locked(true);
        sleep(Duration::from_secs(1));
        let server = world.server();
        drop(holder);
        wait_for_end_of(server);
    });
}

#[test]
fn a_container_within_closes_before_the_one_it_lies_in() {
    with_logind("--close-at sleep", |world, logind| {
        world.shell("mkdir inside");
        world.done(&format!(
            "create m/inner.vault --size 20M --provision quick {CHEAP} --password-file password --filesystem none"
        ));
        world.done("mount m/inner.vault inside --block --password-file password --close-at sleep");
        logind.wait_for_servers(2);
        let server = world.server();
        logind.prepare_for("Sleep", true);
        wait_until("leave to sleep", || !logind.is_held());
        assert!(is_gone(world), "{world}");
        wait_for_end_of(server);
    });
}

#[test]
fn a_volume_closes_when_its_user_logs_out() {
    with_each_driver("--size 32M --provision quick", |world| {
        if !rustix::process::geteuid().is_root() {
            return super::place::leave_to_root("say who is logged in");
        }
        let users = "/run/systemd/users";
        fs::create_dir_all(users).unwrap();
        rustix::mount::mount("none", users, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let say = |state: &str| {
            let (new, there) = (format!("{users}/.new"), format!("{users}/{}", user_of(world)));
            fs::write(&new, format!("STATE={state}\n")).unwrap();
            fs::rename(new, there).unwrap();
        };
        say("active");
        world.done(&format!("{} --close-at logout", world.mount_command()));
        let server = world.server();
        say("online");
        let holder = world.holder("exec 9> m/held");
        say("closing");
        sleep(Duration::from_secs(3));
        assert!(is_open(world), "{world}");
        drop(holder);
        wait_for_end_of(server);
        // Whoever was not logged in cannot log out.
        world.mount();
        say("active");
        say("closing");
        sleep(Duration::from_secs(1));
        world.done("unmount m");
        rustix::mount::unmount(users, rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn only_logind_itself_can_send_a_volume_to_sleep() {
    with_logind("--close-at sleep,lock", |world, logind| {
        let send = "dbus-send --bus=unix:path=/run/dbus/system_bus_socket --type=signal";
        let names = "dbus-send --bus=unix:path=/run/dbus/system_bus_socket --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.ListNames";
        let names = world.shell(names);
        // To everybody, and to each who is there.
        let everybody =
            names.split('"').filter(|name| name.starts_with(':')).map(|name| format!("--dest={name}"));
        for to in everybody.chain([String::new()]) {
            let script = format!(
                "{send} {to} /org/freedesktop/login1 org.freedesktop.login1.Manager.PrepareForSleep boolean:true
                {send} {to} {OWN_SESSION} org.freedesktop.login1.Session.Lock"
            );
            world.shell(&script);
        }
        sleep(Duration::from_secs(2));
        assert!(is_open(world) && logind.is_held(), "{world}");
        let server = world.server();
        logind.signal(OWN_SESSION, "Lock");
        wait_for_end_of(server);
    });
}

#[test]
fn a_logind_and_a_bus_that_end_and_come_back_are_found_again() {
    with_vault_of(Who::User, "--size 32M --provision quick --filesystem exfat", |world| {
        world.done(&format!("{} --close-at sleep", world.mount_command()));
        let Some(bus) = Bus::of_system(world) else {
            world.done("unmount m");
            return;
        };
        let logind = Logind::start(&bus, USER);
        // It was there before the bus.
        wait_until("a hold on the machine", || logind.is_held());
        logind.end();
        world.shell("echo written > m/f");
        let logind = Logind::start(&bus, USER);
        wait_until("a hold on the machine", || logind.is_held());
        drop(bus);
        world.shell("echo more >> m/f; cat m/f");
        let bus = Bus::of_system(world).unwrap();
        let logind = Logind::start(&bus, USER);
        wait_until("a hold on the machine", || logind.is_held());
        let server = world.server();
        logind.prepare_for("Sleep", true);
        wait_for_end_of(server);
        world.mount();
        assert_eq!(world.shell("cat m/f"), "written\nmore\n");
        world.done("unmount m");
    });
}

/// Walks as an ordinary user with a vault of this name, and a desktop.
fn with_desktop(name: &str, hangs: bool, walk: impl Fn(&Place, &Desktop)) {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    let Some(bus) = Bus::of_session(&place) else { return };
    let desktop = Desktop::start(&bus, hangs);
    place.done(&format!(
        "create '{name}' --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
    ));
    walk(&place, &desktop);
    place.assert_clean();
}

#[test]
fn a_desktop_is_told_what_a_volume_does_by_itself_and_nothing_else() {
    with_desktop("a<b>&.vault", false, |place, desktop| {
        place.done("mount 'a<b>&.vault' m --password-file password");
        place.done("unmount m");
        assert_eq!(desktop.shown(), [], "who asked for it knows");
        place.make_folder("m<i>");
        place.done("mount 'a<b>&.vault' 'm<i>' --password-file password --idle 1s");
        let holder = place.holder("exec 9> 'm<i>/held'");
        let busy = desktop.wait_for("in use by");
        assert!(busy.urgency == 2 && busy.title == "a<b>&.vault", "{busy:?}");
        let named = format!(
            "/m&lt;i&gt; stays open after 1s without use: in use by process {} (sleep)",
            holder.process()
        );
        assert!(busy.text.ends_with(&named), "{busy:?}");
        let server = place.listed()["pid"].as_u64().unwrap();
        drop(holder);
        wait_for_end_of(server);
        let closed = desktop.wait_for("was closed");
        assert!(
            closed.urgency == 1 && closed.text.ends_with("was closed after 1s without use"),
            "{closed:?}"
        );
        assert_eq!(closed.replaced, 1, "what was said before is true no longer");
        place.done("open 'a<b>&.vault' --show --at there --password-file password 2>/dev/null");
        let opened = desktop.wait_for("is open on");
        assert!(opened.urgency == 1 && opened.text.ends_with("/there"), "{opened:?}");
        place.done("close --all");
        assert_eq!(desktop.shown().len(), 3, "{:?}", desktop.shown());
    });
}

#[test]
fn a_desktop_is_told_who_kept_a_volume_open_in_sleep() {
    with_desktop("v.vault", false, |place, desktop| {
        let Some(bus) = Bus::of_system(place) else { return };
        let logind = Logind::start(&bus, USER);
        place.done("mount v.vault m --password-file password");
        wait_until("a hold on the machine", || logind.is_held());
        let holder = place.holder("exec 9> m/held");
        logind.prepare_for("Sleep", true);
        wait_until("leave to sleep", || !logind.is_held());
        let told = desktop.wait_for("stays open while the machine sleeps");
        let named = format!(": in use by process {} (sleep)", holder.process());
        assert!(told.urgency == 2 && told.text.ends_with(&named), "{told:?}");
        drop(holder);
        place.done("unmount m");
    });
}

/// As an ordinary user with the bus of a session, and no logind.
#[test]
fn a_screen_that_the_desktop_locks_closes_a_volume_where_that_is_said() {
    with_desktop("v.vault", false, |place, desktop| {
        let bus = desktop.bus();
        let open = |at: &str| {
            place.done(&format!("mount v.vault m --password-file password --close-at {at}"));
            place.listed()["pid"].as_u64().unwrap()
        };
        let listens = |before: usize, locker: &Locker| {
            wait_until("a listener", || locker.everybody().len() > before);
            // It asks for some more before it hears.
            sleep(Duration::from_secs(1));
        };
        for name in ["org.freedesktop.ScreenSaver", "org.gnome.ScreenSaver"] {
            // What locks the screen may come only after the volume.
            let stranger = Locker::without_name(bus, name);
            let before = stranger.everybody().len();
            let server = open("lock");
            listens(before, &stranger);
            let locker = Locker::start(bus, name);
            stranger.tell(true, &stranger.everybody());
            sleep(Duration::from_secs(1));
            assert!(is_running(server), "{name}: a stranger closed it");
            let holder = place.holder("exec 9> m/held");
            locker.tell(true, &[]);
            desktop.wait_for("stays open while the screen is locked: in use by process");
            locker.tell(false, &[]);
            sleep(Duration::from_millis(500));
            drop(holder);
            sleep(Duration::from_secs(5));
            assert!(is_running(server), "{name}: the screen is not locked any more");
            locker.tell(true, &[]);
            wait_for_end_of(server);
        }
        // There from the start, and of no concern to one that closes at other times.
        let locker = Locker::start(bus, "org.freedesktop.ScreenSaver");
        let server = open("sleep,logout");
        sleep(Duration::from_secs(2));
        locker.tell(true, &[]);
        sleep(Duration::from_secs(2));
        assert!(is_running(server));
        place.done("unmount m");
        let before = locker.everybody().len();
        let server = open("lock");
        listens(before, &locker);
        locker.tell(true, &[]);
        wait_for_end_of(server);
    });
}

#[test]
fn a_bus_of_a_session_that_ends_takes_no_volume_with_it() {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    let Some(bus) = Bus::of_session(&place) else { return };
    place.done(&format!(
        "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
    ));
    place.done("mount v.vault m --password-file password --close-at lock");
    let server = place.listed()["pid"].as_u64().unwrap();
    sleep(Duration::from_secs(1));
    drop(bus);
    place.shell("echo text > m/f; cat m/f");
    let bus = Bus::of_session(&place).unwrap();
    let locker = Locker::start(&bus, "org.gnome.ScreenSaver");
    wait_until("an end", || {
        locker.tell(true, &[]);
        sleep(Duration::from_millis(500));
        !is_running(server)
    });
    place.assert_clean();
}

#[test]
fn a_desktop_that_hangs_holds_nothing_up() {
    with_desktop("v.vault", true, |place, _| {
        place.done("mount v.vault m --password-file password --idle 1s --close-at none");
        let server = place.listed()["pid"].as_u64().unwrap();
        let holder = place.holder("exec 9> m/held");
        sleep(Duration::from_secs(3));
        place.shell("echo text > m/f && cat m/f");
        drop(holder);
        wait_for_end_of(server);
        place.done("mount v.vault m --password-file password");
        let server = place.listed()["pid"].as_u64().unwrap();
        place.done("unmount m");
        wait_until("an end", || !is_running(server));
    });
}

#[test]
fn a_forced_end_is_told_half_a_minute_before_and_comes_then() {
    with_desktop("v.vault", false, |place, desktop| {
        place.done("mount v.vault m --password-file password --idle 2s --when-busy force");
        let holder = place.holder("exec 9> m/held; echo written >&9");
        let warned = desktop.wait_for("closes in 30 seconds");
        let begun = Instant::now();
        let named = format!("in use by process {} (sleep)", holder.process());
        assert!(warned.urgency == 2 && warned.text.contains(&named), "{warned:?}");
        // Whoever goes on working has it for longer.
        sleep(Duration::from_secs(10));
        place.shell("echo used > m/other");
        sleep(Duration::from_secs(22));
        let server = place.listed()["pid"].as_u64().unwrap();
        wait_for_end_of(server);
        assert!(begun.elapsed() > Duration::from_secs(38));
        desktop.wait_for("was closed after 2s without use");
        drop(holder);
        place.done("mount v.vault m --password-file password");
        assert_eq!(place.shell("cat m/held"), "written\n");
        place.done("unmount m");
    });
}

#[test]
fn a_bookmark_is_there_while_the_vault_is_open_and_after_a_kill_goes_with_what_is_left() {
    if !can_mount() {
        return;
    }
    let place = Place::of_ordinary_user();
    place.done(&format!(
        "create v.vault --size 32M --provision quick {CHEAP} --password-file password --filesystem exfat"
    ));
    place.make_folder("me");
    let run = |command: &str| place.shell(&format!("export HOME=$PWD/me; ./strongroom {command}"));
    let bookmarks = || fs::read_to_string(place.path("me/.config/gtk-3.0/bookmarks")).unwrap_or_default();
    let open = "open v.vault --password-file password --bookmark";
    run(open);
    let there = format!("file://{}/me/Vaults/v v\n", place.folder().display());
    assert_eq!(bookmarks(), there);
    place.shell("echo file:///tmp >> me/.config/gtk-3.0/bookmarks");
    run("close v");
    assert_eq!(bookmarks(), "file:///tmp\n");
    run(open);
    let server = place.listed()["pid"].as_u64().unwrap();
    signal(server, Signal::KILL);
    wait_for_end_of(server);
    // What was not synced is lost, and so said.
    run("close v 2>&1 || [ $? = 6 ]");
    assert_eq!(bookmarks(), "file:///tmp\n");
    run("open v.vault --password-file password");
    assert_eq!(bookmarks(), "file:///tmp\n");
    run("close v");
}

/// Shows this test's own list of disks in place of the kernel's: a disk cannot be pulled out here.
#[test]
fn a_volume_closes_when_its_disk_is_gone() {
    with_vault_of(Who::Root, "--size 32M --provision quick", |world| {
        world.shell("truncate -s 100M stick; PATH=$PATH:/usr/sbin mkfs.ext4 -q stick; mkdir s; mount -o loop stick s; mv v.vault s");
        let number = world.shell("mountpoint -d s");
        let stick = world.shell(&format!("readlink -f /sys/dev/block/{}", number.trim()));
        let disks = "/sys/dev/block";
        world.shell(&format!("ls {disks} > disks"));
        world.done("mount s/v.vault m --password-file password");
        let server = world.server();
        let holder = world.holder("exec 9> m/held");
        rustix::mount::mount("none", disks, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        world.shell(&format!(
            "cd {disks}; mkdir $(grep -vx {} {}/disks)",
            number.trim(),
            world.folder().display()
        ));
        // The kernel tells of it.
        world.shell(&format!("echo change > {}/uevent", stick.trim()));
        wait_for_end_of(server);
        drop(holder);
        world.shell("umount s");
        rustix::mount::unmount(disks, rustix::mount::UnmountFlags::empty()).unwrap();
        assert!(is_gone(world), "{world}");
    });
}
