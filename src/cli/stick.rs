//! `stick`: a vault on a mounted stick, with the program that opens it elsewhere.

mod program;

use std::{
    fs::{File, Permissions},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, fstatfs, fstatvfs, statx};
use serde::Serialize;
use strongroom::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    volume::{Draft, free_bytes},
};

use super::{
    args::{
        CreateOptions, NewFormat, NewOptions, NewSealOptions, NewSecretOptions, ProvisionChoice, StickOptions,
    },
    create::{self, Summary},
    interrupt,
    output::Console,
    plan::cannot_make,
    size::{FAT_LARGEST, MSDOS_SUPER_MAGIC, ROUNDED, StickSize, nearly_all, show_size},
};
use program::Program;

/// Puts a vault on a mounted stick, and what opens it.
pub(crate) fn run(console: Console, options: &StickOptions) -> Result<()> {
    prepare(console, options).map_err(|error| cannot_make(error, "prepare", &options.mountpoint))
}

#[derive(Debug, Serialize)]
struct Prepared<'a> {
    #[serde(serialize_with = "strongroom::text::path::serialize")]
    mountpoint: &'a Path,
    #[serde(flatten)]
    vault: Summary,
    program: &'static str,
    script: &'static str,
    text: &'static str,
    /// What the program wants of the machine that opens the stick.
    libraries: &'a [String],
}

/// All that can be refused is, before the password is asked for. The vault gets its name last: whatever fails before takes the rest
/// away again, and after a power cut the same command ends it.
fn prepare(console: Console, options: &StickOptions) -> Result<()> {
    let stick = options.mountpoint.as_path();
    let program = interrupt::asking_at_liberty(stick, || {
        refuse_what_is_no_mount(stick)?;
        read_program(options)
    })?;
    if !program.is_static() {
        console.warn(&format!("the program is not static: {}", wanted(&program)));
    }
    let vault = stick.join(vault_name(options));
    if vault.symlink_metadata().is_ok() {
        return Err(exists(&vault));
    }
    let (script, text) = (script(options), text(options, &program));
    let files = [
        Extra::new(stick, PROGRAM, &program.bytes, 0o755),
        Extra::new(stick, SCRIPT, script.as_bytes(), 0o755),
        Extra::new(stick, TEXT, text.as_bytes(), 0o644),
    ];
    let room = interrupt::asking(stick, || room(console, options, &vault, &files))?;
    let create = create_options(options, vault, &room);
    let place = || files.iter().map(Extra::place).collect::<Result<Vec<_>>>();
    let (vault, _, placed) = create::make(console, &create, || interrupt::asking(stick, place))
        .map_err(|error| cannot_make(error, "create", &create.container))?;
    placed.into_iter().for_each(Placed::keep);

    let prepared = Prepared {
        mountpoint: stick,
        vault,
        program: PROGRAM,
        script: SCRIPT,
        text: TEXT,
        libraries: program.libraries(),
    };
    console.done(&prepared, |made| {
        let (size, contents) = (show_size(made.vault.data_size), made.vault.contents());
        format!("prepared {}: {}, {size} for data, {contents}", stick.display(), vault_name(options))
    });
    if !console.is_json() {
        console.note(advice(options.format));
    }
    Ok(())
}

/// What is to be known at the end.
const fn advice(format: NewFormat) -> &'static str {
    match format {
        NewFormat::VeraCrypt => {
            "on Windows and macOS VeraCrypt opens it; on Linux type there: sh open.sh. Keep a copy of the vault elsewhere"
        }
        _ => "on another Linux machine type there: sh open.sh. Keep a copy of the vault elsewhere",
    }
}

/// A folder of the machine's own disk would be filled, where the stick is not mounted.
fn refuse_what_is_no_mount(stick: &Path) -> Result<()> {
    let found = statx(CWD, stick, AtFlags::empty(), StatxFlags::TYPE).map_err(std::io::Error::from)?;
    if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Err(Error::new(ErrorKind::Usage, "nothing is mounted there")
            .with_hint("mount the stick, and give the folder that it is mounted on: lsblk shows it"));
    }
    Ok(())
}

fn read_program(options: &StickOptions) -> Result<Program> {
    let path = options.program.as_deref().unwrap_or(Path::new("/proc/self/exe"));
    Program::read(path).map_err(|error| error.during(format!("cannot use {}", path.display())))
}

/// What a program that is not static wants, in words.
fn wanted(program: &Program) -> String {
    format!("the machine that opens the stick needs {}, as new as here", program.libraries().join(", "))
}

/// What the vault takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    /// Bytes.
    size: u64,
    /// The bytes of a piece, where the stick takes no file as large as the vault.
    split: Option<u64>,
}

