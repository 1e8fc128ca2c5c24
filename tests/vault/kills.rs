//! `kill -9` under load, at random moments: `make torture` does it 200 times with each driver.
//!
//! With a journal, nothing takes a repair.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    place::{signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver},
};

/// Two writers at once. Each name is noted outside only after the file was synced. A part is overwritten and noted anew.
pub(crate) const LOAD: &str = "
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
    mkdir -p m/a m/b; write a & write b & wait";

/// Of each name the last note counts; one that was to be overwritten when the server was killed may hold anything.
const VERIFY: &str = "
    cat noteda notedb 2> /dev/null | awk '{ last[$2] = $1 } END { for (name in last) if (last[name] != \"-\") print last[name] \"  \" name }' > sums
    if [ -s sums ]; then sha256sum --quiet -c sums; fi; wc -l < sums";

#[test]
fn a_killed_server_loses_nothing_that_was_synced() {
    let rounds = rounds(3);
    with_each_driver("--size 64M --provision quick", |world| {
        let start = Instant::now();
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        let mut kept = 0;
        for round in 0..rounds {
            world.mount();
            kept += verified(world, round);
            world.shell("rm -f noteda notedb");
            let load = world.shell_in_background(LOAD);
            let enough = 3 + usize::try_from(numbers.below(60)).unwrap();
            wait_until("load", || world.lines_of("noteda") + world.lines_of("notedb") >= enough);
            sleep(Duration::from_millis(numbers.below(100)));
            let server = world.server();
            signal(server, Signal::KILL);
            wait_for_end_of(server);
            drop(load);
            if round % 2 == 1 {
                // In other rounds the next mount cleans up.
                assert_eq!(world.strongroom("unmount v.vault").status, Some(6), "{world}");
                world.assert_clean();
            }
        }
        world.mount();
        kept += verified(world, rounds);
        assert!(kept >= 3 * rounds, "{world}: only {kept} files were synced in {rounds} rounds");
        world.done("unmount m");
        world.check_file_system();
        let took = start.elapsed();
        println!("{world}: {rounds} kills, {kept} synced files verified, {took:?}");
    });
}

/// So many times are asked for, or this usual number.
pub(crate) fn rounds(usual: u32) -> u32 {
    std::env::var("STRONGROOM_KILL_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// How many files of the last round are as they were when they were synced. All must be.
pub(crate) fn verified(world: &World, round: u32) -> u32 {
    let kept = world.shell(VERIFY);
    kept.trim().parse().unwrap_or_else(|_| panic!("{world}, round {round}: lost: {kept}"))
}

/// Random moments, the same in each run (xorshift64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
