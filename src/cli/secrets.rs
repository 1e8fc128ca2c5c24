//! Where passwords and keyfiles come from.

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal, Read},
    os::{
        fd::AsFd,
        unix::{fs::FileExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use signal_hook::consts::SIGINT;
use strongroom::{
    crypto::{
        hash,
        kdf::KdfLimits,
        secret::{Credentials, KeyfileDigest, Password},
    },
    error::{Error, ErrorKind, Fact, Result},
    format::{Header, KeyfileRole},
    sys::descriptor,
    unlock::{
        Known, Means, Most, Oddity, PinWish, Remembering, Secret, TRIES, Wish,
        keyfiles::{self, Use, as_usage, read_bytes},
        limits::limits,
    },
};

use super::{
    args::{NewSecretOptions, PinChoice, ProtectOptions, SecretOptions, UnlockOptions},
    ask::{self, Asker, Question},
    front::{CommandLine, cannot_ask},
    interrupt, oddity,
    output::Console,
    pin, strength,
};

/// The longest password taken, in bytes. What is longer is a keyfile.
pub(crate) const MAX_PASSWORD_LEN: usize = 1 << 20;
/// How the empty password is given, which nobody should have, and some LUKS containers do.
pub(crate) const EMPTY: &str = "a LUKS container whose password is empty opens with --keyfile /dev/null";

impl UnlockOptions {
    /// Fails early where something is to be asked for and there is no terminal. Whether a FIDO2 token has a PIN shows later.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source(&self) -> Result<()> {
        self.check_source_of(KeyfileRole::PartOfSecret)
    }

    /// As [`check_source`](Self::check_source), for this header: a keyfile may be all that it wants.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source_for(&self, header: &dyn Header) -> Result<()> {
        self.check_source_of(header.keyfile_role())
    }

    fn check_source_of(&self, role: KeyfileRole) -> Result<()> {
        match self.means().secret(role) {
            Some(secret) => self.secrets.source().check(cannot_ask(&secret)),
            None => Ok(()),
        }
    }

    /// What the user said, as unlocking takes it.
    pub(crate) fn wish(&self, keyslot: Option<u32>) -> Wish<'_> {
        Wish {
            means: self.means(),
            keyslot,
            most: self.most(),
            known: self.known(),
            pin: PinWish { choice: self.pin.map(PinChoice::into), pins: pin::pins() },
            remembering: Remembering::default(),
        }
    }

    /// Whether a person is asked for a password that alone opens the container.
    pub(crate) fn is_password_asked_for(&self) -> bool {
        let is_password = matches!(self.means(), Means::Password { keyfiles: [], .. });
        is_password && self.secrets.source().is_prompt()
    }

    /// How far to go.
    pub(crate) fn most(&self) -> Most {
        Most { memory: self.max_kdf_memory, time: self.max_kdf_time }
    }

    /// What a keyslot of this container may cost.
    ///
    /// # Errors
    /// What measuring gave.
    pub(crate) fn limits(&self, header: &dyn Header) -> Result<KdfLimits> {
        limits(self.most(), header)
    }

    /// What is known of the container.
    pub(crate) fn known(&self) -> Known<'_> {
        Known {
            file: self.header_file(),
            hints: self.hints.hints(),
            freeotfe: self.freeotfe.is_any().then(|| self.freeotfe.hints()),
        }
    }

    /// Who is asked for the secrets.
    pub(crate) fn front(&self, console: Console) -> CommandLine<'_> {
        CommandLine::new(console, self.secrets.source(), self.tries)
    }

    /// What opens the container.
    pub(crate) fn means(&self) -> Means<'_> {
        match (self.security_key, self.recovery_key) {
            (true, _) => Means::Token,
            (_, true) => Means::RecoveryKey,
            _ => self.secrets.source().means(),
        }
    }
}

