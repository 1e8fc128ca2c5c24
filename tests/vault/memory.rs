//! What stands in the memory of our processes while a volume is mounted: read from outside, as only root can.

use std::{collections::BTreeSet, fs, os::unix::fs::FileExt, slice};

use strongroom::{
    crypto::{
        kdf::{Argon2Cost, argon2id, hkdf_sha512},
        xts::Backend,
    },
    format::native::{self, Suite},
};

use crate::{
    leaks,
    place::{PASSWORD, children, comes_to_pass, leave_to_root, wait_for_end_of, wait_until},
    world::{World, with_vault},
};

#[test]
fn the_server_holds_data_keys_in_locked_memory_and_no_other_secret_anywhere() {
    with_vault("--size 32M --provision quick", |world| {
        if !can_look_into_processes() {
            return;
        }
        world.mount();
        let (all, data_key) = secrets(world);
        let server = world.server();
        let load = world.shell_in_background(
            "while true; do head -c 3000000 /dev/urandom > m/f; sync -f m; cat m/f > /dev/null; echo done >> rounds; done",
        );
        wait_until("load", || world.lines_of("rounds") > 1);
        let busy = search(&Memory::of(server), &all);
        assert!(busy.is_empty(), "{world}: under load: {busy:?}");
        drop(load);
        world.shell("sync -f m");

        // What is on its way still may have round keys in registers, and so on a stack: that passes, a copy does not.
        let (mut memory, mut found, mut copied) = (Memory::of(server), Vec::new(), Vec::new());
        comes_to_pass(|| {
            memory = Memory::of(server);
            found = search(&memory, slice::from_ref(&data_key));
            copied = search(&memory, &[memory.guarded()]);
            copied.retain(|sighting| !sighting.is_guarded);
            copied.is_empty() && found.iter().all(|sighting| sighting.is_guarded)
        });
        assert!(found.iter().all(|sighting| sighting.is_guarded), "{world}: {found:?}");
        assert!(copied.is_empty(), "{world}: of locked memory there are copies: {copied:?}");
        // The start of the cipher's four key schedules: two pieces for encrypting data and two for tweaks; and the end of
        // the schedule for decrypting, which is the first piece again. In the portable cipher keys look different.
        let expected = if Backend::AesNi.is_supported() { 5 } else { found.len().min(5) };
        assert_eq!(found.len(), expected, "{world}: {found:?}");

        let found = search(&memory, &all);
        assert!(found.is_empty(), "{world}: {found:?}");
        assert!(children(server).is_empty(), "{world}: who else may know them?");
        world.done("unmount m");
        wait_for_end_of(server);
    });
}

#[test]
fn the_command_forgets_what_it_was_told_once_the_volume_is_mounted() {
    with_vault("--size 32M --provision quick", |world| {
        if !can_look_into_processes() {
            return;
        }
        let (mut all, data_key) = secrets(world);
        all.push(data_key);
        let command = world
            .shell_in_background("exec ./strongroom mount v.vault m --password-file password --foreground");
        world.wait_until_mounted();
        let mut found = Vec::new();
        let is_forgotten = comes_to_pass(|| {
            found = search(&Memory::of(command.process()), &all);
            found.is_empty()
        });
        world.done("unmount m");
        assert_eq!(command.wait(), Some(0));
        assert!(is_forgotten, "{world}: {found:?}");
    });
}

/// Whether this process may read another's memory although that may not be dumped.
pub(crate) fn can_look_into_processes() -> bool {
    leave_to_root("read the memory of a server");
    rustix::process::geteuid().is_root()
}

/// Everything that must be nowhere once a volume is mounted, and the key that must be: of the first region's data.
fn secrets(world: &World) -> (Vec<Needle>, Needle) {
    let container = world.path("v.vault");
    let (volume_key, uuid) = leaks::volume_key(&container);
    let header = fs::read(container).unwrap();
    // Section 3.2 of the specification: keyslot 0.
    let slot = &header[4096..4096 + 2048];
    let number = |offset: usize| u32::from_le_bytes(slot[offset..offset + 4].try_into().unwrap());
    let cost = Argon2Cost { memory_kib: number(16), passes: number(20), lanes: number(24) };
    let password = PASSWORD.as_bytes();
    let credentials =
        [b"strongroom/v1/credentials", &(password.len() as u64).to_le_bytes()[..], password, &[0; 4]]
            .concat();
    let slot_key = argon2id(&credentials, &slot[32..64], &cost, 32).unwrap();
    let mac_key = hkdf_sha512(volume_key.expose(), &uuid, b"strongroom/v1/header-mac", 64).unwrap();
    let data_key = native::data_key(&volume_key, &uuid, Suite::default(), 0).unwrap();
    let all = vec![
        Needle::new("password", password),
        Needle::new("slot key", slot_key.expose()),
        Needle::new("volume key", volume_key.expose()),
        Needle::new("MAC key", mac_key.expose()),
    ];
    (all, Needle::new("data key", data_key.expose()))
}

