//! Commands: arguments → command → exit code.
//!
//! Results go to stdout; logs and progress to stderr. Exit codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | wrong usage: arguments, configuration, a missing recording, a port in use |
//! | 3 | done, but data was lost or skipped |

mod eval;
mod info;
mod made;
mod model;
mod models;
mod parity;
mod progress;
mod replay;
mod report;
mod run;
mod sender;
mod shutdown;
mod simulate;
mod text;
mod train;
mod validate;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::observe::event::MODE;

/// Streaming ISAC sensor fusion for mmWave roadside units: camera, radar and LiDAR in, beam choices and blockage
/// warnings out.
#[derive(Debug, Parser)]
#[command(name = "mmsense", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline: sensors (or a recording) in, decisions out
    Run(run::Arguments),
    /// Publish a recording on the input keys, for a unit in another process
    Replay(replay::Arguments),
    /// Say what a recording holds
    Info(info::Arguments),
    /// Make a recording of a street that does not exist, from a scene file
    Simulate(simulate::Arguments),
    /// Train a network by a recipe
    Train(train::Arguments),
    /// Measure a trained network beside simple predictors
    Eval(eval::Arguments),
    /// Show how a training went and what networks are worth, as a page (HTML, and Markdown)
    Report(report::Arguments),
    /// Look at a network
    Model(model::Arguments),
    /// Check a pipeline file
    Validate(validate::Arguments),
    /// Prove the network and its training against a folder of numbers that others computed
    Parity(parity::Arguments),
}

/// How a command ended when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    DoneWithLoss,
}

/// A command that failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The user has to change something: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It broke on the way: exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Reads the arguments, runs the command and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    crate::threads::settle();
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::Train(_) | Command::Eval(_)) {
        crate::train::memory::keep_for_reuse();
    }
    let usual = match &arguments.command {
        Command::Train(_) | Command::Eval(_) => format!("warn,zenoh=error,mmsense=info,{MODE}=off"),
        _ => "warn,zenoh=error,mmsense=info".to_owned(),
    };
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    // A log that nobody reads, or whose reader has gone, costs log lines and nothing else.
    let (log_writer, _flush_at_end) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_writer(log_writer)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .init();
    let result = match &arguments.command {
        Command::Run(run) => run::run(run, arguments.format),
        Command::Replay(replay) => replay::run(replay, arguments.format),
        Command::Info(info) => info::run(info, arguments.format),
        Command::Simulate(simulate) => simulate::run(simulate, arguments.format),
        Command::Train(train) => train::run(train, arguments.format),
        Command::Eval(eval) => eval::run(eval, arguments.format),
        Command::Report(report) => report::run(report, arguments.format),
        Command::Model(model) => model::run(model, arguments.format),
        Command::Validate(validate) => validate::run(validate, arguments.format),
        Command::Parity(parity) => parity::run(parity, arguments.format),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::DoneWithLoss) => ExitCode::from(3),
        Err(error) => {
            text::error(&error);
            ExitCode::from(match error {
                Failure::Failed(_) => 1,
                Failure::Usage(_) => 2,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
