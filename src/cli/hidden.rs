//! Hidden volumes: made in the free space of another one, and kept from being written over.

use std::path::Path;

use super::{
    args::{
        CreateOptions, HintOptions, MountingOptions, NewFormat, OpenFormat, ProvisionChoice, UnlockOptions,
    },
    create::{Summary, check_filesystem, filesystem_kind, make_filesystem, owner},
    interrupt,
    mounting::open,
    output::Console,
    progress::{ByteProgress, spin},
    size::show_size,
    unlock::unlock_with,
};
use strongroom::{
    crypto::{rng::OsRng, secret::Credentials},
    error::{Error, ErrorKind, Result},
    format::{
        Blueprint, Header, KeyfileRole, Provision, Unlocked, Wishes,
        signature::FileSystem,
        veracrypt::{self, Hints, Opened, VolumeBlueprint},
    },
    mount::NewFilesystem,
    unlock::{HeaderFile, Unlocking},
    volume::{Access, Container, device, fill_range, find_empty, free_space::free_tail},
};

/// Makes a hidden volume in a container that exists.
pub(super) fn create(console: Console, options: &CreateOptions) -> Result<()> {
    let path = options.container.as_path();
    check_options(options)?;
    let mut container = open(path, HeaderFile::default(), Access::ReadWrite)?;
    container.assume(options.new.format.format());
    let header = container.header()?;
    let outer_options = outer_options(options);
    options.hidden_secret.check_sources(&outer_options, &*header)?;
    let given = options.hidden_secret.read_given(console, KeyfileRole::Pool)?;

    let (unlocked, old) = unlock_with(console, path, &*header, &outer_options, None)?;
    let blueprint = plan(console, options, &container, &*header, &unlocked)?;
    let filesystem = filesystem_kind(options.filesystem);
    if let Some(kind) = filesystem {
        check_filesystem(kind, blueprint.extent().data_len(), 512)?;
    }
    let name = format!("the hidden volume in {}", path.display());
    let new = given.complete(console, Path::new(&name))?;
    refuse_same(&old, &new)?;
    let made = interrupt::at_liberty(|| {
        spin(console, "deriving the key", || blueprint.make_header(&new, None, &OsRng))
    })?;

    let storage = container.storage();
    if options.new.provision() == ProvisionChoice::Thick {
        let progress = ByteProgress::start(console, "filling");
        fill_range(&*storage, blueprint.extent().data, &OsRng, &mut |done, total| {
            progress.step(done, total)
        })?;
    }
    if let Some(kind) = filesystem {
        spin(console, "making the file system", || {
            let owner = owner(options);
            let filesystem = NewFilesystem { kind, sector_size: 512, owner, label: None, reads_zeros: false };
            make_filesystem(&filesystem, &container, made.volume_key().expose())
        })?;
    }
    interrupt::check()?;
    // Only now anything opens it.
    made.write(&*storage)?;

    let extent = blueprint.extent();
    let summary = Summary {
        container: path.to_path_buf(),
        format: options.new.format.format().name(),
        uuid: None,
        container_size: extent.container_len,
        data_size: extent.data_len(),
        filesystem: filesystem.map_or("none", |kind| kind.name()),
    };
    console.done(&summary, |made| {
        let size = show_size(made.data_size);
        format!("created a hidden volume in {}: {size} for data, {}", path.display(), made.contents())
    });
    console.note("from now on mount the outer volume with --protect-hidden, or --read-only");
    Ok(())
}

/// What belongs to a new container and not to a hidden volume.
fn check_options(options: &CreateOptions) -> Result<()> {
    let new = &options.new;
    let usage = |reason: &str| Err(Error::new(ErrorKind::Usage, reason));
    match new.format {
        NewFormat::VeraCrypt | NewFormat::TrueCrypt => {}
        _ => {
            return usage("only VeraCrypt and TrueCrypt containers have hidden volumes: --format veracrypt");
        }
    }
    if new.force || new.header.is_some() {
        return usage("--force and --header do not apply to a hidden volume");
    }
    Ok(())
}

/// How the outer volume is opened: by what the options say of the container itself.
fn outer_options(options: &CreateOptions) -> UnlockOptions {
    let new = &options.new;
    UnlockOptions {
        format: match new.format {
            NewFormat::TrueCrypt => OpenFormat::TrueCrypt,
            _ => OpenFormat::VeraCrypt,
        },
        secrets: new.secrets.clone(),
        hints: HintOptions { prf: new.prf, pim: new.pim, ..HintOptions::default() },
        ..UnlockOptions::default()
    }
}

