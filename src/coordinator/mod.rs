//! The coordinator: a thread of its own for what is the whole node's and not a shard's. So far it writes snapshots.
//!
//! It may wait for a disk as long as that takes. The cores send it what their shards' cuts bring, and never wait for it: a core
//! whose piece finds the queue full goes on serving clients, and with its cut later.

pub mod contract;
pub mod snapshot;
pub mod status;

use crate::core::shared::Node;
use crate::persistence::disk::FileLayer;
use contract::{Order, ToCores};
use crossbeam_channel::Receiver;
use std::sync::Arc;

pub struct Coordinator {
    pub node: Arc<Node>,
    pub orders: Receiver<Order>,
    pub to_cores: ToCores,
}

impl Coordinator {
    /// Carries out orders until the node ends.
    pub fn run(self, disk: &mut impl FileLayer) {
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Snapshot(snapshot) => self.save(disk, *snapshot),
                Order::CallOffShutdown => self.node.shutdown.call_off(&self.to_cores),
                Order::Exit => return,
            }
        }
    }
}
