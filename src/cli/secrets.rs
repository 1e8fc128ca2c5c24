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
    crypto::secret::{Credentials, KeyfileDigest, Password},
    error::{Error, ErrorKind, Result},
    format::{Header, KeyfileRole},
    sys::descriptor,
    volume::{keyfile_digest, new_keyfile_digest, pool_keyfiles},
};
use zeroize::Zeroizing;

use super::{
    args::{NewSecretOptions, ProtectOptions, SecretOptions, UnlockOptions},
    interrupt, oddity,
    output::Console,
    prompt::{self, SecretPrompt},
    recovery, strength,
    unlock::TRIES,
};

/// The longest password taken, in bytes. What is longer is a keyfile.
pub(crate) const MAX_PASSWORD_LEN: usize = 1 << 20;
/// The longest keyfile that can be a whole secret, in bytes; cryptsetup's limit.
const MAX_KEYFILE_LEN: usize = 8 << 20;

const NOTHING: &str = "it is empty";
/// How the empty password is given, which nobody should have, and some LUKS containers do.
pub(crate) const EMPTY: &str = "a LUKS container whose password is empty opens with --keyfile /dev/null";

impl UnlockOptions {
    /// Fails early where something is to be asked for and there is no terminal. Whether a FIDO2 token has a PIN shows later.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source(&self) -> Result<()> {
        match (self.security_key, self.recovery_key) {
            (true, _) => Ok(()),
            (_, true) => self.secrets.source().check("cannot ask for the recovery key"),
            _ => self.secrets.check_source(),
        }
    }

    /// As [`check_source`](Self::check_source), for this header: a keyfile may be all that it wants.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source_for(&self, header: &dyn Header) -> Result<()> {
        if self.secrets.source().is_keyfile_all(header.keyfile_role()) { Ok(()) } else { self.check_source() }
    }

    /// What opens a container that exists, but for FIDO2 tokens.
    pub(crate) fn read(&self, console: Console, container: &Path, role: KeyfileRole) -> Result<Credentials> {
        if !self.recovery_key {
            return self.secrets.read(container, role);
        }
        let key = if self.secrets.source().is_prompt() {
            recovery::ask(container, console)?
        } else {
            recovery::decode(&self.secrets.source().read_password()?)?
        };
        Ok(Credentials::Recovery(key))
    }

    /// Asks once more after a wrong answer. Keyfiles stay: one may be a pipe.
    pub(crate) fn read_again(
        &self,
        console: Console,
        container: &Path,
        role: KeyfileRole,
        credentials: &mut Credentials,
    ) -> Result<()> {
        match credentials {
            Credentials::Password { password, .. } => *password = self.secrets.read_password(container)?,
            other => *other = self.read(console, container, role)?,
        }
        Ok(())
    }
}

/// Where the PIN of a FIDO2 token comes from: where the password would.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PinSource<'a>(Source<'a>);

impl PinSource<'_> {
    /// Whether it is asked for on the terminal.
    pub(crate) fn is_prompt(&self) -> bool {
        self.0.is_prompt()
    }

    /// The PIN of the token called `token`.
    pub(crate) fn read(&self, token: &str) -> Result<Password> {
        if !self.is_prompt() {
            return self.0.read_password();
        }
        self.0.check("cannot ask for the PIN of the FIDO2 token")?;
        let answer = SecretPrompt::begin()?.ask(&format!("PIN of the FIDO2 token ({token}): "))?;
        Ok(Password::copy_of(answer.as_bytes())?)
    }
}

