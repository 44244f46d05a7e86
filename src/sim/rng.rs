//! Random numbers from a seed: SplitMix64 (Steele, Lea, Flood 2014). The same on every machine, and
//! a run is nothing but its seed.

#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// `salt` tells apart what is drawn for different purposes from one seed.
    pub fn new(seed: u64, salt: u64) -> Rng {
        let mut rng = Rng(seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.draw();
        rng
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to and without `end`, which is not 0. The bias is below 2^-40 for what is asked
    /// here.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Both ends are in.
    pub fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// From -`most` to `most`.
    pub fn around(&mut self, most: i64) -> i64 {
        let width = u64::try_from(2 * most + 1).expect("positive");
        i64::try_from(self.below(width)).expect("below an i64") - most
    }

    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}
