//! The binary `driftmill`.

use std::process::ExitCode;

fn main() -> ExitCode {
    driftmill::cli::main()
}
