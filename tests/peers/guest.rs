//! The guest: a small Debian under user-mode-linux, with dm-crypt and cryptsetup. `make guest` builds it; starting it takes
//! some seconds and no root. Jobs are gathered and done in one run.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{place::is_skipped, programs::build_folder};

/// What a job gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) is_done: bool,
    /// All that it printed, errors too.
    pub(crate) output: String,
}

/// Jobs for one run of the guest, and the folder that it shares with us as `/share`.
pub(crate) struct Guest {
    starter: PathBuf,
    share: tempfile::TempDir,
    jobs: Vec<String>,
}

impl Guest {
    /// `None`, and one line that says so, where it was not built. Panics there with `STRONGROOM_REQUIRE=1`.
    pub(crate) fn new() -> Option<Self> {
        let lab = env::var_os("STRONGROOM_LAB")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/lab"), PathBuf::from);
        let starter = lab.join("guest.sh");
        for path in [&starter, &build_folder().join("lab/built")] {
            if !path.exists() && !is_skipped(&format!("no guest: {} is missing", path.display())) {
                return None;
            }
        }
        let share = tempfile::Builder::new().prefix("strongroom-guest-").tempdir_in("/tmp").unwrap();
        fs::create_dir(share.path().join("jobs")).unwrap();
        Some(Self { starter, share, jobs: Vec::new() })
    }

    /// A file in the shared folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.share.path().join(name)
    }

    /// Adds a shell script, which is run in the shared folder and stops at the first command that fails.
    pub(crate) fn add(&mut self, name: &str, script: &str) {
        fs::write(self.path("jobs").join(name), script).unwrap();
        self.jobs.push(name.to_owned());
    }

    /// Starts the guest, which does all jobs, one after the other, and ends.
    pub(crate) fn run(&mut self) -> BTreeMap<String, Answer> {
        let script = format!(
            "cd /share
             for job in {}; do
                 timeout 300 bash -euo pipefail jobs/$job > jobs/$job.output 2>&1 < /dev/null
                 echo $? > jobs/$job.status
                 umount /mnt 2> /dev/null
                 dmsetup remove_all
             done",
            self.jobs.join(" ")
        );
        let output = Command::new("bash")
            .arg(&self.starter)
            .args(["-t", "1800", "-m", "1024", "-s"])
            .arg(self.share.path())
            .arg(script)
            .env("LAB", build_folder().join("lab"))
            .output()
            .unwrap();
        assert!(output.status.success(), "the guest: {output:?}");
        std::mem::take(&mut self.jobs).into_iter().map(|job| (job.clone(), self.answer(&job))).collect()
    }

    fn answer(&self, job: &str) -> Answer {
        let read = |kind| fs::read_to_string(self.path("jobs").join(format!("{job}.{kind}"))).unwrap();
        Answer { is_done: read("status").trim() == "0", output: read("output") }
    }
}

/// All that went wrong, together: one run tells of every job.
pub(crate) fn assert_all_done(answers: &BTreeMap<String, Answer>) {
    let failed = answers.iter().filter(|(_, answer)| !answer.is_done);
    let failed: Vec<_> = failed.map(|(name, answer)| format!("{name}: {}", answer.output)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
