//! FAILOVER: the primary hands over to one of its replicas, without losing a write.
//!
//! ```text
//! none ─▶ writes are paused, a replica catches up ─▶ the node follows it, and asks it (PSYNC … FAILOVER) to be the primary ─▶ none
//!                │ ABORT, or the timeout without FORCE             │ ABORT, or it refuses: primary again
//! ```

use super::link::{self, Address};
use super::node::{Node, Output};
use super::primary::request::{integer, printable};
use crate::observe::log::Level;

/// `master_failover_state` while there is none.
pub const NO_FAILOVER: &str = "no-failover";

/// What the command asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Abort,
    Begin { target: Option<Address>, force: bool, timeout_ms: Option<i64> },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failover {
    target: Option<Address>,
    ends_at: Option<i64>,
    force: bool,
    /// The node follows the target, which has not answered yet.
    is_handing_over: bool,
}

impl Ask {
    /// The arguments behind the command's name; or the text of the error, without its code.
    pub fn parse(args: &[&[u8]]) -> Result<Ask, &'static str> {
        const NO_INTEGER: &str = "value is not an integer or out of range";
        if let [word] = args
            && word.eq_ignore_ascii_case(b"abort")
        {
            return Ok(Ask::Abort);
        }
        let (mut target, mut force, mut timeout_ms, mut rest) = (None, false, None, args);
        while let Some((word, behind)) = rest.split_first() {
            rest = match (&word.to_ascii_lowercase()[..], behind) {
                (b"timeout", [timeout, behind @ ..]) if timeout_ms.is_none() => {
                    let timeout = integer(timeout).ok_or(NO_INTEGER)?;
                    if timeout <= 0 {
                        return Err("FAILOVER timeout must be greater than 0");
                    }
                    timeout_ms = Some(timeout);
                    behind
                }
                (b"to", [host, port, behind @ ..]) if target.is_none() => {
                    let port = integer(port).ok_or(NO_INTEGER)?;
                    target = Some(Address { host: printable(host), port: u16::try_from(port).unwrap_or_default() });
                    behind
                }
                (b"force", behind) if !force => {
                    force = true;
                    behind
                }
                _ => return Err("syntax error"),
            };
        }
        Ok(Ask::Begin { target, force, timeout_ms })
    }
}

