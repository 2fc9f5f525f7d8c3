//! The HELP replies of container commands, in Redis's layout, and what containers run: nothing.

use super::{Action, Call};
use kvshard::{Args, Error, Reply};

/// The head line of `container`'s help, `lines` (a form of a subcommand, then indented sentences), and the line of HELP itself.
pub fn write_help(r: &mut Reply<'_>, container: &str, lines: &[&str]) {
    r.array(lines.len() + 3);
    r.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| r.simple(line));
    r.simple("HELP");
    r.simple("    Print this help.");
}

/// The handler of a container: the gate refuses it without a subcommand and with an unknown one.
pub fn container(_c: &mut Call<'_>, _r: &mut Reply<'_>) -> Result<Action, Error> {
    Err(Error::Syntax)
}

/// The error for an unknown subcommand, or for too many arguments where the arity alone does not say it.
pub fn wrong_form(args: Args<'_>) -> Error {
    let word = |index: usize| String::from_utf8_lossy(&args.at(index)[..args.at(index).len().min(128)]).into_owned();
    let (container, subcommand) = (word(0).to_uppercase(), word(1));
    Error::Owned(format!("ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {container} HELP."))
}
