//! The `strongroom` command.

mod cli;

use strongroom::sys::alloc::WipingAllocator;

/// Passwords and plaintext pass through buffers that are not ours; none is freed unwiped.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator::new();

fn main() -> std::process::ExitCode {
    cli::main()
}
