//! Jobs on several cores that need no locks: a node command asks, each core answers with its part, the parts become the reply.

use super::Engine;
use super::locks::Parked;
use super::mesh::{Answer, Job, OperationId, Request};
use super::operation::{Caller, Operation};
use crate::commands::registry::Registered;
use crate::commands::{Finish, Gather, On, Part};
use crate::core::connection::Stall;
use kvshard::command::ArgsBuf;
use kvshard::{Args, Reply};

/// A job on several cores.
pub struct Gathering {
    caller: Caller,
    due: usize,
    parts: Vec<Option<Part>>,
    finish: Finish,
    /// The operation whose block this is a command of.
    parent: Option<OperationId>,
    command: &'static Registered,
    args: ArgsBuf,
    /// What the command has taken before it asked, nanoseconds.
    nanos: u64,
    /// The longest job so far; they run side by side.
    job_nanos: u64,
}

/// A node command that asks other cores, and what it has taken so far. Waiting for busy cores does not count as its time.
pub struct Measured<'a> {
    pub command: &'static Registered,
    pub args: Args<'a>,
    pub nanos: u64,
}

impl Engine {
    pub(super) fn gather(&mut self, index: usize, gather: Gather, measured: Measured<'_>, parent: Option<OperationId>) {
        let caller = self.caller(index);
        if parent.is_none() {
            self.core.connections[index].stall = Stall::Operation;
        }
        let cores = match gather.on {
            On::AllCores => (0..self.core.node.cores).collect(),
            On::Cores(cores) => cores,
        };
        let parts = cores.iter().map(|_| None).collect();
        let Measured { command, args, nanos } = measured;
        let (args, due) = (args.to_buf(), cores.len());
        let gathering = Gathering { caller, due, parts, finish: gather.finish, parent, command, args, nanos, job_nanos: 0 };
        let id = self.operations.add(self.core.id, Operation::Gathering(Box::new(gathering)));
        if cores.is_empty() {
            return self.end_gathering(id);
        }
        self.hops_outstanding += cores.len();
        for (position, &core) in cores.iter().enumerate().filter(|&(_, &core)| core != self.core.id) {
            let request = Request::Job { operation: id, position, needs_shard: gather.needs_shard, job: gather.job.clone() };
            self.mesh.request(core, request);
        }
        if gather.together {
            // Answers that wait to leave go with it.
            self.send_feed();
            self.mesh.flush_now();
        }
        if let Some(position) = cores.iter().position(|&core| core == self.core.id) {
            if gather.needs_shard && self.core.shard.is_none() {
                self.locks.park(Parked::Job { operation: id, position, job: gather.job });
            } else {
                self.run_job(id, position, &gather.job);
            }
        }
    }

    /// Has every core do something, and waits for nothing.
    pub(super) fn on_all_cores(&mut self, job: Job) {
        for core in (0..self.core.node.cores).filter(|&core| core != self.core.id) {
            self.mesh.request(core, Request::Tell(job.clone()));
        }
        let _nobody_asks = job(&mut self.core);
        self.after_job();
    }

    pub(super) fn run_job(&mut self, operation: OperationId, position: usize, job: &Job) {
        let began = self.clock.nanos();
        let part = job(&mut self.core);
        self.after_job();
        let nanos = self.clock.nanos() - began;
        if operation.index != u32::MAX {
            self.send_answer(usize::from(operation.core), Answer::JobDone { operation, position, part, nanos });
        }
    }

    pub(super) fn job_done(&mut self, id: OperationId, position: usize, part: Part, nanos: u64) {
        self.hops_outstanding = self.hops_outstanding.saturating_sub(1);
        let Some(Operation::Gathering(gathering)) = self.operations.get(id) else { return };
        gathering.parts[position] = Some(part);
        gathering.job_nanos = gathering.job_nanos.max(nanos);
        gathering.due -= 1;
        if gathering.due == 0 {
            self.end_gathering(id);
        }
    }

    fn end_gathering(&mut self, id: OperationId) {
        let Some(Operation::Gathering(gathering)) = self.operations.remove(id) else { return };
        let Gathering { caller, parts, finish, parent, command, args, nanos, job_nanos, .. } = *gathering;
        let began = self.clock.nanos();
        let parts = parts.into_iter().flatten().collect();
        let alive = self.is_alive(caller);
        let mut out = Vec::new();
        if alive {
            let resp3 = self.core.connections[caller.index].resp3;
            let mut reply = Reply::new(&mut out, resp3);
            if let Err(error) = finish(&mut self.core, caller.index, parts, &mut reply) {
                reply.out.clear();
                reply.error(&error);
            }
            self.after_job();
        }
        let failed = out.first() == Some(&b'-');
        let nanos = nanos + job_nanos + (self.clock.nanos() - began);
        self.count_node_command(alive.then_some(caller.index), command, args.args(), nanos, failed);
        if let Some(parent) = parent {
            if failed {
                self.core.counters.error_reply(&out);
            }
            if let Some(spanning) = self.operations.spanning(parent) {
                spanning.block.out.extend_from_slice(&out);
                if spanning.running {
                    spanning.answered = true;
                    return;
                }
            }
            return self.continue_block(parent);
        }
        if self.is_alive(caller) {
            self.core.connections[caller.index].stall = Stall::None;
            self.core.to_resume.push(caller.index);
            self.append_reply(caller.index, &out);
        }
    }
}
