//! Sorted sets. (The table form comes with the family.)
use super::packed::Packed;
pub enum SortedSet { Packed(Packed) }
impl SortedSet {
    pub fn len(&self) -> usize { 0 }
    pub fn free_some(&mut self, _budget: usize) -> bool { true }
}
