//! Shares: which of several things is next.

use fastrand::Rng;

/// Things of which each has its share.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// The share of each, added to those before it.
    sums: Vec<f64>,
}

/// The same in turns that come as evenly as they can (smooth weighted round robin): no share is left to chance, however few turns
/// there are.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    shares: Vec<f64>,
    /// How far each is ahead of its share; all add up to nothing.
    ahead: Vec<f64>,
}

impl Mix {
    /// By these shares, which are positive, and of which there is at least one.
    pub(crate) fn new(shares: impl IntoIterator<Item = f64>) -> Mix {
        let mut sum = 0.0;
        let sums = shares.into_iter().map(|share| {
            sum += share;
            sum
        });
        Mix { sums: sums.collect() }
    }

    /// Draws the index of one.
    pub(crate) fn draw(&self, random: &mut Rng) -> usize {
        let last = self.sums.len() - 1;
        if last == 0 {
            return 0;
        }
        let point = random.f64() * self.sums[last];
        self.sums.partition_point(|sum| *sum <= point).min(last)
    }
}

impl Turns {
    /// By these shares, which are positive, and of which there is at least one.
    pub(crate) fn new(shares: impl IntoIterator<Item = f64>) -> Turns {
        let shares: Vec<f64> = shares.into_iter().collect();
        Turns { ahead: vec![0.0; shares.len()], shares }
    }

    /// Whose turn it is: his index.
    pub(crate) fn next(&mut self) -> usize {
        let mut first = 0;
        for index in 0..self.shares.len() {
            self.ahead[index] += self.shares[index];
            if self.ahead[index] > self.ahead[first] {
                first = index;
            }
        }
        self.ahead[first] -= self.shares.iter().sum::<f64>();
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share() {
        let mut random = Rng::with_seed(7);
        for shares in [vec![1.0], vec![90.0, 9.0, 1.0], vec![0.5, 0.5]] {
            let (mix, total) = (Mix::new(shares.clone()), shares.iter().sum::<f64>());
            let mut drawn = vec![0; shares.len()];
            (0..100_000).for_each(|_| drawn[mix.draw(&mut random)] += 1);
            for (drawn, share) in drawn.iter().zip(&shares) {
                let wanted = share / total * 100_000.0;
                assert!((f64::from(*drawn) - wanted).abs() < 500.0, "{drawn} of {wanted}");
            }
        }
    }

    #[test]
    fn turns_are_exact_and_even() {
        let mut turns = Turns::new([5.0, 1.0, 2.0]);
        let first: Vec<usize> = (0..8).map(|_| turns.next()).collect();
        assert_eq!(first.iter().filter(|turn| **turn == 0).count(), 5);
        assert_eq!(first.iter().filter(|turn| **turn == 2).count(), 2);
        assert_eq!(first, (0..8).map(|_| turns.next()).collect::<Vec<_>>());
        assert!(!first.windows(4).any(|turns| turns == [0; 4]), "{first:?}");
    }
}
