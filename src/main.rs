//! kvcore: a Redis-compatible, thread-per-core in-memory server on io_uring.
#![allow(dead_code, reason = "parts of the configuration wait for the features they configure")]

mod commands;
mod config;
mod coordinator;
mod core;
mod dispatch;
mod node;
mod observe;
mod peers;
mod persistence;
mod protocol;
mod reactor;
mod replication;
mod system;

use std::ffi::OsString;
use std::io::{BufWriter, Read};
use std::process::ExitCode;

use config::command_line::{Exit, Invocation, invocation};
use persistence::check_aof;

#[global_allocator]
static ALLOCATOR: observe::memory::CountingAllocator = observe::memory::CountingAllocator;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let read_input = || {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map(|_| text)
    };
    match invocation(&arguments, read_input) {
        Ok(Invocation::CheckSystem(role)) => {
            let (report, fits) = system::check(&system::Machine::this(), role);
            print!("{report}");
            ExitCode::from(u8::from(!fits))
        }
        Ok(Invocation::CheckAof { program, arguments }) => {
            let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
            ExitCode::from(check_aof::run(&program, &arguments, &mut input, &mut out, persistence::check_rdb::check_preamble))
        }
        Ok(Invocation::CheckRdb(file)) => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            let is_good = persistence::check_rdb::check_rdb(&file, observe::clock::wall_ms(), &mut out).unwrap_or(false);
            ExitCode::from(u8::from(!is_good))
        }
        Ok(Invocation::Serve(launch)) => node::serve(*launch),
        Err(Exit { code: 0, message }) => {
            println!("{}", message.trim_end());
            ExitCode::SUCCESS
        }
        Err(Exit { code, message }) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(code)
        }
    }
}
