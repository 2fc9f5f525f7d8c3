//! The HELP replies of container commands, in Redis's layout, and what containers run: nothing.

use super::{Action, Call};
use kvshard::{Error, Reply};

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
