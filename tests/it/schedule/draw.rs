//! Choices from a seed.

/// `SplitMix64`: a few lines, and the same numbers on every platform for ever.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `greatest`.
    pub fn number(&mut self, least: i64, greatest: i64) -> i64 {
        least + i64::try_from(self.next() % u64::try_from(greatest - least + 1).unwrap()).unwrap()
    }

    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[usize::try_from(self.next() % items.len() as u64).unwrap()]
    }

    /// True in so many of a hundred draws.
    pub fn percent(&mut self, percent: i64) -> bool {
        self.number(1, 100) <= percent
    }
}