impl Node {
    /// `master_failover_state`.
    pub fn failover_state(&self) -> &'static str {
        match &self.failover {
            None => NO_FAILOVER,
            Some(failover) if failover.is_handing_over => "failover-in-progress",
            Some(_) => "waiting-for-sync",
        }
    }

    /// Whether REPLICAOF is refused ("REPLICAOF not allowed while failing over.").
    pub fn is_failing_over(&self) -> bool {
        self.failover.is_some()
    }

    /// FAILOVER; or the text of the error, without its code.
    pub fn fail_over(&mut self, now: i64, ask: Ask, out: &mut Vec<Output>) -> Result<(), &'static str> {
        let Ask::Begin { target, force, timeout_ms } = ask else {
            if self.failover.is_none() {
                return Err("No failover in progress.");
            }
            self.abort_failover(now, "Failover manually aborted", out);
            return Ok(());
        };
        if self.failover.is_some() {
            return Err("FAILOVER already in progress.");
        }
        if self.is_replica() {
            return Err("FAILOVER is not valid when server is a replica.");
        }
        if self.primary().replica_count() == 0 {
            return Err("FAILOVER requires connected replicas.");
        }
        if force && (timeout_ms.is_none() || target.is_none()) {
            return Err("FAILOVER with force option requires both a timeout and target HOST and IP.");
        }
        match &target {
            Some(target) => {
                let mut replicas = self.primary().replicas(now);
                let found = replicas.find(|facts| facts.ip.eq_ignore_ascii_case(&target.host) && facts.port == target.port);
                if !found.ok_or("FAILOVER target HOST and PORT is not a replica.")?.is_online {
                    return Err("FAILOVER target replica is not online.");
                }
                notice(out, format!("FAILOVER requested to {target}."));
            }
            None => notice(out, "FAILOVER requested to any replica.".to_owned()),
        }
        let ends_at = timeout_ms.map(|timeout_ms| now.saturating_add(timeout_ms));
        // The offset is not to move away from those that wait for a moment at which a replica has all of it.
        self.primary_mut().holds_pings = ends_at.is_some();
        self.failover = Some(Failover { target, ends_at, force, is_handing_over: false });
        out.push(Output::PauseWrites(true));
        Ok(())
    }

    /// Looks whether it can go on.
    pub(super) fn go_on_failing_over(&mut self, now: i64, out: &mut Vec<Output>) {
        let Some(failover) = self.failover.as_ref().filter(|failover| !failover.is_handing_over) else { return };
        if failover.ends_at.is_some_and(|ends_at| ends_at <= now) {
            let forced = failover.target.clone().filter(|_| failover.force);
            match forced {
                Some(target) => {
                    let line = format!("FAILOVER to {target} time out exceeded, failing over.");
                    self.hand_over(now, target, line, out);
                }
                None => self.abort_failover(now, "Replica never caught up before timeout", out),
            }
            return;
        }
        let end = self.offset();
        let has_all = |facts: &super::primary::facts::ReplicaFacts| {
            let is_wanted = |target: &Address| facts.ip.eq_ignore_ascii_case(&target.host) && facts.port == target.port;
            facts.is_online && facts.offset == end && failover.target.as_ref().is_none_or(is_wanted)
        };
        let found = self.primary().replicas(now).find(has_all);
        if let Some(target) = found.map(|facts| Address { host: facts.ip, port: facts.port }) {
            let line = format!("Failover target {target} is synced, failing over.");
            self.hand_over(now, target, line, out);
        }
    }

    fn hand_over(&mut self, now: i64, target: Address, line: String, out: &mut Vec<Output>) {
        notice(out, line);
        if let Some(failover) = &mut self.failover {
            failover.is_handing_over = true;
            failover.target = Some(target.clone());
        }
        self.link_mut().asks_failover = true;
        self.replica_of(now, target, out);
    }

    /// The target has answered PSYNC … FAILOVER.
    pub(super) fn failover_answered(&mut self, now: i64, accepted: bool, out: &mut Vec<Output>) {
        match accepted {
            true => self.end_failover(out),
            false => self.abort_failover(now, "Failover target rejected psync request", out),
        }
    }

    fn abort_failover(&mut self, now: i64, why: &str, out: &mut Vec<Output>) {
        let Some(failover) = self.failover.clone() else { return };
        match &failover.target {
            Some(target) => notice(out, format!("FAILOVER to {target} aborted: {why}")),
            None => notice(out, format!("FAILOVER to any replica aborted: {why}")),
        }
        self.end_failover(out);
        if failover.is_handing_over {
            self.step_link(now, link::Input::NoOne, out);
        }
    }

    fn end_failover(&mut self, out: &mut Vec<Output>) {
        self.link_mut().asks_failover = false;
        self.primary_mut().holds_pings = false;
        if self.failover.take().is_some() {
            out.push(Output::PauseWrites(false));
        }
    }
}

fn notice(out: &mut Vec<Output>, line: String) {
    out.push(Output::Link(link::Output::Log(Level::Notice, line)));
}

#[cfg(test)]
mod tests {
    use super::super::node::testing::{attach, lines, node, receive};
    use super::super::primary::{self, ReplicaId};
    use super::*;
    use crate::replication::history::Offset;

