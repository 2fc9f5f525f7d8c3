//! The replies of `… HELP` subcommands, and the error that points to them.

use kvshard::{Error, Reply};

/// Subcommands and what they do, one line each; what continues a line is indented by the caller.
pub fn write(r: &mut Reply<'_>, container: &str, lines: &[&str]) {
    r.array(lines.len() + 3);
    r.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines.iter().chain(&["HELP", "    Prints this help."]) {
        r.simple(line);
    }
}

/// A known subcommand was given arguments of a number that its arity lets pass but its forms do not.
pub fn syntax_error(container: &str, subcommand: &[u8]) -> Error {
    let subcommand = String::from_utf8_lossy(subcommand);
    Error::Owned(format!("ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {container} HELP."))
}
