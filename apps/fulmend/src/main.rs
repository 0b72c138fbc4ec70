//! The Fulmen Lightning daemon.

fn main() -> std::process::ExitCode {
    fulmend::main_with_args(std::env::args_os())
}
