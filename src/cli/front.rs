//! The command line as a front end of unlocking: what it asks, says and advises, in its words.

use std::path::Path;

use strongroom::{
    crypto::secret::Password,
    error::Result,
    format::{KeyslotInfo, Monitor, native::SlotKind},
    text::path::command_word,
    unlock::{self, Advice, Found, FrontEnd, News, Secret, TRIES, Task, Wanted},
};

use super::{
    ask::{self, Asker, Question},
    interrupt, oddity,
    output::Console,
    progress::{self, TrialProgress},
    remembered,
    secrets::{self, Source},
};

/// A source that the options name, or else a person, who is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandLine<'a> {
    console: Console,
    source: Source<'a>,
    tries: u32,
}

impl<'a> CommandLine<'a> {
    /// Secrets come from `source`; a person is asked `tries` times, or as often as is usual.
    pub(crate) fn new(console: Console, source: Source<'a>, tries: Option<u32>) -> Self {
        Self { console, source, tries: tries.unwrap_or(TRIES) }
    }

    /// A person is asked for everything.
    pub(crate) fn asking(console: Console) -> Self {
        Self::new(console, Source::default(), None)
    }
}

impl FrontEnd for CommandLine<'_> {
    fn tries(&self, _: &Secret<'_>) -> u32 {
        if self.source.is_prompt() { self.tries } else { 1 }
    }

    fn check_source(&self, secret: &Secret<'_>) -> Result<()> {
        self.source.check(cannot_ask(secret))
    }

    fn ask(&self, wanted: &Wanted<'_>) -> Result<Password> {
        if !self.source.is_prompt() {
            return secrets::read_for(self.source, &wanted.secret);
        }
        self.check_source(&wanted.secret)?;
        let error = wanted.refusal.map(|refusal| refusal.to_string());
        let is_long = matches!(wanted.secret, Secret::RecoveryKey);
        let question =
            Question { about: wanted.container, line: &question(wanted), error: error.as_deref(), is_long };
        let answer = Asker::begin()?.secret(self.console, question)?;
        if answer.is_empty() && !wanted.secret.may_be_empty() {
            return Err(ask::nothing_entered());
        }
        Ok(answer)
    }

    fn agrees(&self, question: &unlock::Question<'_>) -> Result<bool> {
        if ask::is_welcome() { ask::is_confirmed(&put(question), "yes") } else { Ok(false) }
    }

    fn touch(&self, token: &str) {
        let line = format!("touch the FIDO2 token ({token})");
        self.console.note(&format!("strongroom: {line}"));
        ask::show(&line);
    }

    fn tell(&self, news: &News<'_>) {
        let console = self.console;
        match news {
            News::OnlyPartition { path, number } => console.note(&format!(
                "strongroom: opening partition {number} of {}, the only one that shows a container",
                path.display()
            )),
            News::MayReachSwap => console
                .warn_in_detail("the keys may reach swap: the limit on locked memory is too low (ulimit -l)"),
            News::Keyslot(slot) => console.detail(&format!("strongroom: keyslot {slot} opens")),
            News::Found(found) => tell_found(console, found),
            News::OnlyBackupOpened => console.warn(
                "only the backup header opened: the one at the start is damaged or has a different password",
            ),
            News::Flaw { path, flaw } => console.warn(&format!("{}: {flaw}", path.display())),
            News::Pinned { path, header, file } => {
                console.note(&format!("pinned the header of {}: {}", path.display(), header.digest()));
                console.detail(&format!("strongroom: the pin is {}", file.display()));
            }
            News::PinNotKept(error) => console.warn(&error.to_string()),
            News::Remembered { path } => {
                console.detail(&format!("strongroom: {} opens with the remembered password", path.display()));
            }
            News::RememberedWrong { path } => {
                let word = command_word(path);
                console.warn(&format!(
                    "the remembered password does not open {}: strongroom forget {word}, or open {word} --remember to replace it",
                    path.display()
                ));
            }
            News::NotTaken { path, error } => console.warn(&format!(
                "the password of {} may be remembered, but cannot be had: {}",
                path.display(),
                error.reason()
            )),
            News::Kept { path } => console.note(&format!(
                "your keyring remembers the password of {} now; strongroom forget {} takes it away",
                path.display(),
                command_word(path)
            )),
            News::NotKept { path, error } => console.warn(&remembered::not_kept(path, error)),
        }
    }

    fn advise(&self, advice: &Advice<'_>) -> Option<String> {
        Some(match advice {
            Advice::AllowMemory => {
                "if you trust this container, raise the limit with --max-kdf-memory".to_owned()
            }
            Advice::AllowMinutes(minutes) => {
                format!("if you trust this container, wait for it: --max-kdf-time {minutes}m")
            }
            Advice::AllowTime => {
                "if you trust this container, raise the limit with --max-kdf-time".to_owned()
            }
            Advice::ForeignToken { path, slot, token } => format!(
                "keyslot {slot} belongs to a token ({token}), which strongroom cannot use: cryptsetup open --token-only {} NAME",
                command_word(path)
            ),
            Advice::NoRecoveryKey => "omit --recovery-key; strongroom info shows what opens it".to_owned(),
            Advice::RecoveryKeyForm => {
                "it has 17 groups of six digits; spaces, dashes and line breaks do not matter".to_owned()
            }
            Advice::Wrong { role, oddity } => {
                let cut = self.source.cut_file(*role).map(newline_dropped);
                let ways = oddity.map(|oddity| oddity::way_out(oddity).to_owned()).into_iter().chain(cut);
                let ways: Vec<_> = ways.collect();
                return (!ways.is_empty()).then(|| ways.join("; "));
            }
            Advice::Changed { is_native } => {
                let whom = if *is_native { "you, with a backup of it?" } else { "you, with cryptsetup?" };
                format!(
                    "enter no password unless you know who changed it ({whom}); --pin=renew accepts the change"
                )
            }
            Advice::NotPinned => "--pin pins it; be sure that it is the right one".to_owned(),
            Advice::NoTokenKeyslot => "strongroom key add --fido2 makes one".to_owned(),
        })
    }

    fn work(&self, task: Task<'_>, work: &mut dyn FnMut()) -> Result<()> {
        let done = |work: &mut dyn FnMut()| {
            work();
            Ok(())
        };
        match task {
            Task::Look(path) => interrupt::asking_at_liberty(path, || done(work)),
            Task::Derive => {
                interrupt::at_liberty(|| progress::spin(self.console, "deriving the key", || done(work)))
            }
            Task::DeriveHidden => interrupt::at_liberty(|| {
                progress::spin(self.console, "deriving the key of the hidden volume", || done(work))
            }),
            Task::Read(_) | Task::Keyring => interrupt::at_liberty(|| done(work)),
            Task::Token => {
                let told = interrupt::at_liberty(|| done(work));
                ask::close();
                told
            }
        }
    }

    fn monitor(&self) -> &dyn Monitor {
        &TrialProgress
    }
}