/// The size of the vault in bytes, beside the other files, and whether it is in pieces.
fn room(console: Console, options: &StickOptions, vault: &Path, files: &[Extra<'_>]) -> Result<Room> {
    let stick = File::open(&options.mountpoint)?;
    let room = fstatvfs(&stick).map_err(std::io::Error::from)?;
    let mut free = free_bytes(&room);
    for file in files {
        let len = if file.is_there()? { 0 } else { len(file.bytes) };
        let takes = len.checked_next_multiple_of(room.f_frsize).unwrap_or(len);
        free = free.map(|free| free.saturating_sub(takes));
    }
    // FAT behind FUSE is known only by what it refuses.
    let is_fat = |size| match fstatfs(&stick) {
        Ok(found) if found.f_type == MSDOS_SUPER_MAGIC => Ok(true),
        _ => Draft::check_place(vault, size, &OsRng).map(|fits| !fits),
    };
    let piece_len = piece_len(options);
    if let StickSize::Of(size) = options.size {
        let lacking = free.filter(|&free| free < size && options.provision != ProvisionChoice::Thin);
        let Some(free) = lacking else {
            let is_split = piece_len.is_some() && size > FAT_LARGEST && is_fat(size)?;
            return Ok(Room { size, split: piece_len.filter(|_| is_split) });
        };
        let (size, free) = (show_size(size), show_size(free));
        let reason = format!("the vault needs {size}, but only {free} are free for it");
        return Err(Error::new(ErrorKind::NoSpace, reason).with_hint("choose a smaller --size, or max"));
    }
    let free = nearly_all(free)?;
    let room = largest(free, piece_len, || is_fat(free))?;
    if room.size < free / ROUNDED * ROUNDED {
        console.note(&format!(
            "FAT32 takes no larger file, so the vault gets {} of the {} that are free; exFAT would take all",
            show_size(room.size),
            show_size(free)
        ));
    }
    Ok(room)
}

/// How large pieces are, where a vault can have any. Making one writes all of it where there are no holes, and a thick vault makes all
/// of them once.
fn piece_len(options: &StickOptions) -> Option<u64> {
    match (options.format, options.provision) {
        (NewFormat::Native, ProvisionChoice::Thin) => Some(SMALL_PIECE),
        (NewFormat::Native, _) => Some(LARGE_PIECE),
        _ => None,
    }
}

/// The largest vault: in pieces of `piece_len` bytes where FAT takes no such file, or else as large as that takes.
fn largest(free: u64, piece_len: Option<u64>, is_fat: impl FnOnce() -> Result<bool>) -> Result<Room> {
    let is_cut = free > FAT_LARGEST && is_fat()?;
    let size = if is_cut && piece_len.is_none() { FAT_LARGEST } else { free };
    match size / ROUNDED * ROUNDED {
        0 => Err(Error::new(ErrorKind::NoSpace, "there is no room for a vault")
            .with_hint("delete files on the stick, or give a --size")),
        size => Ok(Room { size, split: piece_len.filter(|_| is_cut) }),
    }
}

fn vault_name(options: &StickOptions) -> String {
    let ending = match options.format {
        NewFormat::Native => "vault",
        NewFormat::Luks1 | NewFormat::Luks2 => "luks",
        NewFormat::VeraCrypt => "hc",
        NewFormat::TrueCrypt => "tc",
    };
    format!("{}.{ending}", options.name)
}

fn create_options(options: &StickOptions, container: PathBuf, room: &Room) -> CreateOptions {
    CreateOptions {
        container,
        size: Some(room.size),
        filesystem: options.filesystem,
        owner: None,
        hidden: false,
        new: NewOptions {
            format: options.format,
            provision: Some(options.provision),
            split: room.split,
            label: options.label.clone(),
            sector_size: None,
            cipher: None,
            key_size: None,
            prf: options.prf,
            pim: options.pim,
            header: None,
            force: false,
            yes: false,
            cost: options.cost,
            secrets: options.secrets.clone(),
        },
        hidden_secret: NewSecretOptions::default(),
        hidden_seal: NewSealOptions::default(),
    }
}

/// The script that opens the vault.
fn script(options: &StickOptions) -> String {
    let format = options.format.format();
    // What bears no signature must be named.
    let is_named = matches!(options.format, NewFormat::VeraCrypt | NewFormat::TrueCrypt);
    let words = if is_named { format!(" --format {}", format.name()) } else { String::new() };
    let has_pim = if has_pim(options) { "yes" } else { "no" };
    filled(options, include_str!("stick/open.sh")).replace("@OPTIONS@", &words).replace("@HAS_PIM@", has_pim)
}

/// The text for whoever finds the stick.
fn text(options: &StickOptions, program: &Program) -> String {
    let elsewhere = match options.format {
        NewFormat::VeraCrypt => VERACRYPT,
        _ => NOWHERE,
    };
    let libraries = if program.is_static() {
        String::new()
    } else {
        format!("\n  The program also needs: {}.", program.libraries().join(", "))
    };
    let text =
        filled(options, include_str!("stick/read-me.txt")).replace("@PROCESSORS@", program.processors());
    let pim = if has_pim(options) { " and for the PIM" } else { "" };
    text.replace("@LIBRARIES@", &libraries).replace("@ELSEWHERE@", elsewhere).replace("@AND_PIM@", pim)
}

/// Whether it takes a number besides the password, which only its user knows.
fn has_pim(options: &StickOptions) -> bool {
    options.pim.is_some_and(|pim| pim != 0)
}

fn filled(options: &StickOptions, template: &str) -> String {
    template.replace("@VAULT@", &vault_name(options)).replace("@NAME@", &options.name)
}

/// What is on the stick beside the vault.
#[derive(Debug)]
struct Extra<'a> {
    path: PathBuf,
    bytes: &'a [u8],
    mode: u32,
}

