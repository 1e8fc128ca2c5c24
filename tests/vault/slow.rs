//! A medium that is slow, as a stick is with much to write: what it was given must get there, however the mount ends.

use std::{
    sync::{Arc, Mutex},
    thread::sleep,
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use strongroom::{
    block::{BlockDevice, BlockError, Geometry},
    export::{Client, FuseExport},
    units::{Sector, SectorSize},
};

use super::{
    place::{signal, wait_for_end_of},
    world::{World, with_each_driver},
};

/// A disk in memory that takes five megabytes a second.
#[derive(Debug)]
struct SlowDisk(Mutex<Vec<u8>>);

impl SlowDisk {
    fn new(len: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![0; len])))
    }
}

fn place(sector: Sector) -> usize {
    usize::try_from(sector.0).unwrap() * SECTOR
}

impl BlockDevice for SlowDisk {
    fn geometry(&self) -> Geometry {
        let sectors = u64::try_from(self.0.lock().unwrap().len() / SECTOR).unwrap();
        Geometry { sector_size: SectorSize::B4096, sectors, read_only: false, can_discard: false }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        buf.copy_from_slice(&self.0.lock().unwrap()[place(first)..][..buf.len()]);
        Ok(())
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        let mut bytes = self.0.lock().unwrap();
        sleep(PER_BYTE * u32::try_from(buf.len()).unwrap());
        bytes[place(first)..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn write_zeroes(&self, range: std::ops::Range<Sector>) -> Result<(), BlockError> {
        self.0.lock().unwrap()[place(range.start)..place(range.end)].fill(0);
        Ok(())
    }

    fn discard(&self, _range: std::ops::Range<Sector>) -> Result<(), BlockError> {
        Ok(())
    }
}

/// The disk, mounted as `stick` with a file system of the kernel. Taken away on drop.
struct Stick<'a> {
    world: &'a World,
    device: String,
    export: FuseExport,
}

impl<'a> Stick<'a> {
    fn mount(world: &'a World) -> Self {
        let (disk, folder) = (SlowDisk::new(160 << 20), world.make_folder("disk"));
        let export = FuseExport::start(disk, &folder, Client::LoopDevice, Arc::new(|_: &str| ())).unwrap();
        world.make_folder("stick");
        let bind = "losetup -f --show --direct-io=on --sector-size 4096 disk/volume";
        let device = as_root(world, bind).trim().to_owned();
        let stick = Self { world, device, export };
        let make = "mke2fs -q -t ext4 -b 4096 -O ^has_journal -E lazy_itable_init=0";
        as_root(world, &format!("{make} {0}; mount {0} stick; chmod 777 stick", stick.device));
        stick
    }
}

impl Drop for Stick<'_> {
    fn drop(&mut self) {
        as_root(self.world, &format!("umount -l stick; losetup -d {}; true", self.device));
        let _gone = self.export.stop(true);
    }
}

fn as_root(world: &World, script: &str) -> String {
    let mut command = world.command_of_this_user("/bin/sh");
    let ended = command.args(["-c", script]).output().unwrap();
    assert!(ended.status.success(), "{script}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// Writes 60 MB to a volume on it, of which the kernel holds most by then, and has it end at once.
fn end_at_once(world: &World, end: impl Fn(&World)) {
    let stick = Stick::mount(world);
    world.shell("cp --sparse=always v.vault stick/v.vault; sync -f stick");
    let mount = world.mount_command().replace("v.vault", "stick/v.vault");
    world.done(&mount);
    let server = world.server();
    world.shell("head -c 60000000 /dev/urandom > big; cat big > m/big; mkdir m/d; echo small > m/d/small");
    end(world);
    wait_for_end_of(server);
    world.done(&mount);
    world.shell("cmp big m/big; grep -q small m/d/small");
    world.done("unmount m");
    world.shell("cp stick/v.vault v.vault");
    drop(stick);
    world.shell("rm big");
    world.check_file_system();
}

#[test]
fn force_gives_up_no_medium_that_is_only_slow() {
    if !geteuid().is_root() {
        return; // An ordinary user has no such disk.
    }
    with_each_driver("--size 96M --provision thin", |world| {
        end_at_once(world, |world| drop(world.done("unmount m --force")));
    });
}

#[test]
fn a_signal_and_the_next_one_end_no_volume_whose_medium_is_only_slow_before_all_is_written() {
    if !geteuid().is_root() {
        return;
    }
    with_each_driver("--size 96M --provision thin", |world| {
        end_at_once(world, |world| {
            let server = world.server();
            signal(server, Signal::TERM);
            sleep(Duration::from_secs(1));
            signal(server, Signal::TERM);
        });
    });
}

const SECTOR: usize = 4096;
/// Five megabytes a second.
const PER_BYTE: Duration = Duration::from_nanos(200);