/// What must not outlive a volume: its data key, and all that must be nowhere anyway.
pub(crate) fn keys(world: &World) -> Vec<Needle> {
    let (mut all, data_key) = secrets(world);
    all.push(data_key);
    all
}

/// Where any of these stands in the memory of a process, also of one that has been killed, some of whose threads the kernel
/// still holds.
pub(crate) fn found_in(process: u64, needles: &[Needle]) -> Vec<Sighting> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let memories = threads.filter_map(|thread| Memory::at(thread.path().to_str()?));
    memories.flat_map(|memory| search(&memory, needles)).collect()
}

/// A secret in pieces: whoever copied it copied one of them whole.
pub(crate) struct Needle {
    name: &'static str,
    pieces: BTreeSet<Vec<u8>>,
}

impl Needle {
    /// Pieces that could be anything's are left out.
    fn new(name: &'static str, secret: &[u8]) -> Self {
        let is_telling = |piece: &&[u8]| piece.iter().collect::<BTreeSet<_>>().len() >= PIECE / 2;
        let pieces = secret.chunks_exact(PIECE).filter(is_telling).map(<[u8]>::to_vec).collect();
        Self { name, pieces }
    }
}

/// A place where a piece of a secret stands.
#[derive(Debug)]
#[allow(dead_code, reason = "for the message of a failing test")]
pub(crate) struct Sighting {
    secret: &'static str,
    address: u64,
    mapping: String,
    is_guarded: bool,
}

/// The readable memory of a process.
struct Memory(Vec<Region>);

struct Region {
    start: u64,
    /// What `smaps` says of it.
    title: String,
    /// Locked, left out of dumps, wiped in a fork: what [`strongroom::sys::memory::LockedBytes`] asks for.
    is_guarded: bool,
    bytes: Vec<u8>,
}

impl Memory {
    fn of(process: u64) -> Self {
        let memory = Self::at(&format!("/proc/{process}")).unwrap();
        assert!(memory.0.len() > 10, "there is nothing to see");
        memory
    }

    /// That of a process or a thread, by its folder in `/proc`. `None` where it has none any more.
    fn at(folder: &str) -> Option<Self> {
        let memory = fs::File::open(format!("{folder}/mem")).ok()?;
        let smaps = fs::read_to_string(format!("{folder}/smaps")).ok()?;
        let (mut regions, mut range, mut title) = (Vec::new(), 0..0, String::new());
        for line in smaps.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags: ") {
                let has = |wanted| flags.split(' ').any(|flag| flag == wanted);
                // Pages that were never touched read as zeros; those of files are nobody's secret.
                let len = usize::try_from(range.end - range.start).unwrap();
                let mut bytes = vec![0; len];
                if has("rd") && memory.read_exact_at(&mut bytes, range.start).is_ok() {
                    let is_guarded = has("lo") && has("dd") && has("wf");
                    regions.push(Region { start: range.start, title: title.clone(), is_guarded, bytes });
                }
            } else if let Some((addresses, rest)) = line.split_once(' ')
                && let Some((start, end)) = addresses.split_once('-')
                && let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
            {
                (range, title) = (start..end, rest.to_owned());
            }
        }
        Some(Self(regions))
    }

    /// What lies in locked memory, key schedules and all.
    fn guarded(&self) -> Needle {
        let guarded: Vec<u8> = self
            .0
            .iter()
            .filter(|region| region.is_guarded)
            .flat_map(|region| region.bytes.clone())
            .collect();
        Needle::new("locked memory", &guarded)
    }
}

/// Every place where a piece stands.
fn search(memory: &Memory, needles: &[Needle]) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    let pieces = || needles.iter().flat_map(|needle| needle.pieces.iter().map(|piece| (needle.name, piece)));
    // Most windows are told apart by their first two bytes.
    let mut heads = vec![false; 1 << 16];
    pieces().for_each(|(_, piece)| heads[head(piece)] = true);
    for region in &memory.0 {
        for (offset, window) in region.bytes.windows(PIECE).enumerate() {
            if !heads[head(window)] {
                continue;
            }
            sightings.extend(pieces().filter(|(_, piece)| window == *piece).map(|(secret, _)| Sighting {
                secret,
                address: region.start + offset as u64,
                mapping: region.title.clone(),
                is_guarded: region.is_guarded,
            }));
        }
    }
    sightings
}

fn head(bytes: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([bytes[0], bytes[1]]))
}

const PIECE: usize = 16;
