//! The `ringgate` program: flags, configuration, planes, exit code.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    ringgate::cli::main()
}
