//! The manual page: what clap knows of the commands, and what only words can say.

use clap::{Arg, Command};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};
use strongroom::error::Result;

use super::output::print;

/// Prints the whole manual as one roff page.
pub(crate) fn run() -> Result<()> {
    let command = super::command();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).title("STRONGROOM").manual("User Commands");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;

    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for leaf in leaves(&command, &command, "strongroom") {
        roff.text(usage(&leaf));
        roff.control("br", []);
    }
    section(&mut roff, "DESCRIPTION", DESCRIPTION);
    roff.control("SH", ["COMMANDS"]);
    for leaf in leaves(&command, &command, "strongroom") {
        describe(&mut roff, &leaf);
    }
    roff.control("SH", ["OPTIONS OF EVERY COMMAND"]);
    for argument in command.get_arguments() {
        describe_argument(&mut roff, argument);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUSES {
        roff.control("TP", []).text([bold(status)]).text([roman(meaning)]);
    }
    for (name, text) in SECTIONS {
        section(&mut roff, name, text);
    }
    roff.to_writer(&mut page)?;
    print(&String::from_utf8_lossy(&page))
}

/// A command that does something, with the words that call it.
struct Leaf<'a> {
    path: String,
    command: &'a Command,
    /// Options that every command has are described once.
    shared: &'a Command,
}

impl Leaf<'_> {
    fn arguments(&self) -> impl Iterator<Item = &Arg> {
        self.command.get_arguments().filter(|argument| {
            let is_shared = self.shared.get_arguments().any(|shared| shared.get_id() == argument.get_id());
            !is_shared && !argument.is_hide_set() && argument.get_id() != "help"
        })
    }
}

fn leaves<'a>(shared: &'a Command, command: &'a Command, path: &str) -> Vec<Leaf<'a>> {
    let mut found = Vec::new();
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        let path = format!("{path} {}", child.get_name());
        if child.has_subcommands() {
            found.extend(leaves(shared, child, &path));
        } else {
            found.push(Leaf { path, command: child, shared });
        }
    }
    found
}

fn usage(leaf: &Leaf<'_>) -> Vec<Inline> {
    let mut line = vec![bold(leaf.path.as_str())];
    for argument in leaf.arguments().filter(|argument| argument.is_positional()) {
        let name = value_name(argument);
        let shown = if argument.is_required_set() { name } else { format!("[{name}]") };
        line.extend([roman(" "), italic(shown)]);
    }
    line.push(roman(" [options]"));
    line
}

fn describe(roff: &mut Roff, leaf: &Leaf<'_>) {
    roff.control("SS", [leaf.path.as_str()]);
    let about = leaf.command.get_about().map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<_> = leaf.command.get_visible_aliases().collect();
    let also =
        if aliases.is_empty() { String::new() } else { format!(" Also called {}.", aliases.join(", ")) };
    roff.text([roman(format!("{about}.{also}"))]);
    for argument in leaf.arguments() {
        describe_argument(roff, argument);
    }
    if let Some(examples) = leaf.command.get_after_help() {
        roff.control("PP", []).text([roman("Examples:")]);
        roff.control("PP", []).control("nf", []);
        for line in examples.to_string().lines().skip(1) {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
}

fn describe_argument(roff: &mut Roff, argument: &Arg) {
    let mut header = Vec::new();
    if argument.is_positional() {
        header.push(italic(value_name(argument)));
    } else {
        let short = argument.get_short().map(|letter| format!("-{letter}"));
        let long = argument.get_long().map(|name| format!("--{name}"));
        header.push(bold(short.into_iter().chain(long).collect::<Vec<_>>().join(", ")));
        if argument.get_action().takes_values() {
            header.extend([roman(" "), italic(value_name(argument))]);
        }
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    roff.control("TP", []).text(header).text([roman(help)]);

    let values = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let values = values.iter().map(|value| match value.get_help() {
            Some(help) => format!("{} ({help})", value.get_name()),
            None => value.get_name().to_owned(),
        });
        roff.control("br", []).text([roman(format!("One of: {}.", values.collect::<Vec<_>>().join(", ")))]);
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        roff.control("br", []).text([roman(format!("Default: {}.", defaults.join(", ")))]);
    }
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| argument.get_id().as_str().to_uppercase(), ToString::to_string)
}

/// A section of paragraphs, parted by blank lines.
fn section(roff: &mut Roff, name: &str, text: &str) {
    roff.control("SH", [name]);
    for (index, paragraph) in text.split("\n\n").enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        for line in paragraph.lines() {
            roff.text([roman(line)]);
        }
    }
}

const DESCRIPTION: &str = "\
A container is one file (or a block device) that holds an encrypted file system. strongroom makes it, opens it with a
password, keyfiles, or both, and mounts it. An ordinary user needs no privileges for any of this.

mount returns when the files can be used. A background process serves the volume: it survives the terminal and the
logout, holds the keys in locked memory, and unmounts cleanly when it is told to stop (SIGTERM). One writer has a
container at a time.