impl<'a> Extra<'a> {
    fn new(stick: &Path, name: &str, bytes: &'a [u8], mode: u32) -> Self {
        Self { path: stick.join(name), bytes, mode }
    }

    /// Whether it is there already, byte for byte.
    ///
    /// # Errors
    /// `Exists` where something else of its name is.
    fn is_there(&self) -> Result<bool> {
        if self.path.symlink_metadata().is_err() {
            return Ok(false);
        }
        if holds(&self.path, self.bytes)? {
            return Ok(true);
        }
        Err(exists(&self.path))
    }

    /// Writes it under its name, whole or not at all, unless it is there.
    fn place(&self) -> Result<Placed> {
        if self.is_there()? {
            return Ok(Placed(None));
        }
        self.write().map_err(|error| error.during(format!("cannot write {}", self.path.display())))?;
        Ok(Placed(Some(self.path.clone())))
    }

    fn write(&self) -> Result<()> {
        let draft = Draft::new(&self.path, false, &OsRng)?;
        let storage = draft.container().storage();
        let mut at = 0;
        for piece in self.bytes.chunks(PIECE) {
            interrupt::check()?;
            storage.write_all_at(piece, at)?;
            at = at.saturating_add(len(piece));
        }
        // FAT has no modes of its own, and says no to some.
        let _ = draft.container().file().set_permissions(Permissions::from_mode(self.mode));
        draft.commit(&OsRng)
    }
}

/// A file that was made here, and goes again where it is not kept. None where it was there.
#[derive(Debug)]
struct Placed(Option<PathBuf>);

impl Placed {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that led here is told already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether a file has exactly these bytes.
fn holds(path: &Path, bytes: &[u8]) -> Result<bool> {
    let mut found = Vec::new();
    if !path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == len(bytes)) {
        return Ok(false);
    }
    File::open(path)?.take(len(bytes)).read_to_end(&mut found)?;
    Ok(found == bytes)
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::Exists, "it already exists")
        .during(format!("cannot write {}", path.display()))
        .with_hint("move it away, or use another stick")
}

const PROGRAM: &str = "strongroom";
const SCRIPT: &str = "open.sh";
const TEXT: &str = "READ-ME.txt";
/// A folder of FAT32 takes 65 534 of them: 511 GiB.
const SMALL_PIECE: u64 = 8 << 20;
const LARGE_PIECE: u64 = 1 << 30;
/// So much is written between two looks at whether to stop.
const PIECE: usize = 1 << 20;
const VERACRYPT: &str = "  Install VeraCrypt (https://veracrypt.fr). Choose this vault in it with
  \"Select File\", then \"Mount\". Before you pull the stick out, choose
  \"Dismount\".";
const NOWHERE: &str = "  This vault can be opened on Linux only.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_vault_is_what_is_free_or_what_fat_takes() {
        let no = || Ok(false);
        let never = || panic!("a small file says nothing of FAT");
        let piece = Some(LARGE_PIECE);
        let whole = |size| Room { size, split: None };
        assert_eq!(largest(3 << 30, piece, never).unwrap(), whole(3 << 30));
        assert_eq!(largest((29 << 30) + 5, piece, no).unwrap(), whole(29 << 30));
        assert_eq!(largest(29 << 30, piece, || Ok(true)).unwrap(), Room { size: 29 << 30, split: piece });
        assert_eq!(largest(29 << 30, None, || Ok(true)).unwrap(), whole(4095 << 20));
        assert_eq!(largest(4095 << 20, None, never).unwrap(), whole(4095 << 20));
        assert_eq!(largest(ROUNDED - 1, piece, never).unwrap_err().kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn what_failed_leaves_only_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("same"), b"bytes").unwrap();
        std::fs::write(at("other"), b"BYTES").unwrap();
        let extra = |name| Extra::new(folder.path(), name, b"bytes", 0o755);
        for (name, is_made) in [("same", false), ("new", true)] {
            let placed = extra(name).place().unwrap();
            assert_eq!(placed.0.is_some(), is_made, "{name}");
            assert_eq!(std::fs::read(at(name)).unwrap(), b"bytes");
        }
        assert!(at("same").exists() && !at("new").exists());
        assert_eq!(extra("other").place().unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(std::fs::read(at("other")).unwrap(), b"BYTES");
        extra("new").place().unwrap().keep();
        assert_eq!(std::fs::metadata(at("new")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
