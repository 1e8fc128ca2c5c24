//! `info`: what the header tells without a password.

use std::fmt::Write;

use serde::Serialize;
use strongroom::{
    error::{ErrorKind, Result},
    format::{
        CopyState, Detail, Format, Header, HeaderInfo, KeyfileRole, KeyslotInfo, Priority,
        native::{Native, left_behind},
        signature::ENCRYPTED_SYSTEM,
    },
    storage::pieces::Pieces,
    text::{clear, in_quotes},
    volume::{
        Container, PartitionContents, allocated, header_without_container, partition_flaw, partitions_of,
        recognise, remains,
    },
};

use super::{
    args::InfoOptions,
    limits::notes,
    output::Console,
    pin::PinInfo,
    size::show_size,
    unlock::{cannot_open, missing_part, open_to_look, read_header, settle_format, unlock},
};

/// Prints a container's header.
pub(crate) fn run(console: Console, options: &InfoOptions) -> Result<()> {
    let shown = match Shown::of(console, options) {
        Err(error) if error.kind() == ErrorKind::NotAContainer && !options.unlock.place.is_any() => {
            return list_partitions(console, options).unwrap_or(Err(error));
        }
        result => result.map_err(|error| match error.action() {
            Some(_) => error,
            None => cannot_open(error, &options.container),
        })?,
    };
    console.result(&shown, |Shown { header_file, info, pin, notes, is_openable }| {
        let mut text = String::new();
        if header_file.is_some() {
            text.push_str("Header file:   a header without its container: a backup, or a detached header\n");
        }
        text.push_str(&describe(info));
        if let Some(pin) = pin.as_ref().and_then(PinInfo::show) {
            for part in ["Pin:           ", &pin, "\n"] {
                text.push_str(part);
            }
        }
        text.push_str("Keyslots:\n");
        text.push_str(&describe_keyslots(&info.keyslots));
        for note in notes {
            // Writing to a string does not fail.
            let _ = writeln!(text, "Note:          {note}");
        }
        if info.data_size > 0 && *is_openable {
            text.push_str(&advice(info));
        }
        text
    })
}

/// What lies in the partitions of what is no container itself. `None` where it has none.
fn list_partitions(console: Console, options: &InfoOptions) -> Option<Result<()>> {
    let container = open_to_look(&options.container, options.unlock.header_file()).ok()?;
    let partitions = partitions_of(&container.storage()).ok().filter(|found| !found.is_empty())?;
    let flaw = partition_flaw(&*container.storage()).ok().flatten();
    // The table may not be all that stands there.
    let is_more = recognise(&*container.storage()).ok().flatten() == Some(ENCRYPTED_SYSTEM);
    let contents = is_more.then_some(ENCRYPTED_SYSTEM);
    let remains = remains(&container.storage(), &options.container).ok().flatten();
    let listing = Listing { format: None, contents, remains, partitions, flaw };
    Some(console.result(&listing, |Listing { contents, remains, partitions, flaw, .. }| {
        let mut text = String::from("Format:        none: a partition table\n");
        if let Some(contents) = contents {
            let _ = writeln!(text, "Note:          {contents}: --format veracrypt --system opens it");
        }
        for note in remains.iter().map(String::as_str).chain(*flaw) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "Note:          {note}");
        }
        text.push_str("Partitions:\n");
        for found in partitions {
            let way = if found.format.is_some() {
                format!(": --partition {} opens it", found.partition.number)
            } else {
                String::new()
            };
            let (size, kind) = (show_size(found.partition.len), &found.partition.kind);
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {}{way} ({size}, {kind})", found.describe());
        }
        text
    }))
}

#[derive(Debug, Serialize)]
struct Listing {
    format: Option<&'static str>,
    /// What else all of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<&'static str>,
    /// What is left of a container that was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    remains: Option<String>,
    partitions: Vec<PartitionContents>,
    /// What is wrong with the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    flaw: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Shown {
    /// Only there, and true, for a header file.
    #[serde(skip_serializing_if = "Option::is_none")]
    header_file: Option<bool>,
    #[serde(flatten)]
    info: HeaderInfo,
    /// Only there for a container that could be pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<PinInfo>,
    /// What takes long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Whether it is one for another program, whatever the secret is.
    #[serde(skip)]
    is_openable: bool,
}

