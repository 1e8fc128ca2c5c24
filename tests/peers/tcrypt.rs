//! TrueCrypt and VeraCrypt in the guest: tcplay makes volumes, cryptsetup and dm-crypt open them.

use crate::PASSWORD;

/// How cryptsetup is to open a volume.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opening {
    pub(crate) is_truecrypt: bool,
    pub(crate) prf: &'static str,
    pub(crate) pim: u32,
    pub(crate) keyfiles: &'static [&'static str],
    pub(crate) is_hidden: bool,
    pub(crate) is_backup: bool,
    pub(crate) password: Option<&'static str>,
}

impl Opening {
    /// The command that maps `container` as `volume`.
    pub(crate) fn command(&self, container: &str) -> String {
        let mut options = vec![format!("--hash {}", self.prf)];
        options.push(if self.is_truecrypt { "--disable-veracrypt" } else { "--veracrypt" }.to_owned());
        options.extend((self.pim > 0).then(|| format!("--veracrypt-pim {}", self.pim)));
        options.extend(self.keyfiles.iter().map(|keyfile| format!("--key-file {keyfile}")));
        options.extend(self.is_hidden.then(|| "--tcrypt-hidden".to_owned()));
        options.extend(self.is_backup.then(|| "--tcrypt-backup".to_owned()));
        format!(
            "printf %s '{}' | cryptsetup open --type tcrypt {} {container} volume",
            self.password.unwrap_or(PASSWORD),
            options.join(" ")
        )
    }
}

/// A job that makes a volume with tcplay: `prf` and `chain` as it names them.
pub(crate) fn make_by_tcplay(container: &str, prf: &str, chain: &str) -> String {
    // It asks on a terminal, and forgets what was typed before it turned the echo off, a moment after its question.
    format!(
        "export device=$(losetup --find --show {container})
         expect <<'END'
             set timeout 300
             proc answer {{}} {{
                 while {{![string match {{*-echo *}} [exec stty -a < $::spawn_out(slave,name)]]}} {{ sleep 0.1 }}
                 send \"{PASSWORD}\\r\"
             }}
             spawn tcplay --create --device=$env(device) --pbkdf-prf={prf} --cipher={chain} --weak-keys --insecure-erase
             expect assphrase: answer
             expect assphrase: answer
             expect y/n {{ send \"y\\r\" }}
             expect eof
END
         losetup --detach $device
         "
    )
}