impl SecretOptions {
    fn source(&self) -> Source<'_> {
        Source {
            file: self.password_file.as_deref(),
            fd: self.password_fd,
            command: self.password_command.as_deref(),
            no_password: self.no_password,
            keyfiles: &self.keyfile,
            prefix: "--",
        }
    }

    /// Whether the password comes from the terminal, where a wrong one can be corrected.
    pub(crate) fn is_prompt(&self, role: KeyfileRole) -> bool {
        self.source().is_prompt() && !self.source().is_keyfile_all(role)
    }

    /// Fails early where the password is to be asked for and there is no terminal.
    ///
    /// # Errors
    /// `Usage`.
    fn check_source(&self) -> Result<()> {
        self.source().check("cannot ask for the password")
    }

    /// As [`check_source`](Self::check_source), where a keyfile may be all that is wanted.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source_for(&self, role: KeyfileRole) -> Result<()> {
        if self.source().is_keyfile_all(role) { Ok(()) } else { self.check_source() }
    }

    /// The secret for a new container: a password is asked for twice, and weighed.
    pub(crate) fn read_new(
        &self,
        console: Console,
        container: &Path,
        role: KeyfileRole,
    ) -> Result<Credentials> {
        self.source().read_given(console, role)?.complete(console, container)
    }
}

impl NewSecretOptions {
    /// Who is asked for the PIN of a FIDO2 token that is to open a container.
    pub(crate) fn front(&self, console: Console) -> CommandLine<'_> {
        CommandLine::new(console, self.source(), None)
    }

    fn source(&self) -> Source<'_> {
        Source {
            file: self.new_password_file.as_deref(),
            fd: self.new_password_fd,
            command: self.new_password_command.as_deref(),
            no_password: self.new_no_password,
            keyfiles: &self.new_keyfile,
            prefix: "--new-",
        }
    }

    /// Fails early where a secret is to be asked for and there is no terminal, or where both would come from one stream.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_sources(&self, old: &UnlockOptions, header: &dyn Header) -> Result<()> {
        let role = header.keyfile_role();
        old.check_source_for(header)?;
        if !self.source().is_keyfile_all(role) {
            self.source().check("cannot ask for the new password")?;
        }
        self.check_streams(old)
    }

    /// Fails where both secrets would come from one stream.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_streams(&self, old: &UnlockOptions) -> Result<()> {
        let (old, new) = (old.secrets.source(), self.source());
        let is_stdin = |source: &Source<'_>| source.file.is_some_and(|path| path.as_os_str() == "-");
        if is_stdin(&old) && is_stdin(&new) || old.fd.is_some() && old.fd == new.fd {
            return Err(Error::new(ErrorKind::Usage, "one stream cannot supply both passwords")
                .during("cannot take the new password")
                .with_hint("give --new-password-file or --new-password-fd another source"));
        }
        Ok(())
    }

    /// Whether none of it is given.
    pub(crate) fn is_left_out(&self) -> bool {
        self.source().is_prompt() && self.new_keyfile.is_empty()
    }

    /// Reads all of the new secret that is not typed: before the old one is asked for.
    pub(crate) fn read_given(&self, console: Console, role: KeyfileRole) -> Result<GivenSecret<'_>> {
        self.source().read_given(console, role)
    }
}

impl ProtectOptions {
    fn source(&self) -> Source<'_> {
        Source {
            file: self.protect_password_file.as_deref(),
            fd: self.protect_password_fd,
            command: self.protect_password_command.as_deref(),
            no_password: self.protect_no_password,
            keyfiles: &self.protect_keyfile,
            prefix: "--protect-",
        }
    }

    /// Who is asked for it.
    pub(crate) fn front(&self, console: Console, tries: Option<u32>) -> CommandLine<'_> {
        CommandLine::new(console, self.source(), tries)
    }

    /// Fails early where it is to be asked for and there is no terminal.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source(&self) -> Result<()> {
        self.source().check(cannot_ask(&Secret::Hidden))
    }
}

/// A secret that is to be set, without what is still to be typed.
#[derive(Debug)]
pub(crate) struct GivenSecret<'a> {
    source: Source<'a>,
    keyfiles: Vec<KeyfileDigest>,
    password: Option<Password>,
}

impl GivenSecret<'_> {
    /// Asks twice for the password where it has no source, weighs it, and warns where it is weak.
    pub(crate) fn complete(self, console: Console, container: &Path) -> Result<Credentials> {
        let is_judged = self.password.is_none() || self.source.file.is_some();
        let is_typed = self.password.is_none();
        let password = self.password.map_or_else(|| ask_twice(console, container), Ok)?;
        // A keyfile in the password's place may hold anything.
        if !is_typed
            && !self.source.is_prompt()
            && let Some(oddity) = Oddity::that_nobody_types(password.expose())
        {
            console.warn(&oddity::untypeable(oddity));
        }
        if is_judged && let Some(weakness) = strength::weakness(&password) {
            console.warn(&weakness);
        }
        Ok(Credentials::Password { password, keyfiles: self.keyfiles })
    }
}

