//! The desktop: its file manager, which shows a volume, the window that asks for a secret, and what else tells of a volume there.

use std::{
    env,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::program;
use crate::{
    error::{Error, ErrorKind, Result},
    sys::process::is_root,
};

/// How a desktop tells of a volume that is open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OnDesktop {
    /// Whether a notice says so.
    pub is_announced: bool,
    /// The file of bookmarks that has one while it is open.
    #[serde(default, with = "crate::text::path::optional")]
    pub bookmarks: Option<PathBuf>,
}

/// Has the desktop's file manager show the folder `path`, and does not wait for it.
///
/// # Errors
/// `Missing` where there is no desktop, or nothing that opens folders; `Permission` for root, whose file manager would be one for the
/// whole machine; `Io` where it ends at once.
pub fn show_folder(path: &Path) -> Result<()> {
    if is_root() {
        return Err(Error::new(ErrorKind::Permission, "you are root"));
    }
    if !["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|variable| env::var_os(variable).is_some()) {
        return Err(Error::new(ErrorKind::Missing, "there is no desktop here"));
    }
    let mut command = desktop_program(&program::require("xdg-open", "xdg-utils")?);
    // In a group of its own: it must not end with Ctrl-C in our terminal.
    let command = command.arg(path).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + A_MOMENT;
    while Instant::now() < deadline {
        match child.try_wait()? {
            Some(status) if status.success() => break,
            Some(status) => return Err(Error::new(ErrorKind::Io, format!("xdg-open gave {status}"))),
            None => sleep(TICK),
        }
    }
    Ok(())
}

/// A command in a clean environment, with no more of ours than a window takes.
pub fn desktop_program(path: &Path) -> Command {
    let mut command = program::command(path);
    let known = OF_A_DESKTOP.iter().filter_map(|variable| Some((variable, env::var_os(variable)?)));
    command.envs(known);
    command
}

/// The program that asks for a secret in a window.
///
/// # Errors
/// `Missing`, naming a package.
pub fn pinentry() -> Result<PathBuf> {
    program::require("pinentry", "pinentry-gnome3")
}

/// What a program of the desktop needs of our environment.
const OF_A_DESKTOP: [&str; 16] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "DESKTOP_SESSION",
    "DISPLAY",
    "HOME",
    "LANG",
    "LOGNAME",
    "USER",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_CURRENT_DESKTOP",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_TYPE",
];
/// For so long it may tell that it cannot.
const A_MOMENT: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);