impl SecretOptions {
    /// The same source, for a PIN.
    pub(crate) fn pin(&self) -> PinSource<'_> {
        PinSource(self.source())
    }

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

    /// The file with the password, where it ends in a newline, which was dropped, and a keyfile would be all of the secret.
    pub(crate) fn cut_file(&self, role: KeyfileRole) -> Option<&Path> {
        let path = self.password_file.as_deref().filter(|_| role == KeyfileRole::WholeSecret)?;
        let len = path.metadata().ok().filter(Metadata::is_file)?.len();
        let mut last = [0];
        File::open(path).ok()?.read_exact_at(&mut last, len.checked_sub(1)?).ok()?;
        (last == *b"\n").then_some(path)
    }

    /// Whether the password comes from the terminal, where a wrong one can be corrected.
    pub(crate) fn is_prompt(&self, role: KeyfileRole) -> bool {
        self.source().is_prompt() && !self.is_keyfile_all(role)
    }

    /// Whether a keyfile is given that stands in the password's place.
    pub(crate) fn is_keyfile_all(&self, role: KeyfileRole) -> bool {
        self.source().is_keyfile_all(role)
    }

    /// Fails early where the password is to be asked for and there is no terminal.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source(&self) -> Result<()> {
        self.source().check("cannot ask for the password")
    }

    /// Whether keyfiles are given beside the password.
    pub(crate) fn has_keyfiles(&self) -> bool {
        !self.source().keyfiles.is_empty()
    }

    /// The password of a container that exists, asked for once.
    fn read_password(&self, container: &Path) -> Result<Password> {
        if !self.source().is_prompt() {
            // A container that exists may be one of LUKS.
            return self
                .source()
                .read_password()
                .map_err(|error| if error.reason() == NOTHING { error.with_hint(EMPTY) } else { error });
        }
        let question = |more| format!("Password for {}{more}: ", container.display());
        let mut prompt = SecretPrompt::begin()?;
        let answer = if self.has_keyfiles() {
            prompt
                .ask_optional(&question(" (press Enter if the keyfile alone opens it)"))?
                .unwrap_or_default()
        } else {
            prompt.ask(&question(""))?
        };
        Ok(Password::copy_of(answer.as_bytes())?)
    }

    /// What opens a container that exists.
    fn read(&self, container: &Path, role: KeyfileRole) -> Result<Credentials> {
        if self.is_keyfile_all(role) {
            let password = self.source().read_whole_keyfile()?;
            return Ok(Credentials::Password { password, keyfiles: Vec::new() });
        }
        Ok(Credentials::Password {
            keyfiles: self.source().read_keyfiles(role, keyfile_digest)?,
            password: self.read_password(container)?,
        })
    }

    /// As [`check_source`](Self::check_source), where a keyfile may be all that is wanted.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source_for(&self, role: KeyfileRole) -> Result<()> {
        if self.is_keyfile_all(role) { Ok(()) } else { self.check_source() }
    }

    /// The secret for a new container: a password is asked for twice, and weighed. The warning, where it is weak, goes to
    /// `warn`.
    pub(crate) fn read_new(
        &self,
        container: &Path,
        role: KeyfileRole,
        warn: impl Fn(&str),
    ) -> Result<Credentials> {
        self.source().read_given(role)?.complete(container, warn)
    }
}

impl NewSecretOptions {
    /// The same source, for a PIN.
    pub(crate) fn pin(&self) -> PinSource<'_> {
        PinSource(self.source())
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
    pub(crate) fn read_given(&self, role: KeyfileRole) -> Result<GivenSecret<'_>> {
        self.source().read_given(role)
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

    /// Whether the password comes from the terminal, where a wrong one can be corrected.
    pub(crate) fn is_prompt(&self) -> bool {
        self.source().is_prompt()
    }

    /// Fails early where it is to be asked for and there is no terminal.
    ///
    /// # Errors
    /// `Usage`.
    pub(crate) fn check_source(&self) -> Result<()> {
        self.source().check("cannot ask for the password of the hidden volume")
    }

    /// What opens the hidden volume.
    pub(crate) fn read(&self) -> Result<Credentials> {
        let keyfiles = self.source().read_keyfiles(KeyfileRole::Pool, keyfile_digest)?;
        let password = if self.is_prompt() {
            let answer = SecretPrompt::begin()?.ask("Password for the hidden volume: ")?;
            Password::copy_of(answer.as_bytes())?
        } else {
            self.source().read_password()?
        };
        Ok(Credentials::Password { password, keyfiles })
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
    /// Asks twice for the password where it has no source, and weighs it. The warning, where it is weak, goes to `warn`.
    pub(crate) fn complete(self, container: &Path, warn: impl Fn(&str)) -> Result<Credentials> {
        let is_judged = self.password.is_none() || self.source.file.is_some();
        let is_typed = self.password.is_none();
        let password = self.password.map_or_else(|| ask_twice(container), Ok)?;
        // A keyfile in the password's place may hold anything.
        if !is_typed
            && !self.source.is_prompt()
            && let Some(oddity) = oddity::untypeable(password.expose())
        {
            warn(&oddity);
        }
        if is_judged && let Some(weakness) = strength::weakness(&password) {
            warn(&weakness);
        }
        Ok(Credentials::Password { password, keyfiles: self.keyfiles })
    }
}

/// Where one password and the keyfiles beside it come from.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    file: Option<&'a Path>,
    fd: Option<i32>,
    command: Option<&'a str>,
    no_password: bool,
    keyfiles: &'a [PathBuf],
    /// How the options that name them begin.
    prefix: &'static str,
}

impl<'a> Source<'a> {
    fn is_prompt(&self) -> bool {
        self.file.is_none() && self.fd.is_none() && self.command.is_none() && !self.no_password
    }

