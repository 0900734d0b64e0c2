//! Choices that look like chance and are the same each time.

/// A stream of numbers that follows from its seed alone (SplitMix64), so that seed data can be
/// generated again as it was.
pub(super) struct SeededRng(u64);

/// How much the first of a list come before the others: with 4, the first is taken by 8 % where
/// there are sixty, as the commonest surname is.
const LEAD: f64 = 4.0;

impl SeededRng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True so many times of a hundred.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A fraction in 0..1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A place in a list of that length, the earlier the likelier.
    pub(super) fn rank(&mut self, length: usize) -> usize {
        let steps = ((LEAD + length as f64) / LEAD).powf(self.fraction());
        ((steps * LEAD - LEAD) as usize).min(length - 1)
    }

    /// One of a list, the earlier the likelier.
    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.rank(list.len())]
    }

    /// Letters and digits.
    pub(super) fn letters(&mut self, count: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..count)
            .map(|_| char::from(LETTERS[self.below(LETTERS.len() as u64) as usize]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_ones_are_likelier() {
        let mut rng = SeededRng::new(1);
        let mut counts = [0; 60];
        for _ in 0..100_000 {
            counts[rng.rank(60)] += 1;
        }
        assert!((7_000..9_500).contains(&counts[0]), "{}", counts[0]);
        assert!(counts[0] > counts[5] && counts[5] > counts[30] && counts[59] > 0);
    }
}