impl Shown {
    fn of(console: Console, options: &InfoOptions) -> Result<Self> {
        let path = options.container.as_path();
        let mut container = open_to_look(path, options.unlock.header_file())?;
        let opened = |error| cannot_open(error, path);
        settle_format(console, &mut container, &options.unlock)?;
        if let Some(header) = header_without_container(&container).map_err(opened)? {
            let mut info = describe_header(console, options, &*header)?;
            if matches!(header.keyfile_role(), KeyfileRole::WholeSecret | KeyfileRole::Pool) {
                // No LUKS header knows how long its container is, and that of VeraCrypt was taken for one that fits.
                info.container_size = container.storage().size()?;
                info.data_size = 0;
            }
            let notes = Vec::from_iter(unsupported(&*header));
            let is_openable = notes.is_empty();
            return Ok(Self { header_file: Some(true), info, pin: None, notes, is_openable });
        }
        let header = read_header(&container)?;
        let pin = PinInfo::of(path, &*header);
        let mut info = describe_header(console, options, &*header)?;
        if info.format != Native.name() && container.header_file().is_none() {
            let left = left_behind(&*container.storage())?.map(|left| format!("strongroom's {left}"));
            info.details.extend(left.map(|left| Detail::new("Left over", left)));
        }
        if let Some(missing) = missing_part(&container, &info)? {
            console.warn(&format!("{}: {missing}; take a whole copy of it, if there is one", path.display()));
        }
        info.details.extend(container.pieces().map(|pieces| describe_pieces(pieces)));
        info.details.extend(describe_room(&container, info.container_size));
        if info.data_size == 0 {
            console.warn(&format!(
                "{}: its data begin at byte {}, and it ends at byte {}: it was cut short, and takes a whole copy of the container to open",
                path.display(),
                info.data_offset,
                container.storage().size()?
            ));
        }
        let mut notes = notes(&options.unlock, &*header)?;
        let unsupported = unsupported(&*header);
        let is_openable = unsupported.is_none();
        notes.extend(unsupported);
        Ok(Self { header_file: None, info, pin, notes, is_openable })
    }
}

/// Why strongroom does not open what is whole, and what does.
fn unsupported(header: &dyn Header) -> Option<String> {
    let error = header.check_openable().err().filter(|error| error.kind() == ErrorKind::Unsupported)?;
    Some(format!("strongroom does not open it: {}", error.reason_with_way()))
}

/// What a header says. One of TrueCrypt, VeraCrypt or FreeOTFE says nothing before it is unlocked.
pub(crate) fn describe_header(
    console: Console,
    options: &InfoOptions,
    header: &dyn Header,
) -> Result<HeaderInfo> {
    if !header.is_opaque() {
        return Ok(header.describe());
    }
    options.unlock.check_source_for(header)?;
    let unlocked = unlock(console, &options.container, header, &options.unlock, None)?;
    Ok(header.describe_unlocked(&unlocked))
}

/// Of what pieces the container is, as its folder claims.
fn describe_pieces(pieces: &Pieces) -> Detail {
    let geometry = pieces.geometry();
    let size = show_size(geometry.piece_len());
    Detail::new("Pieces", format!("{} of {size}, {} made", geometry.pieces(), pieces.made()))
}

/// What a thin container takes of its disk, where that is less than it has.
fn describe_room(container: &Container, size: u64) -> Option<Detail> {
    let is_whole = container.file().metadata().ok()?.is_file() && container.section().is_none();
    let taken = allocated(container).ok().filter(|_| is_whole)?;
    (taken.checked_add(LESS)? <= size).then(|| Detail::new("On disk", show_size(taken)))
}

/// What it takes less than its size, to be worth a line.
const LESS: u64 = 1 << 20;