    fn check(&self, cannot: &str) -> Result<()> {
        if self.is_prompt() && !prompt::has_terminal() {
            let prefix = self.prefix;
            let hint = format!("give {prefix}password-file, {prefix}password-fd or {prefix}password-command");
            return Err(Error::new(ErrorKind::Usage, "there is no terminal").during(cannot).with_hint(hint));
        }
        Ok(())
    }

    /// The digests of the keyfiles, in the order given. One may be a pipe that has nothing to say, or never ends.
    fn read_keyfiles(
        &self,
        role: KeyfileRole,
        digest: fn(&Path) -> Result<KeyfileDigest>,
    ) -> Result<Vec<KeyfileDigest>> {
        let mut keyfiles = Vec::new();
        for path in self.keyfiles {
            let cannot = format!("cannot read keyfile {}", path.display());
            let read = interrupt::at_liberty(|| match role {
                KeyfileRole::Pool => pool_keyfiles(path),
                _ => digest(path).map(|digest| vec![digest]),
            });
            keyfiles.extend(read.map_err(|error| as_usage(error, cannot))?);
        }
        Ok(keyfiles)
    }

    /// Whether a keyfile is given that stands in the password's place.
    fn is_keyfile_all(self, role: KeyfileRole) -> bool {
        role == KeyfileRole::WholeSecret && !self.keyfiles.is_empty()
    }

    /// The one keyfile that is the whole secret: every byte of it counts.
    fn read_whole_keyfile(self) -> Result<Password> {
        let cannot = "cannot take the keyfile";
        let has_password = !self.is_prompt() && !self.no_password;
        let ([path], false) = (self.keyfiles, has_password) else {
            let reason = "this container is opened by one keyfile or by a password, not by both";
            return Err(Error::new(ErrorKind::Usage, reason).during(cannot));
        };
        interrupt::at_liberty(|| {
            let content = read_bytes(File::open(path)?, MAX_KEYFILE_LEN + 1)?;
            if content.len() > MAX_KEYFILE_LEN {
                return Err(Error::new(ErrorKind::Usage, "it is longer than 8 MiB"));
            }
            Ok(Password::copy_of(&content)?)
        })
        .map_err(|error| as_usage(error, format!("cannot read keyfile {}", path.display())))
    }

    fn read_given(self, role: KeyfileRole) -> Result<GivenSecret<'a>> {
        if self.is_keyfile_all(role) {
            let password = self.read_whole_keyfile()?;
            if password.is_empty() {
                return Err(Error::usage("the keyfile is empty").during("cannot take the keyfile"));
            }
            return Ok(GivenSecret { source: self, keyfiles: Vec::new(), password: Some(password) });
        }
        let keyfiles = self.read_keyfiles(role, new_keyfile_digest)?;
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
            return Err(Error::new(ErrorKind::Usage, NOTHING).during("cannot take the password"));
        }
        Ok(password)
    }
}

fn ask_twice(container: &Path) -> Result<Password> {
    let mut prompt = SecretPrompt::begin()?;
    for tries_left in (0..TRIES).rev() {
        let first = prompt.ask(&format!("New password for {}: ", container.display()))?;
        let second = prompt.ask("Repeat the password: ")?;
        if *first == *second {
            return Ok(Password::copy_of(first.as_bytes())?);
        }
        if tries_left > 0 {
            prompt::say("The passwords do not match; try again.")?;
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
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    password.map_err(|error| as_usage(error, "cannot take the password from the command".to_owned()))
}

/// Reads to the end, and drops one newline there.
fn read(source: impl Read) -> Result<Password> {
    let password = read_bytes(source, MAX_PASSWORD_LEN + 2)?;
    let password = password.strip_suffix(b"\n").unwrap_or(&password);
    if password.len() > MAX_PASSWORD_LEN {
        let error = Error::new(ErrorKind::Usage, "it is longer than 1 MiB");
        return Err(error.with_hint("use it as a --keyfile instead"));
    }
    Ok(Password::copy_of(password)?)
}

/// Reads to the end, or `most` bytes.
fn read_bytes(mut source: impl Read, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; most]);
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => interrupt::check()?,
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(len);
    Ok(buffer)
}

/// A source that the user named wrongly is wrong usage, whatever the system said about it.
fn as_usage(error: Error, action: String) -> Error {
    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::OutOfMemory) {
        return error;
    }
    let usage = Error::new(ErrorKind::Usage, error.reason()).during(action);
    match error.hint() {
        Some(hint) => usage.with_hint(hint),
        None => usage,
    }
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
    fn a_failing_command_gives_no_password() {
        let error = read_command("printf secret; exit 3").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "the password command failed: exit status: 3");
    }
}
