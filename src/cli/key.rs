//! `key list` and `key test`.

use std::path::Path;

use serde::Serialize;
use strongroom::{error::Result, format::KeyslotInfo};

use super::{
    args::{InfoOptions, KeyCommand, KeyTestOptions},
    info::describe_keyslots,
    output::Console,
    unlock::{inspect, unlock},
};

/// Runs one of the `key` commands.
pub(crate) fn run(console: Console, command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::List(options) => list(console, options),
        KeyCommand::Test(options) => test(console, options),
    }
}

#[derive(Debug, Serialize)]
struct Keyslots {
    keyslots: Vec<KeyslotInfo>,
}

fn list(console: Console, options: &InfoOptions) -> Result<()> {
    let (_, header) = inspect(&options.container)?;
    let keyslots = header.describe().keyslots;
    console.result(&Keyslots { keyslots }, |list| describe_keyslots(&list.keyslots))
}

#[derive(Debug, Serialize)]
struct Tested<'a> {
    container: &'a Path,
    opens: bool,
    keyslot: Option<u32>,
}

/// Wrong credentials are an error as everywhere: the exit status is the answer.
fn test(console: Console, options: &KeyTestOptions) -> Result<()> {
    let (_, header) = inspect(&options.container)?;
    options.unlock.secrets.check_source()?;
    let unlocked = unlock(console, &options.container, &*header, &options.unlock)?;
    let tested = Tested { container: &options.container, opens: true, keyslot: unlocked.keyslot };
    console.result(&tested, |tested| match tested.keyslot {
        Some(slot) => format!("keyslot {slot} opens\n"),
        None => "the container opens\n".to_owned(),
    })
}
