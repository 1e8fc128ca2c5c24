//! The manual: one page of everything, or the page of one command. What clap knows of the commands is put into words by `page`;
//! here stands what only words can say.

mod page;

use clap_mangen::roff::{Roff, bold, roman};
use strongroom::error::{Error, ErrorKind, Result};

use super::output::print;
use page::{Leaf, describe, describe_argument, leaves, section, usage};

/// Prints the whole manual, or the page of the command that `words` name, as roff.
///
/// # Errors
/// `Usage` where they name none.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let command = super::command();
    let all = leaves(&command, &command, "strongroom");
    let roff = if words.is_empty() { whole(&command, &all) } else { page_of(&all, words)? };
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    print(&String::from_utf8_lossy(&text))
}

/// The manual of everything. What several commands take is described once.
fn whole(command: &clap::Command, all: &[Leaf<'_>]) -> Roff {
    let mut roff = Roff::new();
    roff.control("TH", ["STRONGROOM", "1", "", version().as_str(), "User Commands"]);
    section(&mut roff, "NAME", "strongroom - encrypted vaults: create, mount, lock, back up");
    roff.control("SH", ["SYNOPSIS"]);
    for leaf in all {
        roff.text(usage(leaf));
        roff.control("br", []);
    }
    section(&mut roff, "DESCRIPTION", DESCRIPTION);
    roff.control("SH", ["COMMANDS"]);
    let common = page::common_arguments(all);
    for leaf in all {
        roff.control("SS", [leaf.path.as_str()]);
        describe(&mut roff, leaf, &common);
    }
    roff.control("SH", ["COMMON OPTIONS"]);
    roff.text([roman("Several commands take these; each names those that it takes.")]);
    for argument in &common {
        describe_argument(&mut roff, argument);
    }
    roff.control("SH", ["OPTIONS OF EVERY COMMAND"]);
    for argument in command.get_arguments() {
        describe_argument(&mut roff, argument);
    }
    exit_statuses(&mut roff);
    for (name, text) in SECTIONS {
        section(&mut roff, name, text);
    }
    roff
}

/// The page of one command, or of all commands that begin with `words`: each with all that it takes.
fn page_of(all: &[Leaf<'_>], words: &[String]) -> Result<Roff> {
    let asked = format!("strongroom {}", words.join(" "));
    let group = format!("{asked} ");
    let found: Vec<_> = all
        .iter()
        .filter(|leaf| {
            let (parent, _) = leaf.path.rsplit_once(' ').unwrap_or_default();
            let is_alias = leaf.command.get_all_aliases().any(|alias| asked == format!("{parent} {alias}"));
            leaf.path == asked || leaf.path.starts_with(&group) || is_alias
        })
        .collect();
    let (Some(first), is_group) = (found.first(), found.len() > 1) else {
        let unknown = Error::new(ErrorKind::Usage, "unknown command").during(words.join(" "));
        return Err(unknown.with_hint("see strongroom --help"));
    };
    let (name, about) =
        if is_group { (&asked, "work with a container".to_owned()) } else { (&first.path, first.about()) };
    let name = name.replace(' ', "-");
    let mut roff = Roff::new();
    roff.control("TH", [name.to_uppercase().as_str(), "1", "", version().as_str(), "User Commands"]);
    section(&mut roff, "NAME", &format!("{name} - {}", about.to_lowercase()));
    roff.control("SH", ["SYNOPSIS"]);
    for leaf in &found {
        roff.text(usage(leaf));
        roff.control("br", []);
    }
    roff.control("SH", ["DESCRIPTION"]);
    for leaf in &found {
        if is_group {
            roff.control("SS", [leaf.path.as_str()]);
        }
        describe(&mut roff, leaf, &[]);
    }
    exit_statuses(&mut roff);
    section(
        &mut roff,
        "SEE ALSO",
        "strongroom(1) has the options of every command, files, examples and security.",
    );
    Ok(roff)
}

fn exit_statuses(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUSES {
        roff.control("TP", []).text([bold(status)]).text([roman(meaning)]);
    }
}

fn version() -> String {
    format!("strongroom {}", env!("CARGO_PKG_VERSION"))
}

const DESCRIPTION: &str = "\
# Vaults and containers

A container, or vault, is one file (or a block device) that holds an encrypted file system. strongroom creates it, opens it with a
password, keyfiles, or both, and mounts it. You need no special privileges for any of this.

# Mounting

mount returns when you can use the files. A background process serves the volume: it survives the terminal and the
logout, keeps the keys in locked memory, and unmounts cleanly when it is told to stop (SIGTERM). A container can be open
only once at a time for writing.

open is mount with less to type: it mounts on ~/Vaults/NAME, where NAME is the container's name without its ending, and a number is added where another
vault has that name. The folder is made for the mount, nobody can write to it before and after, and it goes with the volume. If the container is open
already, open says where. close is unmount for what you opened last, or for the NAME that you give.

As an ordinary user you mount ext2, ext3, ext4, FAT and exFAT through strongroom itself. Changes of ext3 and ext4 go through the journal, so a crash takes no
repair. If one of them has no journal, or is marked as damaged, mount first lets e2fsck(8) repair what needs no decision. If e2fsck refuses, mount ends with status 6, and its hint gives the commands that
repair the rest. Files that lost their names end up in lost+found, which belongs to root (--owner me shows it); everything that was synced is there. If e2fsck is not installed, or the file system has
a feature that strongroom does not write, it is mounted read-only, and mount says why. A container that was cut short is
not repaired and not mounted for writing: status 4, and the number of missing bytes. With --read-only it is mounted
with a warning.

If you leave out the mount point, udisks has the kernel mount what strongroom does not write itself: XFS, btrfs, and NTFS for writing. udisks chooses the
mount point, below /run/media or /media. With --driver udisks it does so for any file system that the kernel knows, and the desktop may ask you for a password; no mount point can be
named then. Unmounting it in the file manager closes the volume. If the kernel hides the block file from udisks (Linux 6.17 and newer), mount and doctor give the command that root must run once.

On a mount point of yours, NTFS is only read without root: mount says so, and that its log is not replayed where it was not left clean. Symbolic links and junctions show as relative
links, names are told apart by case, and encrypted, deduplicated and cloud files cannot be read. ISO 9660 (with Rock Ridge or Joliet) and UDF are only read, too.

FAT, exFAT and NTFS know no owners. When root mounts them with the kernel's driver, the files belong to the user who called root with sudo, pkexec or
doas (SUDO_UID, PKEXEC_UID, DOAS_USER), or else to the owner of the mount point, and nobody else can read them.

# Sharing

A mount is private to whoever made it: neither other users nor root get in. With --share user:NAME,group:NAME the kernel lets these in as well, and nobody else. On FAT and exFAT, and with --owner me, they may do what
the owner may, but for changing modes and times; on ext4 with --owner real the same in the top directory, and below it what owners and modes say. An ordinary user needs the line user_allow_other in /etc/fuse.conf. Only the builtin driver shares;
under the kernel driver the volume's own modes decide. The file of mount --block is never shared.

# Unmounting

unmount waits until everything is written. It refuses while files are open and names the programs. With --force it does not wait for them,
and kills a driver that hangs within seconds; whatever was not written by then is lost. If a container inside this volume is itself mounted,
unmount refuses even with --force: unmount that one first. A volume that is also mounted elsewhere (bound to another folder, under an overlay)
is in use as well. If another mount namespace shows it, such as a container or a sandbox, it disappears here, is served until that lets go,
and then ends by itself: unmount ends with status 5 and names a process there, if /proc shows it to you. With --force, what was written so far reaches the container, and
those users are cut off. If the medium of the container does not answer, unmount says so after five seconds; with --force it then wipes the
keys and gives the medium up: status 6. If something else is mounted over the volume,
unmount names it; --force unmounts what lies on the volume itself as well. A file system on a loop device on the block file (mount --block) or on a file in the volume
is in use and named, too. Before --force takes the volume away from under it, or from under an overlay, what was written there is brought to the volume; what is written afterwards is lost,
and so are the files of a tmpfs in a folder of the volume: status 6. Whoever has the volume's loop device open keeps it from ending, as another namespace does.
If something that nobody can see goes on using the volume after --force (a namespace that only an open descriptor holds), that is told: status 6. A server that a control group has frozen
ends when it is thawed; --force does not wait for that: status 5. Swap files must go first, even with --force. You may rename folders above a mount point: list shows the new name, and unmount takes either. In list, \"(detached)\" (null in JSON) means that somebody detached the mount point
while files were open.

Only the user who mounted a volume can unmount it. One that you mounted in another environment (sudo -u, another XDG_RUNTIME_DIR) is found by its name; --all leaves it. list names what root mounted as well (\"others\" in JSON), with the command that ends it.

If the container or its header file is deleted or replaced while it is mounted, list shows that (\"container_state\" and \"header_state\" in
JSON), and unmount refuses with status 5, because no file has what was written. unmount --save-as FILE unmounts and then copies the container to FILE
(mode 0600), which opens with the same password; a detached header goes to FILE.header. With --force, on SIGTERM, and when somebody else unmounts
the volume, the server makes the copy itself: NAME.rescued in the folder where the container was, or in your home. If there is no room in either, the volume
stays mounted; with --force what was written is lost then, and unmount says so: status 6. A volume that another mount namespace still shows is saved under FILE when that lets go, or with --force --save-as FILE at once; --force alone uses that name as well. If a copy fails after the unmount, try again: the server keeps the container open, without its keys.

Of a folder of pieces each piece is watched (\"lost_pieces\" in JSON). --save-as DIR copies the folder to a new one, --force to NAME.rescued beside it. A piece that was lost while the server did not have it open (it holds 256) is gone: unmount says so, and with --force ends with status 6.

All that holds for the file behind a loop device, too. If the file system with the container is unmounted lazily, or another one is mounted over it, list shows
the container as unreachable, and unmount refuses with status 5. What you wrote is on that file system: bring it back, or take --save-as FILE. With --force the volume is
unmounted without a copy; only a container in memory (tmpfs) is copied as a deleted one is.

If the file cannot be written any more (chattr +i, a file system that became read-only), what was written waits for a minute, list shows it (\"unwritten\": \"forbidden\" in JSON), and
unmount refuses with status 5. Make it writable again, or take --save-as FILE, which has all that waits. After that minute writes fail, as on a full disk, and list shows that not everything was saved (\"lost\"). unmount refuses as well while the file system of the volume, or the one with the container, is
frozen (fsfreeze): thaw it first. --force, SIGTERM and an umount from outside thaw the volume's own. SIGTERM ends the waiting after 20 seconds, a second one at once.

If the device with the container was made shorter, what was written behind its end waits as long (\"short\").

If another program writes into the file instead, or cuts it off (making it longer is no harm), list shows it as overwritten, and unmount refuses as well, and so does sync: copy what you can still
read to another place, and compare it with a backup, since some of it may be wrong. Then use --force. The same goes for one that was then deleted or replaced (\"overwritten-and-deleted\" in JSON). --save-as refuses too unless --force is there, since the copy may not open. A change of the header always shows, unless it is a keyslot that cryptsetup added, changed or removed in a LUKS header that is whole. A write to the rest does not show if it comes
through a memory mapping, by asynchronous I/O, through a loop device or from another machine, nor on FUSE, on a device, before Linux 5.13 or under a memory limit.

FAT and exFAT as an ordinary user: a file is in the container a second after it was closed, on a slow medium after five. The kernel does not pass on a plain sync, nor an
umount from outside: these return up to that much earlier. sync FILE, strongroom sync and unmount wait for it.

sync brings the container file up to date without unmounting. A copy made right after it, while nobody writes, opens as after a power cut and has
everything.

# Sticks

stick puts a vault, this program, the script open.sh and READ-ME.txt on a stick that is mounted. On another Linux machine with FUSE, sh open.sh in the stick's folder opens the vault on
~/Vaults/NAME, and sh open.sh close closes it. The program is copied to a folder of that machine first, so the stick may be mounted noexec. If the program needs libraries, a warning names them:
one that make static built needs none (--program FILE). What is too large for a file of FAT32 becomes a folder of pieces, or has 4 GiB at most in another format. Nothing is overwritten. If a power cut breaks it off, the same
command makes what is missing. Whoever can write to the stick can change the program on it: open a stick that was out of your sight with a strongroom of your own.

# Passwords and keyfiles

Passwords are the bytes that you give, up to 1 MiB, without any normalisation. One newline at the end of a password file, a
descriptor or a command's output is dropped; a carriage return is not. Control characters typed at a prompt are ignored.
A password is never taken from the command line or from the environment, where others could see it.

Keyfiles are added to the password. All of their content counts, in any order. With --no-password, or an empty
password file, the keyfiles alone open the container. A new keyfile must not be empty, and has at most 64 MiB (8 MiB for LUKS).

# Keyslots

A container has 30 keyslots. Each opens it by itself. key add fills one, key change replaces its secret, key
remove empties it. The data is not touched, and the container may be mounted meanwhile (not read-only). The old secret
comes from the options that begin with --password and --keyfile, the new one from those that begin with --new. --slot chooses the
keyslot to work on, --unlock-slot the one to unlock with; on commands that only unlock, --slot is the one to try. A removed secret still opens
copies of the header that were made before.

# Recovery keys and FIDO2 tokens

A recovery key (key add --recovery) is 17 groups of six digits. It is printed once on standard output, four groups to a line and
then as a QR code; with --json it is the value of \"recovery_key\". If standard input is a terminal, and without --json, you type two of
its groups back before it can open anything; scripts are not asked. With --no-qr you can give what is printed to --password-file
as it is. To unlock with it, add --recovery-key: it takes the place of the password. Dashes,
spaces and line breaks in it do not matter. If a group is wrong, the message names it by number.

A FIDO2 token (key add --fido2) is used through /dev/hidraw*. It must support the hmac-secret extension. If it has a PIN when the keyslot
is made, the PIN is needed each time; fingerprints are not used. To unlock with it, add --security-key. The PIN comes from
where the password would, so --password-command can supply it. A wrong PIN from such a source is tried only once. With several
tokens plugged in, strongroom finds the one that belongs to the container; to make a keyslot, plug in only one.

# LUKS

create --format luks2 and luks1 make what cryptsetup makes. The same commands change their 32 and 8 keyslots, and header backups
are cryptsetup's own; restoring one takes no password. LUKS keyslots have no labels, recovery keys or tokens here. A LUKS1 keyslot is
changed by way of an empty one. One secret opens such a container: a password, or one keyfile in its place.

Nothing authenticates the header of a LUKS container. With --pin strongroom remembers what the header says once it has opened it. From then on every
command that opens this container compares before it asks for a secret, and ends with status 4 if the header is different. Keyslot
changes by strongroom itself update the pin. --pin=renew accepts what another program changed; --pin=require refuses a container that was never pinned. For a container in
strongroom's own format the pin refuses old headers.

# VeraCrypt and TrueCrypt

Nothing in a VeraCrypt or TrueCrypt container identifies it as one. --format veracrypt or truecrypt opens one. Without it, if a
file has no known header, you are asked on the terminal whether to try it as one. All hashes are then tried with all ciphers, on all processors: first on the header of
the normal volume, then on that of the hidden one. A terminal shows how long that takes at most. The answer names the hash; with --prf only that hash is tried, and the backup headers too.
--pim, --hidden, --backup-header and --system (a drive with an encrypted system) say what else to open. A --keyfile may be a folder: every file in it counts unless it is hidden. Only the
first MiB of a keyfile counts. header restore --yes puts such a header over a file system or other known data only with --force, and never over the
header of another format. With a PIM, Argon2id is tried only with --prf argon2id: it may take very long.

create --hidden works out the space for a hidden volume from the tables of the outer file system: FAT, exFAT, NTFS, ext2, ext3 or ext4. It refuses any other,
and one that was not unmounted cleanly. What the outer file system keeps behind that space stays where it is: NTFS has a copy of its boot sector in the volume's last
sector. exFAT and FAT leave most room. NTFS has its table a third of the way into the volume if Windows made it, and a copy
in the middle if mkfs.ntfs did; ext has structures in many places.

# FreeOTFE and LibreCrypt

--format freeotfe opens a volume of these programs to read and to write. Nothing in it says how it was encrypted, so every hash is tried with every cipher but
MARS. --salt-length and --key-iterations name what was not left at its default when the volume was made. What these programs call a keyfile is a header in a file of its own: --header FILE,
with --no-cdb if the volume has none before its data. strongroom never writes such a header.

# Measuring

benchmark measures ciphers (on one thread, in memory, with the backend that strongroom uses here), Argon2id at up to three costs,
PBKDF2 and memory. With --json, rates are in bytes a second; the PBKDF2 rows give the iterations that fit into one second.

# JSON

With --json exactly one object is printed on standard output, for an error too:
{\"error\":{\"code\",\"kind\",\"message\",\"hint\"}}. \"warnings\" lists what standard error warns of, also
with --quiet. What check finds is its result: exit status 4 without an error if
something is wrong. If the work is done and only the object cannot be written, a warning says so and the status is 0. If a path is not
UTF-8, each byte of it that is part of no character is written as \\u0000 and two hexadecimal digits (\"caf\\u0000e9.img\");
no path holds a zero byte, so nothing else looks like that. Otherwise standard output carries data only; notes, progress and errors go to
standard error.";

const EXIT_STATUSES: [(&str, &str); 9] = [
    ("0", "Done."),
    ("1", "Wrong usage or parameters; a password source that cannot be read."),
    ("2", "Wrong password, keyfile, recovery key or PIN, or no permission."),
    ("3", "Not enough memory for the key derivation."),
    (
        "4",
        "Nothing there (no such container, nothing mounted), not a container, damaged (without a keyslot left, too), tampered with, or not supported.",
    ),
    ("5", "Busy: mounted, in use, locked by another process; or the target exists."),
    ("6", "Input or output failed, no space left, or strongroom itself failed."),
    ("7", "A part of the system is missing: FUSE, a file-system tool. The message names the package."),
    ("130", "Interrupted. Nothing half-made is left."),
];

const SECTIONS: [(&str, &str); 4] = [
    ("FILES", FILES),
    ("EXAMPLES", EXAMPLES),
    ("SECURITY", SECURITY),
    ("SEE ALSO", "cryptsetup(8), e2fsck(8), fusermount3(1), umount(8)"),
];

const FILES: &str = "\
/etc/strongroom/config.toml, and $XDG_CONFIG_HOME/strongroom/config.toml, usually ~/.config/strongroom/config.toml: what mount and open do where the command line does not say. [defaults] is for all vaults, [vault.\"PATH\"] and [vault.\"UUID\"] for one; the keys are idle, close-at, when-busy, options, read-only, driver, owner, bookmark, and, for one vault, remember, and at, where open mounts it.

$XDG_DATA_HOME/strongroom/pins, usually ~/.local/share/strongroom/pins: one file for each container that was pinned. Removing it forgets the pin.

$XDG_RUNTIME_DIR/strongroom, or /run/strongroom for root: what is mounted, one private directory for each volume. It
holds no keys.

/tmp/strongroom-UID, or that with a dash and 16 random digits where somebody else has taken the name: the same for users
without a login, and for volumes that stay mounted after the last logout, when the directory above is removed. The block
file cannot be reached by a path any more then, and list shows none.";

const EXAMPLES: &str = "\
strongroom create photos.vault --size 10G

strongroom mount photos.vault ~/photos

strongroom unmount ~/photos

strongroom key change photos.vault

strongroom key add photos.vault --new-keyfile /media/stick/key --new-no-password --label stick

strongroom key test photos.vault --password-command 'pass show photos' && echo it opens

strongroom key add photos.vault --recovery --svg recovery.svg

strongroom mount photos.vault ~/photos --security-key

strongroom create old.hc --size 10G --format veracrypt --filesystem exfat

strongroom create old.hc --format veracrypt --hidden --size 2G

strongroom mount old.hc ~/old --format veracrypt --protect-hidden

strongroom list --json | jq -r '.mounts[].mountpoint'";

const SECURITY: &str = "\
A container is safe at rest: whoever finds the file and not the password learns its size, its label, the costs of its
keyslots, and, where it was made with --provision thin, which parts are in use. It is recognisable as a container.
A folder of pieces (create --split) shows when each piece was written, too. A missing or foreign piece is noticed; one that was put back to
its own older self is not.

AES-XTS hides content and does not detect changes: who can write to the container can damage what is in it, and who sees
it twice sees which sectors changed. The header is authenticated; a changed one is refused.

While a volume is mounted its files are as safe as your account. Root can read them. Hibernation writes the memory, and
with it the keys, to disk; unmount before. Programs may leave copies of what they open in other places, such as ~/.cache.

The header holds all keys. header backup copies it to a file, without a password; that file opens the container with the passwords
of its day, also after they were changed or removed, until the container is re-encrypted. With create --header the header is only in such a
file, and every command that opens the container needs it.

TrueCrypt and VeraCrypt headers are not authenticated. A hidden volume does not show in the bytes of its container; copies of the container from
different days, shell history, times and logs can show it all the same, and a write to the outer volume destroys it unless that is mounted with
--protect-hidden.

A password is guessed at the speed that --kdf-memory and --kdf-passes leave. No cost makes a weak password a good one.
There is no way to open a container whose password is lost and that has no other keyslot: make a recovery key.";
