//! The coordinator: a thread of its own for what is the whole node's and not a shard's. So far it writes snapshots.
//!
//! It may wait for a disk as long as that takes. The cores send it what their shards' cuts bring, and never wait for it: a core
//! whose piece finds the queue full goes on serving clients, and with its cut later.

pub mod aof;
pub mod contract;
pub mod snapshot;
pub mod status;

use crate::core::shared::Node;
use crate::persistence::disk::FileLayer;
use aof::Aof;
use contract::{Order, ToCores};
use crossbeam_channel::Receiver;
use std::sync::Arc;

pub struct Coordinator {
    pub node: Arc<Node>,
    pub orders: Receiver<Order>,
    pub to_cores: ToCores,
    /// Once there was anything to append.
    pub aof: Option<Aof>,
}

impl Coordinator {
    /// Carries out orders until the node ends.
    pub fn run(mut self, disk: &mut impl FileLayer) {
        if self.node.current_config().appendonly
            && let Err(error) = self.begin_appending(disk, crate::persistence::manifest::Manifest::default())
        {
            crate::observe::log::warning(&error);
        }
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Snapshot(snapshot) => self.save(disk, *snapshot),
                Order::OpenSegments { core, turning_on, why } => self.open_segments(disk, core, turning_on, why),
                Order::CallOffShutdown => self.node.shutdown.call_off(&self.to_cores),
                Order::Exit => return,
            }
        }
    }
}
