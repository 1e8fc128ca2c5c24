//! Names of more than 255 bytes: refused.

use crate::world::{World, with_each_driver};

#[test]
fn names_of_more_than_255_bytes_are_refused() {
    with_each_driver("--size 32M --provision quick", |world| {
        let mounted = world.strongroom(&world.mount_command());
        assert_eq!((mounted.status, mounted.errors.contains("warning")), (Some(0), false), "{mounted:?}");
        assert!(!damages_a_folder(world), "{world}");
        world.done("unmount m");
        world.check_file_system();
    });
}

fn damages_a_folder(world: &World) -> bool {
    world.shell("mkdir m/docs; for i in 1 2 3; do echo $i > m/docs/letter$i; done; echo mine > m/docs/o");
    let told = world.shell(
        "long=$(printf 'x%.0s' $(seq 256))
         mv m/docs/o \"m/docs/letter1$long\" 2> /dev/null && echo moved || echo refused
         ls m/docs 2> /dev/null | sort | tr '\\n' ' '",
    );
    !(told.starts_with("refused") && told.contains("letter1 letter2 letter3 o"))
}
