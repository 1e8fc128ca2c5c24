//! Where the bus of a user's session is: the way to the desktop.

use std::{
    env,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
};

use super::process::{effective_user, is_root};

/// The address of the bus of the user's session. Never root's, whose environment may be somebody else's.
pub fn of_user() -> Option<String> {
    if is_root() {
        return None;
    }
    let named = env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    named.as_deref().and_then(local_address).map(str::to_owned).or_else(|| {
        let socket = PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?).join("bus");
        let found = socket.metadata().ok()?;
        let is_own = found.file_type().is_socket() && found.uid() == effective_user();
        let path = socket.to_str().filter(|path| path.bytes().all(is_plain))?;
        is_own.then(|| format!("unix:path={path}"))
    })
}

/// The first of some addresses that is a socket of this machine: nothing is started, and nothing goes over a network.
fn local_address(addresses: &str) -> Option<&str> {
    let is_local =
        |address: &&str| ["unix:path=/", "unix:abstract="].iter().any(|way| address.starts_with(way));
    addresses.split(';').find(is_local)
}

/// What needs no escaping in an address (D-Bus specification, server addresses).
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'.' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_of_this_machine_are_gone_to() {
        for (addresses, taken) in [
            ("unix:path=/run/user/1000/bus", Some("unix:path=/run/user/1000/bus")),
            ("unix:abstract=/tmp/dbus-x,guid=7", Some("unix:abstract=/tmp/dbus-x,guid=7")),
            ("tcp:host=example.org,port=7;unix:path=/b", Some("unix:path=/b")),
            ("unixexec:path=/bin/sh,argv1=-c", None),
            ("autolaunch:", None),
            ("", None),
        ] {
            assert_eq!(local_address(addresses), taken, "{addresses}");
        }
    }
}