unmount waits until all is written. With --force it does not wait for open files, and a driver that hangs is killed within
seconds; what that one had not written is lost. A volume out of which another container is mounted is refused all the same. list shows \"(detached)\" (null in JSON) for a mount point that somebody detached while files are open.

The userspace driver keeps no journal: mount first lets e2fsck(8) repair what a crash left, as far as that goes unasked. Where it
refuses, mount ends with status 6 and its hint holds the commands for the rest. What lost its name is then in lost+found;
what was synced is there. With --read-only nothing is repaired. A file system whose end is missing, since the container was cut
short, is not repaired and not mounted for writing: status 4, with the bytes that are missing. With --read-only it is mounted
with a warning, but not by a fuse2fs older than 1.47.3, which shows wrong contents as if they were right: status 4.

Passwords are bytes as they are given, not normalised. At most 1 MiB. One newline at the end of a password file, a
descriptor or a command's output is dropped; a carriage return is not. Control characters typed at a prompt are ignored.
A password is never taken from the command line or from the environment, where others could see it.

Keyfiles join the password, and each counts with its whole content, in any order. With --no-password, or an empty
password file, the keyfiles alone open the container.

A container has 30 keyslots, each of which opens it by itself. key add fills one, key change replaces the secret of one, key
remove empties one; the data is not touched, and the container may be mounted meanwhile (not read-only). The old secret
comes from the options that begin with --password and --keyfile, the new one from those that begin with --new. --slot is the
keyslot that is worked on, --unlock-slot the one to unlock with; where a command only unlocks, --slot is the one to try. A removed secret still opens copies of the header made before.

A recovery key (key add --recovery) is 17 groups of six digits. It is printed once on standard output, four groups to a line and
then as a QR code, with --json as \"recovery_key\" and nothing else. Where standard input is a terminal, and without --json, it must be
typed back before its keyslot is written; scripts are not asked. With --no-qr what is printed can be given to --password-file
as it is. To unlock with it, add --recovery-key: it is then asked for, or read, in the place of the password. Dashes,
spaces and line breaks in it do not matter; a wrong group is named by its number.

A FIDO2 token (key add --fido2) is used through /dev/hidraw*. It must know the extension hmac-secret. Where it has a PIN when the keyslot
is made, it asks for it each time; fingerprints are not used. To unlock with it, add --security-key; the PIN comes from
where the password would, so --password-command can give it. A wrong PIN from such a source is tried once. Of several
tokens the one that belongs to the container is found; to make a keyslot, only one may be plugged in.

create --format luks2 and luks1 make what cryptsetup makes. Their keyslots, 32 and 8, are changed by the same commands, and header backups
are cryptsetup's own; no password is needed to restore one. There are no labels of keyslots, recovery keys and tokens. A LUKS1 keyslot is
changed by way of an empty one. One secret opens such a container: a password, or one keyfile in its place.

The header of a LUKS container is authenticated by nothing. --pin remembers what it says, once it opened; from then on every command that
opens this container compares, before it asks for a secret, and ends with status 4 where the header is another one. Changes of keyslots by strongroom
itself are followed. --pin=renew accepts what another program changed, --pin=require refuses what was never pinned. For a container of
strongroom's own format the pin refuses old headers.

Nothing in a container of VeraCrypt or TrueCrypt says what it is. --format veracrypt or truecrypt opens one; where neither is given and the
file has no known header, the user is asked on the terminal whether to try it as one. Then all hashes are tried, on all processors, with all ciphers: first on the header of
the normal volume, then on that of the hidden one. A terminal shows how long that takes at most, measured while it runs. What opened is told, and with --prf only that hash is tried, and the backup headers too. --pim, --hidden, --backup-header and
--system (the file is a drive whose system is encrypted) name what else is to be opened. A --keyfile may be a folder: every file in it counts that is not hidden. Of a
keyfile only the first MiB counts there. header restore --yes puts such a header over a file system or other known data only with --force, and over the
header of another format not at all. With a PIM, Argon2id is tried only with --prf argon2id: it may take very long.

create --hidden computes the space for a hidden volume from the tables of the file system in the outer volume: FAT, exFAT, NTFS, ext2, ext3 or ext4. Another one,
and one that was not left clean, is refused. What the outer file system has behind that space stays where it is: NTFS keeps a copy of its boot sector in the volume's last
sector. exFAT and FAT leave most room; NTFS has its table a third of the way into the volume where Windows made it, and a copy of that
in the middle where mkfs.ntfs did; ext has structures in many places.

benchmark measures ciphers (on one thread, in memory, with the backend that strongroom uses here), Argon2id at up to three costs,
PBKDF2 and memory. With --json, rates are in bytes a second; the rows of PBKDF2 have the iterations that one second allows.

With --json exactly one object is printed on standard output, also for an error:
{\"error\":{\"code\",\"kind\",\"message\",\"hint\"}}. What check finds is its result: exit status 4 without an error where
something is not as it must be. Otherwise standard output carries data only; notes, progress and errors go to
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
    ("SEE ALSO", "cryptsetup(8), fuse2fs(1), e2fsck(8), fusermount3(1), umount(8)"),
];

const FILES: &str = "\
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
