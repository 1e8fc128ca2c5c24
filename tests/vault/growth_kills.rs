//! `kill -9` while a volume grows under its users, at random moments: `make torture` does it 200 times with each driver.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;

use crate::{
    kills::{LOAD, Numbers, rounds, verified},
    place::{CHEAP, signal, wait_for_end_of, wait_until},
    world::{World, with_each_driver, with_vault},
};

/// By so much it grows each time.
const STEP: u64 = 8 << 20;
const FIRST: u64 = 64 << 20;

#[test]
fn a_growth_that_is_killed_under_load_loses_nothing_and_the_same_command_ends_it() {
    let rounds = rounds(4);
    with_each_driver("--size 64M --provision quick", |world| {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        let (mut kept, mut size, mut ended_in_time) = (0, FIRST, 0);
        for round in 0..rounds {
            world.mount();
            kept += verified(world, round);
            world.shell("rm -f noteda notedb ended");
            let load = world.shell_in_background(LOAD);
            wait_until("load", || world.lines_of("noteda") + world.lines_of("notedb") >= 5);
            size += STEP;
            let resize = format!("resize v.vault {size} --password-file password");
            let growing =
                world.shell_in_background(&format!("./strongroom {resize} 2> told || true; touch ended"));
            sleep(Duration::from_millis(numbers.below(400)));
            let server = world.server();
            if numbers.below(4) == 0 {
                // The command alone: the volume goes on, as large as it is shown.
                drop(growing);
                sleep(Duration::from_millis(numbers.below(50)));
                signal(server, Signal::KILL);
            } else {
                signal(server, Signal::KILL);
                if numbers.below(2) == 0 {
                    wait_until("the end of the command", || world.path("ended").exists());
                }
                drop(growing);
            }
            wait_for_end_of(server);
            drop(load);
            ended_in_time += usize::from(world.shell("cat told 2> /dev/null || true").contains("resized"));
            // The command may have cleaned up after the server.
            let ended = world.strongroom("unmount v.vault").status;
            assert!(matches!(ended, Some(4 | 6)), "{world}, round {round}: {ended:?}");
            if round % 2 == 1 {
                // It opens as it is, before and after.
                world.mount();
                kept += verified(world, round);
                world.done("unmount m");
            }
            world.done(&resize);
            assert_eq!(world.json("info v.vault")["container_size"], size, "{world}, round {round}");
        }
        world.mount();
        kept += verified(world, rounds);
        let most = format!("test $(df --output=size -B1 m | tail -1) -gt {}", size - size / 4);
        world.shell(&most);
        world.done("unmount m");
        world.check_file_system();
        println!("{world}: {rounds} growths killed, {ended_in_time} had ended, {kept} synced files verified");
    });
}

#[test]
fn a_growth_of_a_folder_of_pieces_that_is_killed_loses_nothing_and_the_same_command_ends_it() {
    let rounds = rounds(4);
    for provision in ["thin", "thick"] {
        with_vault("--size 4M --filesystem none", |world| {
            world.done(&format!(
                "create p --password-file password {CHEAP} --size 40M --split 1M --provision {provision}"
            ));
            let mount = world.mount_command().replace("v.vault", "p");
            let mut numbers = Numbers(0x2545_F491_4F6C_DD1D);
            let mut size = 40 << 20;
            world.shell("touch sums");
            for round in 0..rounds {
                world.done(&mount);
                world.shell("if test -s sums; then sha256sum --quiet -c sums; fi");
                world.shell(&format!("head -c 3M /dev/urandom > m/f{}; sha256sum m/f* > sums", round % 20));
                world.done("unmount m");
                size += STEP;
                let resize = format!("resize p {size} --password-file password");
                let growing = world.shell_in_background(&format!("exec ./strongroom {resize}"));
                sleep(Duration::from_millis(numbers.below(300)));
                drop(growing);
                if round % 2 == 1 {
                    world.done(&mount);
                    world.shell("sha256sum --quiet -c sums");
                    world.done("unmount m");
                }
                world.done(&resize);
                assert_is_whole(world, size, round);
            }
            println!("{world}: {rounds} growths of a {provision} folder killed");
        });
    }
}

fn assert_is_whole(world: &World, size: u64, round: u32) {
    let checked = world.json("check p --password-file password");
    assert_eq!(checked["ok"], true, "{world}, round {round}: {checked}");
    assert_eq!(world.json("info p")["container_size"], size, "{world}, round {round}");
    assert!(!checked.to_string().contains("behind the end"), "{world}, round {round}: {checked}");
}
