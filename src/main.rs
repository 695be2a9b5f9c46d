//! The `mmsense` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mmsense::cli::main()
}