/// Where the hidden volume will lie: behind all that the outer file system has in use.
fn plan(
    console: Console,
    options: &CreateOptions,
    container: &Container,
    header: &dyn Header,
    unlocked: &Unlocked,
) -> Result<VolumeBlueprint> {
    let storage = container.storage();
    let len = storage.size()?;
    let outer = Opened::of_key(&unlocked.volume_key)?;
    let data_start = header.describe_unlocked(unlocked).data_offset;
    let limit = VolumeBlueprint::hidden_limit(len);
    let volume = device(container.storage(), unlocked.layout.clone());
    let tail = free_tail(&*volume, limit.saturating_sub(data_start))?;
    let free_from = data_start.saturating_add(tail.start);
    console.detail(&format!(
        "strongroom: the outer file system ({}) uses nothing in its last {}",
        tail.file_system.name(),
        show_size(limit.saturating_sub(free_from))
    ));
    match tail.file_system {
        FileSystem::Ext => console.warn(
            "the outer file system is ext, which spreads new files over the whole volume: protection will soon stop it",
        ),
        FileSystem::Ntfs => {
            console.warn(
                "the outer file system is NTFS, which may write new files anywhere: protection may soon stop it",
            );
            console.note(
                "strongroom: NTFS keeps a copy of its boot sector in the outer volume's last sector: it stays there, behind the hidden volume",
            );
        }
        _ => {}
    }
    let wishes = Wishes {
        cipher: options.new.cipher.as_deref(),
        label: options.new.label.as_deref(),
        key_bits: options.new.key_size,
        sector_size: options.new.sector_size,
        hash: options.new.cost.hash,
        prf: options.hidden_seal.new_prf,
        pim: options.hidden_seal.new_pim.unwrap_or_default(),
        provision: match options.new.provision() {
            ProvisionChoice::Thick => Provision::Thick,
            ProvisionChoice::Quick => Provision::Quick,
            ProvisionChoice::Thin => Provision::Thin,
        },
        ..Wishes::default()
    };
    let blueprint = VolumeBlueprint::hidden(&outer, len, free_from, options.size, &wishes)?;
    let progress = ByteProgress::start(console, "looking for space that was never filled");
    let empty = find_empty(&*storage, free_from..limit, &mut |done, total| progress.step(done, total))?;
    drop(progress);
    if let Some(offset) = empty {
        let reason = format!(
            "the free space of the outer volume was never filled (byte {offset}): the hidden volume would show"
        );
        return Err(Error::new(ErrorKind::Unsupported, reason)
            .with_hint("fill the outer volume with a file once, delete the file, and try again"));
    }
    Ok(blueprint)
}

/// With the outer volume's secret, the outer volume would open.
fn refuse_same(old: &Credentials, new: &Credentials) -> Result<()> {
    if old.is_same(new) {
        let reason = "the hidden volume needs another password or other keyfiles than the outer one";
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    Ok(())
}

/// Refuses a protection that cannot be, before any password is asked for.
///
/// # Errors
/// `Usage`.
pub(super) fn check_protection(options: &MountingOptions, header: &dyn Header) -> Result<()> {
    if !options.protect.protect_hidden {
        return Ok(());
    }
    let usage =
        |reason: &str| Err(Error::new(ErrorKind::Usage, reason).during("cannot protect a hidden volume"));
    if header.keyfile_role() != KeyfileRole::Pool {
        return usage("only TrueCrypt and VeraCrypt containers have hidden volumes");
    }
    if options.unlock.hints.hidden || options.unlock.hints.system {
        return usage("only the volume around it can harm it");
    }
    if options.is_read_only() {
        return usage("nothing is written with --read-only");
    }
    options.protect.check_source()
}

/// The same volume, with the hidden one in it protected: that is opened first, with a secret of its own.
pub(super) fn protect(
    console: Console,
    options: &MountingOptions,
    container: &Container,
    header: &dyn Header,
    outer: &Unlocked,
) -> Result<Unlocked> {
    let protect = &options.protect;
    let hints = Hints {
        prf: protect.protect_prf,
        pim: protect.protect_pim.unwrap_or_default(),
        hidden: true,
        backup_header: false,
        system: false,
    };
    let cannot = |error: Error| error.during("cannot open the hidden volume to protect it");
    let (front, wish) = (protect.front(console, options.unlock.tries), options.unlock.wish(None));
    let path = container.path();
    let hidden = Unlocking { front: &front, path, header, wish: &wish }
        .unlock_hidden(hints, &protect.protect_keyfile)?;
    let len = container.storage().size()?;
    let size = header.describe_unlocked(&hidden).data_size;
    let protected = veracrypt::protect(outer, &hidden, len).map_err(cannot)?;
    console.note(&format!(
        "strongroom: a hidden volume of {} is protected; a write into its area will fail, as will every write after it",
        show_size(size)
    ));
    Ok(protected)
}
