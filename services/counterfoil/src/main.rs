//! The counterfoil command: reads its arguments, does one thing, says how it went by its exit
//! status.

mod cli;
mod exit;
mod output;
mod settings;
mod signal;

mod ask;
mod config;
mod dev;
mod doctor;
mod journal;
mod key;
mod recover;
mod requests;
mod serve;
mod setup;
mod submit;

use clap::Parser as _;

use crate::cli::{Arguments, Command};
use crate::exit::Exit;

/// Much of what a message needs is allocated on one thread and freed on another. The C library's
/// allocator is slow at that: with this one the server takes a third less processor time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Dev(dev) => dev::run(&arguments, dev).await,
        Command::Server(server) => serve::server(&arguments, server).await,
        Command::Worker => serve::worker(&arguments).await,
        Command::Submit(submit) => submit::run(&arguments, submit).await,
        Command::Status(status) => ask::status(&arguments, status).await,
        Command::Watch(watch) => ask::watch(&arguments, watch).await,
        Command::Cancel(cancel) => ask::cancel(&arguments, cancel).await,
        Command::List(list) => requests::list(&arguments, list).await,
        Command::Subscribe(subscribe) => requests::subscribe(&arguments, subscribe).await,
        Command::Erase(erase) => requests::erase(&arguments, erase).await,
        Command::Report(report) => requests::report(&arguments, report).await,
        Command::Setup(setup) => setup::run(&arguments, setup).await,
        Command::Doctor(doctor) => doctor::run(&arguments, doctor).await,
        Command::Config(config) => match config.command {
            cli::ConfigCommand::Check => config::check(&arguments),
        },
        Command::Replay(replay) => requests::replay(&arguments, replay).await,
        Command::Recover => recover::run(&arguments).await,
        Command::Journal(journal) => journal::run(&arguments, journal),
        Command::Key(key) => key::run(&arguments, key),
    };
    exit::code(done.unwrap_or_else(Exit::from))
}