fn describe(info: &HeaderInfo) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<15}{value}");
    };
    line("Format:", &format!("{}, version {}", info.format, info.version));
    line("UUID:", info.uuid.as_deref().unwrap_or("none"));
    line("Label:", &info.label.as_deref().map_or_else(|| "none".to_owned(), clear));
    // Without a keyslot left nothing says how long the key is.
    let key = if info.key_bits == 0 { String::new() } else { format!(", {}-bit key", info.key_bits) };
    line("Cipher:", &format!("{}{key}", info.cipher));
    line("Sector size:", &format!("{} bytes", info.sector_size));
    line("Container:", &exact_size(info.container_size));
    line("Data:", &format!("{} at offset {}", exact_size(info.data_size), info.data_offset));
    if let Some(provision) = info.provision {
        line("Provision:", provision);
    }
    line(
        "Header:",
        if info.authenticated_header { "authenticated: unlocking checks it" } else { "not authenticated" },
    );
    if info.reencryption {
        let program = if info.format == "native" { "strongroom" } else { "cryptsetup" };
        line("Re-encryption:", &format!("unfinished; run {program} reencrypt to continue"));
    }
    for (index, copy) in info.headers.iter().enumerate() {
        let state = state_name(copy.state);
        let sequence = copy.sequence.map(|number| format!(", sequence {number}")).unwrap_or_default();
        let name = if index == 0 { "Header copies:" } else { "" };
        line(name, &format!("{state} at offset {}{sequence}", copy.offset));
    }
    for detail in &info.details {
        line(&format!("{}:", detail.name), &detail.value);
    }
    text
}

/// One line for each keyslot, indented.
pub(crate) fn describe_keyslots(keyslots: &[KeyslotInfo]) -> String {
    let mut text = String::new();
    for keyslot in keyslots {
        let kdf = &keyslot.kdf;
        let mut parts = vec![format!("{:>4}: {:<13}{}", keyslot.slot, keyslot.kind, kdf.name)];
        parts.extend(kdf.memory.map(|bytes| format!("{} memory", show_size(bytes))));
        parts.extend(kdf.passes.map(|count| counted(count, "pass", "passes")));
        parts.extend(kdf.lanes.map(|count| counted(count, "lane", "lanes")));
        parts.extend(kdf.iterations.map(|count| counted(count, "iteration", "iterations")));
        parts.extend(keyslot.weak.then(|| "weak".to_owned()));
        parts.extend(keyslot.priority.and_then(priority_name).map(str::to_owned));
        parts.extend(keyslot.label.as_ref().map(|label| format!("label {}", in_quotes(label))));
        text.push_str(&parts.join(", "));
        text.push('\n');
    }
    if keyslots.is_empty() {
        text.push_str("      none\n");
    }
    text
}

/// A line where guessing is cheaper than it need be, and something can be done about it here.
fn advice(info: &HeaderInfo) -> String {
    // A keyslot of LUKS1 has nothing but PBKDF2, whatever it costs.
    if !["native", "luks2"].contains(&info.format) {
        return String::new();
    }
    // What holds another key than the volume's is not changed here.
    let is_meant = |keyslot: &&KeyslotInfo| keyslot.weak && keyslot.kind != "unbound";
    let weak: Vec<_> =
        info.keyslots.iter().filter(is_meant).map(|keyslot| keyslot.slot.to_string()).collect();
    let Some(first) = weak.first() else { return String::new() };
    let (which, cost) = if weak.len() == 1 { ("keyslot", "costs") } else { ("keyslots", "cost") };
    format!(
        "Advice:        {which} {} {cost} less than a new one; key change --keep-password --slot {first} renews it\n",
        weak.join(", ")
    )
}

/// What is worth a word: the usual is not.
const fn priority_name(priority: Priority) -> Option<&'static str> {
    match priority {
        Priority::Prefer => Some("tried first"),
        Priority::Normal => None,
        Priority::Ignore => Some("tried only by number"),
    }
}

/// `1 pass`, `3 passes`.
pub(crate) fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn exact_size(bytes: u64) -> String {
    let size = show_size(bytes);
    if size.ends_with("bytes") { size } else { format!("{size} ({bytes} bytes)") }
}

const fn state_name(state: CopyState) -> &'static str {
    match state {
        CopyState::Current => "current",
        CopyState::Stale => "stale",
        CopyState::Damaged => "damaged",
        CopyState::Missing => "missing",
    }
}
