//! Each driver and file system, each way to end, each holder: the data is whole afterwards, or a status that is not 0 says why not.
//!
//! The rows of XFS and btrfs are short, unless `STRONGROOM_LOSSES=all` (`make losses`): what differs there is the file system alone.

use rustix::process::Signal;

use crate::{
    losses::{Medium, namespace},
    place::{Background, Ended, Who, children, has_fuse2fs, is_running, signal, wait_for_end_of, wait_until},
    world::{World, with_who},
};

/// How a volume ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unmount,
    Forced,
    /// By another program: `umount`, `fusermount3 -u`.
    Outside,
    /// By SIGTERM to all of its processes, as at a logout.
    Signal,
    /// As `Unmount`, after the runtime directory of the login was removed.
    Logout,
    /// As `Unmount`, after another file was put in the place of the container.
    Replaced,
    /// The driver of the medium on which the container lies is killed.
    MediumGone,
}

/// Who uses it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Process,
    BindMount,
    Namespace,
    LoopDevice,
    Container,
}

use End::{Forced, Logout, MediumGone, Outside, Replaced, Signal as Signalled, Unmount};
use Holder::{BindMount, Container, LoopDevice, Namespace, Nobody, Process};

const ENDS: &[End] = &[Replaced, MediumGone, Unmount, Forced, Outside, Signalled, Logout];
const HOLDERS: &[Holder] = &[Nobody, Process, BindMount, Namespace, LoopDevice, Container];

#[test]
fn ext4_by_the_kernel_is_whole_however_it_ends() {
    row(Who::Root, "--size 80M", ENDS, HOLDERS);
}

#[test]
fn xfs_by_the_kernel_is_whole_however_it_ends() {
    let holders = if is_full() { HOLDERS } else { &[Nobody, BindMount, Namespace] };
    let ends = if is_full() { ENDS } else { &[Unmount, Signalled] };
    row(Who::Root, "--size 340M --filesystem xfs", ends, holders);
}

#[test]
fn btrfs_by_the_kernel_is_whole_however_it_ends() {
    let holders = if is_full() { HOLDERS } else { &[Nobody, BindMount, Namespace] };
    let ends = if is_full() { ENDS } else { &[Unmount, Signalled] };
    row(Who::Root, "--size 144M --filesystem btrfs", ends, holders);
}

#[test]
fn ext4_by_the_server_of_root_is_whole_however_it_ends() {
    row(Who::RootInServer, "--size 80M", ENDS, HOLDERS);
}

#[test]
fn ext4_by_the_server_of_a_user_is_whole_however_it_ends() {
    row(Who::User, "--size 80M", ENDS, &[Nobody, Process, Container]);
}

fn is_full() -> bool {
    std::env::var("STRONGROOM_LOSSES").as_deref() == Ok("all")
}

/// All cells of one driver and file system, on one volume.
fn row(who: Who, options: &str, ends: &[End], holders: &[Holder]) {
    with_who(who, &format!("{QUICK} {options}"), |world| {
        world.make_folder("n");
        world.make_folder("b");
        world.done(&format!("create inner --password-file password {QUICK} --size 32M"));
        for &end in ends {
            for &holder in holders {
                // What others hold of it makes no difference to a medium that is gone.
                if end == MediumGone && !matches!(holder, Nobody | Process) {
                    continue;
                }
                eprintln!("{world} {options}: {end:?}, held by {holder:?}");
                Cell { world, end, holder }.walk();
            }
        }
    });
}

struct Cell<'a> {
    world: &'a World,
    end: End,
    holder: Holder,
}

/// What holds the volume, until it is let go.
struct Held {
    process: Option<Background>,
    device: Option<String>,
}

