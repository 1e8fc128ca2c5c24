//! Many small files, by this program itself, which runs as whoever may use the target.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use super::{jobs::LIMIT, program::run_within, targets::Target};

/// Makes files with something in them.
pub(super) const FILL: &str = "fill";
/// Makes empty files, and brings them to the medium.
pub(super) const CREATE: &str = "create";
/// Reads all files.
pub(super) const READ: &str = "read";
/// Removes all files and their folders.
pub(super) const REMOVE: &str = "remove";

/// Has this program do something in a target's directory; seconds.
pub(super) fn run(target: &Target, what: &str) -> f64 {
    let mut command = target.own_command();
    command.args([SMALL, what]).arg(target.directory.as_deref().unwrap());
    let output = run_within(&mut command, LIMIT);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

/// Does it, and prints how long it took.
pub(super) fn work(what: &str, directory: &Path) {
    let folders: Vec<PathBuf> =
        (0..FOLDERS).map(|number| directory.join(format!("small-{number}"))).collect();
    let start = Instant::now();
    match what {
        FILL => each(&folders, true, &|path, number| {
            let content = vec![u8::try_from(number % 251).unwrap(); 512 + number * 37 % 3584];
            File::create_new(path).unwrap().write_all(&content).unwrap();
        }),
        CREATE => {
            each(&folders, true, &|path, _| drop(File::create_new(path).unwrap()));
            File::open(directory).unwrap().sync_all().unwrap();
        }
        READ => each(&folders, false, &|path, _| {
            let mut content = Vec::new();
            File::open(path).unwrap().read_to_end(&mut content).unwrap();
        }),
        REMOVE => {
            each(&folders, false, &|path, _| fs::remove_file(path).unwrap());
            for folder in &folders {
                fs::remove_dir(folder).unwrap();
            }
        }
        other => panic!("{other}"),
    }
    println!("{}", start.elapsed().as_secs_f64());
}

/// Calls `action` with the path and the number of each file, folder by folder.
fn each(folders: &[PathBuf], is_new: bool, action: &dyn Fn(&Path, usize)) {
    for (folder, first) in folders.iter().zip((0..).step_by(FILES)) {
        if is_new {
            fs::create_dir(folder).unwrap();
        }
        (first..first + FILES).for_each(|number| action(&folder.join(format!("file-{number}")), number));
    }
}

/// The option by which this program does that work.
pub(super) const SMALL: &str = "--small";
const FOLDERS: usize = 20;
const FILES: usize = 1000;
