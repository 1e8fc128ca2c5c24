//! `kill -9` under load, at random moments: `make torture` does it 200 times with each driver.
//!
//! `fuse2fs` keeps no journal, so what a killed server leaves may be more than `e2fsck -p` repairs unasked. That is no
//! failure here where the way out that the error tells brings everything back that was synced; it is counted.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::world::{World, with_vault_alone};

/// Two writers at once. Each name is noted outside only after the file was synced, through the descriptor that wrote it:
/// fuse2fs ignores fsync on one that was opened for reading. A part is overwritten and noted anew.
const LOAD: &str = "
    write() {
        i=0
        while true; do
            i=$((i + 1)); name=m/$1/$((i % 40))
            head -c $((i * 97 % 9000)) /dev/urandom > content$1
            if [ $i -gt 40 ]; then echo \"- $name\" >> noted$1; fi
            dd if=content$1 of=$name bs=10k conv=fsync status=none
            echo \"$(sha256sum < content$1 | cut -d ' ' -f 1) $name\" >> noted$1
        done
    }
    mkdir -p m/a m/b; rm -f noteda notedb; write a & write b & wait";

/// Of each name the last note counts; one that was to be overwritten when the server was killed may hold anything.
const VERIFY: &str = "
    cat noteda notedb 2> /dev/null | awk '{ last[$2] = $1 } END { for (name in last) if (last[name] != \"-\") print last[name] \"  \" name }' > sums
    if [ -s sums ]; then sha256sum --quiet -c sums; fi; wc -l < sums";

#[test]
fn a_killed_server_loses_nothing_that_was_synced() {
    let rounds = std::env::var("STRONGROOM_KILL_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    with_vault_alone("--size 64M --provision quick", |world| {
        let start = Instant::now();
        let mut moments = Moments(0x9E37_79B9_7F4A_7C15);
        let (mut kept, mut repairs) = (0, 0);
        for round in 0..rounds {
            repairs += u32::from(world.mount_or_repair());
            kept += verified(world, round);
            let mut load = world.shell_in_background(LOAD);
            sleep(moments.next());
            kill_process(pid(world.server()), Signal::KILL).unwrap();
            sleep(Duration::from_millis(100));
            let _ = kill_process_group(pid(load.id().into()), Signal::KILL);
            drop(load.wait());
            if round % 2 == 1 {
                world.done("unmount v.vault"); // In other rounds the next mount cleans up.
                world.assert_clean();
            }
        }
        repairs += u32::from(world.mount_or_repair());
        kept += verified(world, rounds);
        assert!(kept > 5 * rounds, "{world}: only {kept} files were synced in {rounds} rounds");
        world.done("unmount m");
        world.check_file_system();
        let took = start.elapsed();
        println!(
            "{world}: {rounds} kills, {kept} synced files verified, repaired by hand {repairs} times, {took:?}"
        );
    });
}

fn pid(number: u64) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// How many files of the last round are as they were when they were synced. All must be.
fn verified(world: &World, round: u32) -> u32 {
    let kept = world.shell(VERIFY);
    kept.trim().parse().unwrap_or_else(|_| panic!("{world}, round {round}: lost: {kept}"))
}

/// Between 50 ms and 1 s, evenly (xorshift64).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(50 + self.0 % 950)
    }
}
