//! Fresh bytes that compress like programs.

/// Machine code and data of a real program.
pub(super) struct Code(pub(super) Vec<u8>);

impl Code {
    /// Returns bytes that depend on the seed: pieces of the program in another order.
    pub(super) fn bytes(&self, seed: u64, length: usize) -> Vec<u8> {
        const PIECE: usize = 1 << 12;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
        let mut bytes = Vec::with_capacity(length + PIECE);
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = (state >> 16) as usize % (self.0.len() - PIECE);
            bytes.extend_from_slice(&self.0[at..at + PIECE]);
        }
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_bytes_depend_only_on_the_seed() {
        let code = Code((0..100_000u32).flat_map(u32::to_le_bytes).collect());
        assert_eq!(code.bytes(1, 10_000), code.bytes(1, 10_000));
        assert_ne!(code.bytes(1, 10_000), code.bytes(2, 10_000));
    }
}
