//! The `ringgate` program: the allocator and the command line. Everything else is in the library.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    ringgate::cli::main()
}