/// Where one password and the keyfiles beside it come from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Source<'a> {
    file: Option<&'a Path>,
    fd: Option<i32>,
    command: Option<&'a str>,
    no_password: bool,
    keyfiles: &'a [PathBuf],
    /// How the options that name them begin.
    prefix: &'static str,
}

impl<'a> Source<'a> {
    /// Whether a person is asked, who can correct what was wrong.
    pub(crate) fn is_prompt(&self) -> bool {
        self.file.is_none() && self.fd.is_none() && self.command.is_none() && !self.no_password
    }

    /// Fails with `cannot` where a person is to be asked and there is none.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check(&self, cannot: &str) -> Result<()> {
        if self.is_prompt() && !ask::is_possible() {
            let prefix = if self.prefix.is_empty() { "--" } else { self.prefix };
            let hint = format!("give {prefix}password-file, {prefix}password-fd or {prefix}password-command");
            return Err(Error::new(ErrorKind::Usage, "there is no terminal").during(cannot).with_hint(hint));
        }
        Ok(())
    }

    fn means(self) -> Means<'a> {
        Means::Password { keyfiles: self.keyfiles, is_named: !self.is_prompt() && !self.no_password }
    }

    /// Whether a keyfile is given that stands in the password's place.
    fn is_keyfile_all(self, role: KeyfileRole) -> bool {
        keyfiles::is_all(role, self.keyfiles)
    }

    /// The file with the password, where it ends in a newline, which was dropped, and a keyfile would be all of the secret.
    pub(crate) fn cut_file(&self, role: KeyfileRole) -> Option<&'a Path> {
        let path = self.file.filter(|_| role == KeyfileRole::WholeSecret)?;
        let len = path.metadata().ok().filter(Metadata::is_file)?.len();
        let mut last = [0];
        File::open(path).ok()?.read_exact_at(&mut last, len.checked_sub(1)?).ok()?;
        (last == *b"\n").then_some(path)
    }

    fn read_given(self, console: Console, role: KeyfileRole) -> Result<GivenSecret<'a>> {
        let front = CommandLine::new(console, self, None);
        if let Means::Password { keyfiles, is_named } = self.means()
            && self.is_keyfile_all(role)
        {
            let password = keyfiles::whole(&front, keyfiles, is_named)?;
            if password.is_empty() {
                return Err(Error::usage("the keyfile is empty").during("cannot take the keyfile"));
            }
            return Ok(GivenSecret { source: self, keyfiles: Vec::new(), password: Some(password) });
        }
        let keyfiles = keyfiles::digests(&front, role, self.keyfiles, Use::New)?;
        let password = (!self.is_prompt()).then(|| self.read_password()).transpose()?;
        Ok(GivenSecret { source: self, keyfiles, password })
    }

    /// The password from the one source that is given.
    fn read_password(&self) -> Result<Password> {
        let password = if let Some(path) = self.file {
            interrupt::at_liberty(|| read_file(path))
        } else if let Some(number) = self.fd {
            interrupt::at_liberty(|| read_descriptor(number))
        } else if let Some(command) = self.command {
            read_command(command)
        } else {
            return Ok(Password::copy_of(&[])?);
        }?;
        if password.is_empty() && self.keyfiles.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "it is empty")
                .with_fact(Fact::EmptySecret)
                .during("cannot take the password"));
        }
        Ok(password)
    }
}

/// What a source says of a container that exists.
pub(crate) fn read_for(source: Source<'_>, secret: &Secret<'_>) -> Result<Password> {
    let is_password = matches!(secret, Secret::Password { .. });
    source.read_password().map_err(|error| match error.fact() {
        // It may be one of LUKS.
        Some(Fact::EmptySecret) if is_password => error.with_hint(EMPTY),
        _ => error,
    })
}