    fn ask(text: &str) -> Result<Ask, &'static str> {
        Ask::parse(&text.split_ascii_whitespace().map(str::as_bytes).collect::<Vec<_>>())
    }

    fn begin(text: &str) -> Ask {
        ask(text).expect("well formed")
    }

    /// A primary with a replica online that has not acknowledged all.
    fn primary(out: &mut Vec<Output>) -> Node {
        let mut node = node();
        attach(&mut node, 1, -1, out);
        node.step_replicas(0, primary::Input::SnapshotBegun { at: Offset(0) }, out);
        node.step_replicas(0, primary::Input::SnapshotDone { file_bytes: 0 }, out);
        node.append(0, b"*1\r\n$1\r\nx\r\n", out);
        node
    }

    fn ack(node: &mut Node, out: &mut Vec<Output>) {
        let bytes = format!("REPLCONF ACK {}\r\n", node.offset());
        node.step_replicas(0, primary::Input::Received { replica: ReplicaId(1), bytes: bytes.as_bytes() }, out);
    }

    #[test]
    fn what_it_can_be_asked() {
        let target = Some(Address { host: "h".to_owned(), port: 1 });
        assert_eq!(ask(""), Ok(Ask::Begin { target: None, force: false, timeout_ms: None }));
        assert_eq!(ask("to h 1 FORCE timeout 5"), Ok(Ask::Begin { target, force: true, timeout_ms: Some(5) }));
        assert_eq!(ask("ABORT"), Ok(Ask::Abort));
        for (text, error) in [
            ("to h x", "value is not an integer or out of range"),
            ("timeout 0", "FAILOVER timeout must be greater than 0"),
            ("to h", "syntax error"),
            ("force force", "syntax error"),
            ("abort now", "syntax error"),
        ] {
            assert_eq!(ask(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        let (mut alone, mut out) = (node(), Vec::new());
        assert_eq!(alone.fail_over(0, begin(""), &mut out), Err("FAILOVER requires connected replicas."));
        assert_eq!(alone.fail_over(0, Ask::Abort, &mut out), Err("No failover in progress."));
        let mut node = primary(&mut out);
        let both = "FAILOVER with force option requires both a timeout and target HOST and IP.";
        assert_eq!(node.fail_over(0, begin("force"), &mut out), Err(both));
        assert_eq!(node.fail_over(0, begin("to h 1"), &mut out), Err("FAILOVER target HOST and PORT is not a replica."));
        assert_eq!(node.fail_over(0, begin(""), &mut out), Ok(()));
        assert_eq!(node.fail_over(0, begin(""), &mut out), Err("FAILOVER already in progress."));
        assert_eq!(node.failover_state(), "waiting-for-sync");
    }

    #[test]
    fn it_hands_over_when_a_replica_has_everything() {
        let mut out = Vec::new();
        let mut node = primary(&mut out);
        node.fail_over(0, begin("timeout 5000"), &mut out).expect("granted");
        node.tick(10, &mut out);
        assert_eq!(node.failover_state(), "waiting-for-sync");
        ack(&mut node, &mut out);
        out.clear();
        node.tick(20, &mut out);
        assert_eq!((node.failover_state(), node.is_replica()), ("failover-in-progress", true));
        assert!(lines(&out).contains(&"Failover target 10.0.0.9:7001 is synced, failing over."));
        node.step_link(0, link::Input::Connected, &mut out);
        out.clear();
        receive(&mut node, "+PONG\r\n+OK\r\n+OK\r\n", &mut out);
        let is_asked =
            |output: &Output| matches!(output, Output::Link(link::Output::Send(bytes)) if bytes.ends_with(b"$8\r\nFAILOVER\r\n"));
        assert!(out.iter().any(is_asked));
        out.clear();
        receive(&mut node, &format!("+CONTINUE {}\r\n", "5a".repeat(20)), &mut out);
        assert_eq!((node.failover_state(), node.is_replica(), node.link().is_up()), ("no-failover", true, true));
        assert!(out.iter().any(|output| matches!(output, Output::PauseWrites(false))));
    }

    #[test]
    fn it_stays_the_primary_when_nothing_comes_of_it() {
        let mut out = Vec::new();
        let mut node = primary(&mut out);
        node.fail_over(0, begin("timeout 50"), &mut out).expect("granted");
        out.clear();
        node.tick(50, &mut out);
        assert_eq!(lines(&out)[0], "FAILOVER to any replica aborted: Replica never caught up before timeout");
        node.fail_over(100, begin("to 10.0.0.9 7001 force timeout 50"), &mut out).expect("granted");
        out.clear();
        node.tick(150, &mut out);
        assert_eq!(lines(&out)[0], "FAILOVER to 10.0.0.9:7001 time out exceeded, failing over.");
        let mut about = primary::request::About { peer_ip: "10.0.0.8".to_owned(), ..Default::default() };
        about.psync2 = true;
        let request = primary::request::Request::Psync { id: b"?".to_vec(), offset: -1, failover: false };
        out.clear();
        node.step_replicas(150, primary::Input::Sync { replica: ReplicaId(5), about, request }, &mut out);
        let refused = "-NOMASTERLINK Can't SYNC while failing over\r\n";
        assert!(matches!(&out[0], Output::Replicas(primary::Output::Refuse { reply, .. }) if reply == refused));
        node.step_link(160, link::Input::Connected, &mut out);
        out.clear();
        receive(&mut node, "+PONG\r\n+OK\r\n+OK\r\n-ERR no\r\n", &mut out);
        assert_eq!((node.failover_state(), node.is_replica()), ("no-failover", false));
        assert!(lines(&out).contains(&"FAILOVER to 10.0.0.9:7001 aborted: Failover target rejected psync request"));
    }
}
