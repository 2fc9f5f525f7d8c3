//! The replies of `… HELP` subcommands.

use kvshard::Reply;

/// Subcommands and what they do, one line each; what continues a line is indented by the caller.
pub fn write(r: &mut Reply<'_>, container: &str, lines: &[&str]) {
    r.array(lines.len() + 3);
    r.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines.iter().chain(&["HELP", "    Prints this help."]) {
        r.simple(line);
    }
}