fn ask_twice(console: Console, container: &Path) -> Result<Password> {
    let (mut asker, mut error) = (Asker::begin()?, None);
    for _ in 0..TRIES {
        let mut ask = |line: &str, error| {
            asker.secret(console, Question { about: container, line, error, is_long: false })
        };
        let first = ask(&format!("New password for {}: ", container.display()), error)?;
        let second = if first.is_empty() { None } else { Some(ask("Repeat the password: ", None)?) };
        match second {
            None => return Err(ask::nothing_entered()),
            Some(second) if hash::equal(first.expose(), second.expose()) => return Ok(first),
            Some(second) if second.is_empty() => return Err(ask::nothing_entered()),
            Some(_) => error = Some("the passwords do not match; try again"),
        }
    }
    Err(Error::new(ErrorKind::Usage, "the passwords do not match"))
}

fn read_file(path: &Path) -> Result<Password> {
    let cannot = || format!("cannot read password file {}", path.display());
    if path.as_os_str() == "-" {
        return read_standard_input();
    }
    let file = File::open(path).map_err(|error| as_usage(error.into(), cannot()))?;
    read(file).map_err(|error| as_usage(error, cannot()))
}

fn read_standard_input() -> Result<Password> {
    let cannot = "cannot read the password from standard input";
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let error =
            Error::new(ErrorKind::Usage, "it is a terminal and would show the password").during(cannot);
        return Err(error.with_hint("leave it out to be asked, with nothing shown"));
    }
    // A descriptor of our own: the standard handle would keep a copy in its buffer.
    let file = File::from(stdin.as_fd().try_clone_to_owned()?);
    read(file).map_err(|error| as_usage(error, cannot.to_owned()))
}

fn read_descriptor(number: i32) -> Result<Password> {
    let cannot = || format!("cannot read the password from file descriptor {number}");
    let file = descriptor::inherited(number).map_err(|error| as_usage(error.into(), cannot()))?;
    read(File::from(file)).map_err(|error| as_usage(error, cannot()))
}

/// The command shares the terminal: Ctrl-C ends it and us.
fn read_command(command: &str) -> Result<Password> {
    let failed = |why: String| Error::new(ErrorKind::Usage, why).during("the password command failed");
    let (password, status) = interrupt::at_liberty(|| {
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot run /bin/sh: {error}")))?;
        let password = child.stdout.take().map_or_else(|| Ok(Password::copy_of(&[])?), read);
        Ok((password, child.wait()?))
    })?;
    if status.signal() == Some(SIGINT) {
        interrupt::leave();
    }
    // Where we stopped reading, that is why it failed.
    if !status.success() && password.is_ok() {
        return Err(failed(status.to_string()));
    }
    password.map_err(|error| as_usage(error, "cannot take the password from the command".to_owned()))
}

/// Reads to the end, and drops one newline there.
pub(crate) fn read(source: impl Read) -> Result<Password> {
    let password = read_bytes(source, MAX_PASSWORD_LEN + 2)?;
    let password = password.strip_suffix(b"\n").unwrap_or(&password);
    if password.len() > MAX_PASSWORD_LEN {
        let error = Error::new(ErrorKind::Usage, "it is longer than 1 MiB");
        return Err(error.with_hint("use it as a --keyfile instead"));
    }
    Ok(Password::copy_of(password)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_is_dropped_and_nothing_else() {
        for (source, password) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\n\n", b"secret\n"),
            (b"secret\r\n", b"secret\r"),
            (b"\n", b""),
            (b" a\0b ", b" a\0b "),
        ] {
            assert_eq!(read(source).unwrap().expose(), password);
        }
    }

    #[test]
    fn the_longest_password_may_end_in_a_newline() {
        let mut source = vec![b'x'; MAX_PASSWORD_LEN];
        source.push(b'\n');
        assert_eq!(read(&source[..]).unwrap().len(), MAX_PASSWORD_LEN);
    }

    #[test]
    fn a_longer_password_is_refused() {
        let source = vec![b'x'; MAX_PASSWORD_LEN + 1];
        assert_eq!(read(&source[..]).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_command_gives_its_output() {
        assert_eq!(read_command("printf 'a\\nb\\n'").unwrap().expose(), b"a\nb");
    }

    #[test]
    fn a_command_whose_output_does_not_end_gives_too_long_a_password() {
        let error = read_command("cat /dev/zero").unwrap_err();
        assert_eq!(error.to_string(), "cannot take the password from the command: it is longer than 1 MiB");
    }

    #[test]
    fn a_failing_command_gives_no_password() {
        let error = read_command("printf secret; exit 3").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "the password command failed: exit status: 3");
    }
}
