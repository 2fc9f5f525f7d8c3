//! Output buffers between two uses, so that a reply does not begin by growing an empty one.

/// The most buffers kept, and the largest that is kept, bytes.
const KEPT_MAX: usize = 64;
const KEPT_BYTES_MAX: usize = 64 << 10;

#[derive(Default)]
pub struct SpareBuffers(Vec<Vec<u8>>);

impl SpareBuffers {
    /// An empty buffer, with room if there is one.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    #[inline]
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES_MAX && self.0.len() < KEPT_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_not_too_many() {
        let mut spare = SpareBuffers::default();
        spare.give_back(b"reply".to_vec());
        let buffer = spare.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 5);
        spare.give_back(Vec::new());
        spare.give_back(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert_eq!(spare.take().capacity(), 0);
        (0..2 * KEPT_MAX).for_each(|_| spare.give_back(vec![0]));
        assert_eq!(spare.0.len(), KEPT_MAX);
    }
}
