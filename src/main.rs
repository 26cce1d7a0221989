//! The `ringgate` program: the allocator and the command line. Everything else is in the library.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

ringgate::small_pages_from_the_start!();

fn main() -> std::process::ExitCode {
    ringgate::cli::main()
}
