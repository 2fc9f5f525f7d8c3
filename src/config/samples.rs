//! Tests of the sample files against the table: a sample names no directive that does not exist, and starts as it is.

use super::Directive;
use super::availability;
use super::load::{DECLARATIONS, Sources, load};
use super::words;

const NODE: &str = include_str!("../../conf/node.conf");

/// The directives of a sample that stand in comments: lines whose first word looks like a directive's name.
fn commented(sample: &str) -> impl Iterator<Item = &str> {
    let looks_like_a_name = |word: &str| {
        let plain = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        plain && (word.contains('-') || Directive::find(word.as_bytes()).is_some())
    };
    let lines = sample.lines().filter_map(|line| line.strip_prefix("# "));
    lines.filter(move |line| line.split(' ').next().is_some_and(looks_like_a_name))
}

#[test]
fn the_sample_loads_and_asks_for_nothing_that_is_missing() {
    let loaded = load(&Sources { input: Some(NODE.as_bytes()), ..Sources::default() }).expect("the sample is right");
    assert_eq!(availability::refusal(&loaded), None);
    assert!(availability::notices(&loaded).is_empty());
}

#[test]
fn the_sample_shows_defaults() {
    let loaded = load(&Sources { input: Some(NODE.as_bytes()), ..Sources::default() }).expect("the sample is right");
    let defaults = super::Config::default();
    for name in loaded.mentioned.iter().filter(|name| **name != "bind") {
        let directive = Directive::find(name.as_bytes()).expect("mentioned, so known");
        assert_eq!(directive.text(&loaded.config), directive.text(&defaults), "{name}");
    }
}

#[test]
fn commented_lines_are_right_too() {
    let lines: Vec<&str> = commented(NODE).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        let words = words::split(line.as_bytes()).expect("quotes are closed");
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        assert!(Directive::find(&words[0]).is_some() || DECLARATIONS.contains(&name.as_str()), "{line}");
    }
}

#[test]
fn directives_of_the_acceptance_scenarios_are_known() {
    let text = "port 6379\ndaemonize yes\nmasterauth redis123\nrequirepass redis123\nbind 0.0.0.0\nprotected-mode no\n\
                slave-priority 101\nslave-read-only yes\nslaveof 192.0.2.1 6379\nrepl-backlog-size 10MB\n\
                cluster-config-file nodes.conf\ncluster-node-timeout 3000\ncluster-require-full-coverage no\n\
                appendonly yes\nsave 900 1\nauto-aof-rewrite-percentage 100\nauto-aof-rewrite-min-size 64mb\n\
                min-replicas-to-write 1\nmin-replicas-max-lag 10\nrename-command FLUSHDB \"\"\n\
                sentinel monitor mymaster 192.0.2.1 6379 1\n# 설명\n";
    let loaded = load(&Sources { input: Some(text.as_bytes()), ..Sources::default() }).expect("all are known");
    assert_eq!(loaded.config.repl_backlog_size, 10 << 20);
}
