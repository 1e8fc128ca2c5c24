//! `mount.strongroom`: what mount(8) and systemd call for a line of fstab of the type `strongroom`.
//!
//! The line is put into words of our own command line, so nothing is opened or refused here in another way than there.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::MountOptions,
    sys::process::is_root,
};

use super::{ask, prompt, report};

/// The name under which this program is the helper of mount(8).
pub(crate) const NAME: &str = "mount.strongroom";

/// Whether this program was called by that name.
pub(crate) fn is_called(arguments: &[OsString]) -> bool {
    arguments.first().and_then(|name| Path::new(name).file_name()) == Some(OsStr::new(NAME))
}

/// What a helper was called with: `SPEC DIR [-fnrsvw] [-o OPTIONS]`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    container: OsString,
    directory: OsString,
    is_fake: bool,
    is_sloppy: bool,
    is_verbose: bool,
    options: Vec<OsString>,
}

/// The same in words of our command line; `None` where nothing is to be done.
///
/// # Errors
/// `Usage`.
pub(crate) fn translate(arguments: &[OsString]) -> Result<Option<Vec<OsString>>> {
    let call = Call::parse(arguments)?;
    let line = Line::parse(&call)?;
    Ok(if call.is_fake { None } else { Some(line.words(&call, &Surroundings::find())) })
}

/// The exit status that mount(8) passes on, for one of ours.
pub(crate) fn exit_status(status: u8) -> u8 {
    match status {
        0 | 1 => status,
        report::INTERRUPTED => 8,
        _ => 32,
    }
}

impl Call {
    fn parse(arguments: &[OsString]) -> Result<Self> {
        let mut call = Self::default();
        let mut places = Vec::new();
        let mut rest = arguments.iter().skip(1);
        while let Some(word) = rest.next() {
            let text = word.to_string_lossy();
            match text.strip_prefix('-').filter(|flags| !flags.is_empty()) {
                None => places.push(word.clone()),
                // Other letters may be behind it in one word: `-vo noauto`.
                Some(flags) => {
                    for (at, flag) in flags.char_indices() {
                        match flag {
                            'f' => call.is_fake = true,
                            's' => call.is_sloppy = true,
                            'v' => call.is_verbose = true,
                            'r' => call.options.push("ro".into()),
                            'w' => call.options.push("rw".into()),
                            'n' => {}
                            'o' | 't' | 'N' => {
                                let behind = flags.get(at + 1..).filter(|behind| !behind.is_empty());
                                let value = behind.map(OsString::from).or_else(|| rest.next().cloned());
                                let value = value.ok_or_else(|| usage(format!("-{flag} needs a value")))?;
                                match flag {
                                    'o' => call.options.push(value),
                                    'N' => return Err(usage("-N: no other mount namespace is entered")),
                                    _ => {}
                                }
                                break;
                            }
                            _ => return Err(usage(format!("-{flag}: unknown option"))),
                        }
                    }
                }
            }
        }
        let [container, directory] =
            <[OsString; 2]>::try_from(places).map_err(|_| usage("a container and a directory are needed"))?;
        Ok(Self { container, directory, ..call })
    }
}

/// The options of a line, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    /// Those of our command line.
    own: Vec<OsString>,
    /// Mount options.
    passed: Vec<String>,
    has_keyfile: bool,
    has_password: bool,
    /// Whether a password is asked for; `None` where the line does not say.
    asks: Option<bool>,
}

impl Line {
    fn parse(call: &Call) -> Result<Self> {
        let mut line = Self::default();
        for options in &call.options {
            let options = options.to_str().ok_or_else(|| usage("the options are not UTF-8"))?;
            for word in options.split(',').filter(|word| !word.is_empty()) {
                line.add(word, call.is_sloppy)?;
            }
        }
        Ok(line)
    }

    fn add(&mut self, word: &str, is_sloppy: bool) -> Result<()> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            _ if is_of_mount(name) && !matches!((name, value), ("owner", Some(_))) => {}
            ("password-file" | "keyfile" | "header", Some(value)) if !Path::new(value).is_absolute() => {
                return Err(usage(format!("{name}: {value:?} is not a whole path")));
            }
            ("ask-password" | "no-password", None) => {
                let asks = name == "ask-password";
                if self.asks.is_some_and(|before| before != asks) {
                    return Err(usage("ask-password and no-password exclude each other"));
                }
                self.asks = Some(asks);
                self.own.extend((!asks).then(|| "--no-password".into()));
            }
            ("protect-hidden" | "system" | "backup-header", None) => {
                self.own.push(format!("--{name}").into());
            }
            (_, Some(value)) if OWN.contains(&name) => {
                self.has_password |= name == "password-file";
                self.has_keyfile |= name == "keyfile";
                self.own.push(format!("--{name}={value}").into());
            }
            _ => match MountOptions::parse(word) {
                Ok(_) => self.passed.push(word.to_owned()),
                Err(_) if is_sloppy => {}
                Err(refusal) => return Err(usage(refusal)),
            },
        }
        Ok(())
    }

    fn words(self, call: &Call, surroundings: &Surroundings) -> Vec<OsString> {
        let is_nowhere = call.directory == "none";
        let mut words: Vec<OsString> =
            vec!["strongroom".into(), if is_nowhere { "open" } else { "mount" }.into()];
        // mount(8) says nothing where all is well.
        words.push(if call.is_verbose { "--verbose" } else { "--quiet" }.into());
        if !self.passed.is_empty() {
            words.push(format!("--options={}", self.passed.join(",")).into());
        }
        words.extend(self.own);
        let mut has_keyfile = self.has_keyfile;
        if let (false, Some(keyfile)) = (has_keyfile, &surroundings.keyfile) {
            words.push(with_path("--keyfile=", keyfile));
            has_keyfile = true;
        }
        if !self.has_password && self.asks != Some(false) {
            if let Some(password) = &surroundings.password {
                words.push(with_path("--password-file=", password));
            } else if has_keyfile && self.asks.is_none() {
                words.push("--no-password".into());
            } else if surroundings.has_agents {
                words.push("--ask=systemd".into());
            }
        }
        words.push("--".into());
        words.push(call.container.clone());
        words.extend((!is_nowhere).then(|| call.directory.clone()));
        words
    }
}

