//! `key add`: one more way to open the container.

use strongroom::{
    crypto::{
        kdf::{Argon2Cost, KdfCost},
        recovery::RecoveryText,
        rng::OsRng,
        secret::Credentials,
    },
    error::{Error, ErrorKind, Result},
    format::{Change, Header, KdfBounds, KeyfileRole, NewKeyslot, Unlocked},
    token::plugged_in,
    unlock::token::{Tokens, enrol},
};

use super::{Edited, commit, find};
use crate::cli::{
    args::KeyAddOptions,
    cost,
    edit::Editable,
    interrupt,
    output::Console,
    progress::spin,
    recovery::{self, Shown},
    secrets::GivenSecret,
    unlock::unlock_with,
};

pub(super) fn run(console: Console, options: &KeyAddOptions) -> Result<()> {
    let path = options.container.as_path();
    add(console, options).map_err(|error| error.during(format!("cannot add a keyslot to {}", path.display())))
}

fn add(console: Console, options: &KeyAddOptions) -> Result<()> {
    let path = options.container.as_path();
    let label = options.label.as_deref();
    let container = Editable::open(console, path, &options.unlock)?;
    let header = container.header()?;
    header.check_change(&Change::Add { slot: options.slot, label })?;
    let bounds = header.kdf_bounds();
    cost::check(options.cost, bounds.as_ref())?;
    let secret = NewSecret::begin(console, options, &*header)?;

    let (unlocked, old) = unlock_with(console, path, &*header, &options.unlock, options.unlock_slot)?;
    let mut editor = header.editor(&unlocked)?;
    let (credentials, digits) = secret.complete(console, options, &*header)?;
    if credentials.is_same(&old) {
        console.warn("the new password is the one that you unlocked with: it opens both keyslots now");
    }
    let slot = interrupt::at_liberty(|| {
        let new = NewKeyslot {
            slot: options.slot,
            label,
            priority: options.priority.into(),
            cost: cost_of(console, options, bounds.as_ref(), &credentials)?,
            credentials: &credentials,
        };
        spin(console, "deriving the key", || editor.add(&new, &OsRng))
    })?;
    commit(console, &container, &*header, &*editor)?;

    let keyslots = editor.keyslots();
    let kind = find(&keyslots, slot).map_or("unknown", |keyslot| keyslot.kind);
    let recovery_key = digits.as_ref().map(RecoveryText::expose);
    let edited = Edited { container: path, keyslot: slot, kind, keyslots, recovery_key };
    if recovery_key.is_some() && console.is_json() {
        Console::secret_object(&edited)
            .or_else(|error| take_back(console, &error, &container, &unlocked, slot))?;
    } else {
        console.done(&edited, |edited| format!("added keyslot {} to {}", edited.keyslot, path.display()));
    }
    Ok(())
}

/// Empties the keyslot again whose recovery key nobody was shown: this alone is not done before it is told.
fn take_back(
    console: Console,
    error: &Error,
    container: &Editable,
    unlocked: &Unlocked,
    slot: u32,
) -> Result<()> {
    let header = container.header()?;
    let mut editor = header.editor(unlocked)?;
    editor.remove(slot, false)?;
    commit(console, container, &*header, &*editor)?;
    let reason = format!("the recovery key could not be printed ({}), so it was not added", error.reason());
    Err(Error::new(error.kind(), reason))
}

/// Guessing a password is made costly; what is random needs no such thing.
fn cost_of(
    console: Console,
    options: &KeyAddOptions,
    bounds: Option<&KdfBounds>,
    credentials: &Credentials,
) -> Result<KdfCost> {
    let (Some(bounds), Credentials::Password { .. }) = (bounds, credentials) else {
        return Ok(Argon2Cost { memory_kib: 0, passes: 0, lanes: 0 }.into());
    };
    let cost = cost::settle(console, options.cost, bounds)?;
    console.detail(&format!("strongroom: the new keyslot costs {}", cost::show(&cost)));
    Ok(cost)
}

/// The new secret, as far as it can be had before the old one is asked for.
enum NewSecret<'a> {
    Given(GivenSecret<'a>),
    Recovery(Shown<'a>),
    Fido2(Tokens),
}

impl<'a> NewSecret<'a> {
    fn begin(console: Console, options: &'a KeyAddOptions, header: &dyn Header) -> Result<Self> {
        let random = &options.random;
        let takes_any = header.keyfile_role() == KeyfileRole::PartOfSecret;
        if (random.recovery || random.fido2) && !takes_any {
            let reason = "keyslots of this format take passwords and keyfiles only";
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        if random.recovery {
            options.unlock.check_source()?;
            random.svg.as_deref().map(recovery::check_svg).transpose()?;
            return Ok(Self::Recovery(Shown { svg: random.svg.as_deref(), qr: !random.no_qr }));
        }
        if random.fido2 {
            options.unlock.check_source()?;
            options.new.check_streams(&options.unlock)?;
            return Ok(Self::Fido2(plugged_in()?));
        }
        options.new.check_sources(&options.unlock, header)?;
        Ok(Self::Given(options.new.read_given(console, header.keyfile_role())?))
    }

    /// What will open the keyslot, and the digits of a recovery key.
    fn complete(
        self,
        console: Console,
        options: &KeyAddOptions,
        header: &dyn Header,
    ) -> Result<(Credentials, Option<RecoveryText>)> {
        let path = options.container.as_path();
        match self {
            Self::Given(given) => Ok((given.complete(console, path)?, None)),
            Self::Recovery(shown) => {
                let (key, digits) = recovery::issue(console, path, shown)?;
                Ok((Credentials::Recovery(key), Some(digits)))
            }
            Self::Fido2(tokens) => Ok((enrol(&options.new.front(console), path, header, &tokens)?, None)),
        }
    }
}