impl Cell<'_> {
    fn walk(&self) {
        let world = self.world;
        if self.end == MediumGone {
            return self.lose_medium();
        }
        world.mount();
        let server = world.server();
        world.shell(WRITE);
        let held = self.hold();
        match self.end {
            Unmount => self.unmount(server, held),
            Logout => {
                self.end_session();
                self.unmount(server, held);
            }
            Forced => self.force(server, held),
            Replaced => self.replace(server, held),
            MediumGone => unreachable!("it has a walk of its own"),
            Outside => self.unmount_outside(server, held),
            Signalled => self.tell_all_to_end(server, held),
        }
        assert!(!is_running(server), "{self}");
        world.assert_clean();
        world.mount_or_repair();
        world.shell(COMPARE);
        if self.holder == Container {
            world.done(&self.inner());
            world.shell("cmp n/f written");
            world.done("unmount n");
        }
        world.shell("rm -r m/docs");
        world.done("unmount m");
    }

    fn inner(&self) -> String {
        self.world.mount_command().replace("v.vault m ", "m/docs/inner n ")
    }

    fn hold(&self) -> Held {
        let world = self.world;
        let mut held = Held { process: None, device: None };
        match self.holder {
            Nobody => {}
            Process => held.process = Some(world.holder("exec 9> m/docs/held")),
            BindMount => drop(world.shell("mount --bind m/docs b")),
            Namespace => held.process = Some(namespace(world)),
            LoopDevice => {
                held.device =
                    Some(world.shell("truncate -s 1M m/docs/image; losetup -f --show m/docs/image"));
            }
            Container => {
                world.shell("cp inner m/docs/inner");
                world.done(&self.inner());
                world.shell("cp written n/f");
            }
        }
        held
    }

    fn let_go(&self, held: Held) {
        let world = self.world;
        drop(held.process);
        if let Some(device) = held.device {
            world.shell(&format!("losetup -d {device}"));
        }
        match self.holder {
            BindMount => drop(world.shell("! mountpoint -q b || umount b")),
            Container if world.shell("mountpoint n || true").contains("is a mountpoint") => {
                world.done("unmount n");
            }
            _ => {}
        }
    }

    /// What a refusal must say.
    fn told(&self, held: &Held) -> String {
        let process = held.process.as_ref().map_or(0, Background::process);
        match self.holder {
            Nobody => unreachable!("nobody is refused"),
            Process => format!("process {process} (sleep)"),
            BindMount => format!("the mount on {}", self.world.path("b").display()),
            Namespace => format!("in the mount namespace of process {process} (sleep)"),
            LoopDevice => {
                format!("the loop device {}", held.device.as_deref().unwrap_or_default().trim_end())
            }
            Container => format!("inner, which is mounted on {}", self.world.path("n").display()),
        }
    }

    fn assert_refused(&self, refused: &Ended, held: &Held) {
        assert_eq!(refused.status, Some(5), "{self}: {refused:?}");
        let told = self.told(held);
        assert!(refused.errors.contains(&told), "{self}: no {told:?} in {refused:?}");
    }

    fn unmount(&self, server: u64, held: Held) {
        let world = self.world;
        if self.holder == Nobody {
            drop(world.done("unmount m"));
            return;
        }
        let refused = world.strongroom("unmount m");
        self.assert_refused(&refused, &held);
        self.let_go(held);
        if self.holder == Namespace {
            return wait_for_end_of(server);
        }
        world.done("unmount m");
    }

    /// What was written is in no file until it is saved: by the command, or where that comes too late by the server.
    fn replace(&self, server: u64, held: Held) {
        let world = self.world;
        world.shell("cp v.vault copy; mv copy v.vault");
        let refused = world.strongroom("unmount m");
        assert_eq!(refused.status, Some(5), "{self}: {refused:?}");
        assert!(refused.errors.contains("was replaced"), "{self}: {refused:?}");
        let saved = world.strongroom("unmount m --save-as saved");
        if self.holder == Nobody {
            assert_eq!(saved.status, Some(0), "{self}: {saved:?}");
        } else {
            self.assert_refused(&saved, &held);
        }
        self.let_go(held);
        match self.holder {
            Nobody => {}
            // The name is remembered.
            Namespace => wait_for_end_of(server),
            _ => drop(world.done("unmount m --save-as saved")),
        }
        world.shell("mv saved v.vault");
    }

    /// Nothing but what a program was told is safe can be kept, and the unmount says so.
    fn lose_medium(&self) {
        if !has_fuse2fs() {
            return;
        }
        let world = self.world;
        let medium = Medium::new(world);
        world.done(&world.mount_command().replace("v.vault", "medium/v.vault"));
        let server = world.server();
        world.shell(WRITE);
        let held = self.hold();
        medium.kill();
        let ended = world.strongroom("unmount m");
        assert!(matches!(ended.status, Some(5 | 6)), "{self}: {ended:?}");
        assert!(ended.errors.starts_with("strongroom: error: "), "{self}: {ended:?}");
        self.let_go(held);
        if is_running(server) {
            let ended = world.strongroom("unmount m --force");
            assert_eq!(ended.status, Some(6), "{self}: {ended:?}");
        }
        wait_for_end_of(server);
        world.shell("e2fsck -fy medium.img > repaired 2>&1 || true");
        let medium = Medium::again(world);
        medium.copy_back();
        world.mount_or_repair();
        world.shell("cmp m/docs/synced written; rm -rf m/docs");
        world.done("unmount m");
        world.assert_clean();
        world.shell("rmdir medium");
    }

    fn force(&self, server: u64, held: Held) {
        let world = self.world;
        let ended = world.strongroom("unmount m --force");
        match self.holder {
            Namespace => self.assert_refused(&ended, &held),
            Container => {
                self.assert_refused(&ended, &held);
                self.let_go(held);
                drop(world.done("unmount m --force"));
                return;
            }
            // Whoever writes to it afterwards loses that.
            LoopDevice => {
                assert_eq!(ended.status, Some(6), "{self}: {ended:?}");
                let device = held.device.as_deref().unwrap_or_default().trim_end();
                assert!(ended.errors.contains(&format!("{device} lay in it")), "{self}: {ended:?}");
            }
            _ => assert_eq!(ended.status, Some(0), "{self}: {ended:?}"),
        }
        wait_for_end_of(server);
        self.let_go(held);
    }

    fn unmount_outside(&self, server: u64, held: Held) {
        let world = self.world;
        let umount = if world.is_root() { "umount m" } else { "fusermount3 -u m" };
        let said = world.shell(&format!("{umount} 2>&1 || true"));
        if matches!(self.holder, Process | LoopDevice | Container) {
            assert!(said.contains("busy"), "{self}: {said}");
            self.let_go(held);
            world.shell(umount);
            return wait_for_end_of(server);
        }
        assert_eq!(said, "", "{self}");
        self.let_go(held);
        wait_for_end_of(server);
    }

    fn tell_all_to_end(&self, server: u64, held: Held) {
        let list = self.world.json("list");
        let servers = list["mounts"].as_array().unwrap().iter();
        let servers: Vec<_> = servers.map(|mount| mount["pid"].as_u64().unwrap()).collect();
        let drivers: Vec<_> = servers.iter().flat_map(|&server| children(server)).collect();
        for process in drivers.into_iter().chain(servers) {
            signal(process, Signal::TERM);
        }
        wait_for_end_of(server);
        self.let_go(held);
    }

    /// As systemd does at a user's last logout; the server looks when a mount changes.
    fn end_session(&self) {
        let world = self.world;
        let runtime = world.runtime();
        let sessions = runtime.display();
        world.shell(&format!("rm -f {sessions}/*/session.json {sessions}/*/control"));
        wait_until("a new session", || {
            if world.is_root() {
                world.shell("mkdir -p change; mount -t tmpfs none change; umount change");
            } else {
                world.shell("unshare -rm true 2> /dev/null || true");
            }
            world.listed()["pid"].is_u64()
        });
    }
}

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {:?}, held by {:?}", self.world, self.end, self.holder)
    }
}

/// A format with a key derivation that takes no time: a row mounts a hundred times.
const QUICK: &str = "--provision quick --format luks2 --pbkdf pbkdf2 --kdf-iterations 1000";
/// Two files: one that a program was told is safe, and one that only a whole end keeps.
const WRITE: &str = "mkdir m/docs; head -c 1500000 /dev/urandom > written
    dd if=written of=m/docs/synced bs=1M iflag=fullblock conv=fsync status=none; cp written m/docs/cached";
const COMPARE: &str = "cmp m/docs/synced written; cmp m/docs/cached written";