/// What mount(8), systemd and desktops read in a line, and no file system does.
fn is_of_mount(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "_netdev", "auto", "comment", "defaults", "group", "noauto", "nofail", "nogroup", "noowner",
        "nouser", "nousers", "owner", "user", "users",
    ];
    NAMES.contains(&name) || ["x-", "X-"].iter().any(|beginning| name.starts_with(beginning))
}

fn with_path(option: &str, path: &Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path);
    word
}

/// From where a secret may come that no line names.
#[derive(Debug, Default)]
struct Surroundings {
    /// Credentials of the service (systemd.exec(5)).
    password: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    /// Whether the password agents of the system are asked, as there is no terminal.
    has_agents: bool,
}

impl Surroundings {
    fn find() -> Self {
        let folder =
            env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
        let credential = |name: &str| {
            let path = folder.as_ref()?.join(name);
            path.is_file().then_some(path)
        };
        // Those of a user ask on the terminal.
        let has_agents = is_root() && !prompt::has_terminal() && ask::agents().is_ok();
        Self {
            password: credential("strongroom.password"),
            keyfile: credential("strongroom.keyfile"),
            has_agents,
        }
    }
}

fn usage(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, reason).during(NAME)
}

/// Our own options with a value that make sense in a line.
const OWN: [&str; 19] = [
    "close-at",
    "driver",
    "format",
    "header",
    "idle",
    "keyfile",
    "max-kdf-memory",
    "max-kdf-time",
    "offset",
    "owner",
    "partition",
    "password-file",
    "pim",
    "pin",
    "prf",
    "share",
    "slot",
    "tries",
    "when-busy",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &str) -> Result<Call> {
        let arguments: Vec<_> = format!("{NAME} {arguments}").split(' ').map(OsString::from).collect();
        Call::parse(&arguments)
    }

    fn words(arguments: &str, surroundings: &Surroundings) -> Result<String> {
        let call = call(arguments)?;
        let words = Line::parse(&call)?.words(&call, surroundings);
        Ok(words.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn a_line_of_fstab_becomes_a_command_of_ours() {
        let alone = Surroundings::default();
        for (line, expected) in [
            ("/v /m -o rw", "strongroom mount --quiet --options=rw -- /v /m"),
            (
                "/v /m -n -o rw,noauto,user,x-systemd.idle-timeout=5",
                "strongroom mount --quiet --options=rw -- /v /m",
            ),
            (
                "/v /m -vo noatime,idle=15m",
                "strongroom mount --verbose --options=noatime --idle=15m -- /v /m",
            ),
            ("/v /m -o keyfile=/k", "strongroom mount --quiet --keyfile=/k --no-password -- /v /m"),
            ("/v /m -o keyfile=/k,ask-password", "strongroom mount --quiet --keyfile=/k -- /v /m"),
            (
                "/v /m -o keyfile=/k,password-file=/p",
                "strongroom mount --quiet --keyfile=/k --password-file=/p -- /v /m",
            ),
            (
                "/v /m -o close-at=sleep+lock,when-busy=force",
                "strongroom mount --quiet --close-at=sleep+lock --when-busy=force -- /v /m",
            ),
            ("/v none", "strongroom open --quiet -- /v"),
            ("/v /m -s -o user_xattr", "strongroom mount --quiet -- /v /m"),
            ("/v /m -r", "strongroom mount --quiet --options=ro -- /v /m"),
            ("/v /m -wn", "strongroom mount --quiet --options=rw -- /v /m"),
        ] {
            assert_eq!(words(line, &alone).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn credentials_come_before_the_agents() {
        let asking = Surroundings { has_agents: true, ..Surroundings::default() };
        assert_eq!(words("/v /m", &asking).unwrap(), "strongroom mount --quiet --ask=systemd -- /v /m");
        let given =
            Surroundings { password: Some("/c/p".into()), keyfile: Some("/c/k".into()), has_agents: true };
        assert_eq!(
            words("/v /m", &given).unwrap(),
            "strongroom mount --quiet --keyfile=/c/k --password-file=/c/p -- /v /m"
        );
        assert_eq!(
            words("/v /m -o no-password,keyfile=/k", &given).unwrap(),
            "strongroom mount --quiet --no-password --keyfile=/k -- /v /m"
        );
    }

    #[test]
    fn what_a_line_must_not_say_is_refused_by_its_name() {
        for (line, told) in [
            ("/v", "a container and a directory"),
            ("/v /m /n", "a container and a directory"),
            ("/v /m -o suid", "suid:"),
            ("/v /m -o password=x", "password:"),
            ("/v /m -o password-command=x", "password-command:"),
            ("/v /m -o keyfile=k", "keyfile:"),
            ("/v /m -o no-password,keyfile=/k,ask-password", "ask-password and no-password"),
            ("/v /m -o", "-o needs a value"),
            ("/v /m -x", "-x: unknown option"),
            ("/v /m -N /proc/1/ns/mnt", "-N:"),
        ] {
            let error = words(line, &Surroundings::default()).unwrap_err();
            assert!(error.kind() == ErrorKind::Usage && error.reason().starts_with(told), "{line}: {error}");
        }
        assert!(call("/v /m -f").unwrap().is_fake);
    }
}
