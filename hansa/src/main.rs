//! The `hansa` program: parse, run, say how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use hansa::cli::failure::{Exit, Failure};
use hansa::cli::{self, Cli, Command};

/// A read of a secret takes a tenth less processor time than with the allocator of the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            cli::output::note(&failure.to_string());
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(cli::run(command));
    // What is left is detached, such as a handshake with a peer that is gone; nobody waits for it.
    runtime.shutdown_background();
    ended
}