/// What is left where a container that has no keyfiles beside passwords does not open with the file at `path`, whose last byte, a
/// newline, does not count in a password, and counts in what cryptsetup calls a key file.
fn newline_dropped(path: &Path) -> String {
    format!(
        "one newline at the end of {} was dropped; where the file is a key file of cryptsetup, use --keyfile in place of --password-file",
        path.display()
    )
}

/// What fails where there is nobody to ask.
pub(crate) const fn cannot_ask(secret: &Secret<'_>) -> &'static str {
    match secret {
        Secret::Password { .. } => "cannot ask for the password",
        Secret::RecoveryKey => "cannot ask for the recovery key",
        Secret::Hidden => "cannot ask for the password of the hidden volume",
        Secret::Kept(_) => "cannot ask for what opens the other keyslots",
        Secret::TokenPin(_) => "cannot ask for the PIN of the FIDO2 token",
    }
}

/// The question for a secret, on one line that the answer follows.
fn question(wanted: &Wanted<'_>) -> String {
    let container = wanted.container.display();
    match wanted.secret {
        Secret::Password { with_keyfiles: false } => format!("Password for {container}: "),
        Secret::Password { with_keyfiles: true } => {
            format!("Password for {container} (press Enter if the keyfile alone opens it): ")
        }
        Secret::RecoveryKey => format!("Recovery key for {container}: "),
        Secret::Hidden => "Password for the hidden volume: ".to_owned(),
        Secret::Kept(slot) => {
            format!("{} for {} (press Enter to remove this keyslot): ", what_opens(slot), slot.name())
        }
        Secret::TokenPin(token) => format!("PIN of the FIDO2 token ({token}): "),
    }
}

fn what_opens(slot: &KeyslotInfo) -> &'static str {
    if slot.kind == SlotKind::Recovery.name() { "Recovery key" } else { "Password" }
}

fn put(question: &unlock::Question<'_>) -> String {
    match question {
        unlock::Question::TryOpaque(path) => format!(
            "{} shows no strongroom or LUKS header. It may be a VeraCrypt or TrueCrypt container, which cannot be recognised without its password (if its header is in a file of its own, say no and name that file with --header). Try VeraCrypt and TrueCrypt (takes some seconds)?",
            path.display()
        ),
    }
}

/// Says what a trial found, and how to have it faster next time.
fn tell_found(console: Console, found: &Found) {
    let info = &found.info;
    let Some((place, prf)) = found.by else {
        console.detail(&format!("strongroom: {}: opened, {}", info.format, info.cipher));
        return;
    };
    let (place, prf) = (place.name(), prf.name());
    let told = format!("strongroom: {}: opened by the {place}, {prf}, {}", info.format, info.cipher);
    let mut faster = Vec::new();
    if found.format_is_news {
        faster.push(format!("--format {}", info.format));
    }
    if found.prf_is_news {
        faster.push(format!("--prf {prf}"));
    }
    if faster.is_empty() {
        console.detail(&told);
    } else {
        console.note(&format!("{told}; add {} to open it faster next time", faster.join(" ")));
    }
}
