//! The confidence sequences that the gate's one was chosen from, as one-sided lower bounds for means in [−1, 1].
//! Only the simulation reads them.

/// Says after each block whether the mean is above `margin` at error `alpha`.
pub(crate) trait Lower {
    fn push(&mut self, value: f64);
    fn above(&self, margin: f64, alpha: f64) -> bool;
}

impl Lower for super::sequence::Sequence {
    fn push(&mut self, value: f64) {
        self.push(value);
    }
    fn above(&self, margin: f64, alpha: f64) -> bool {
        self.bounds(alpha).low > margin
    }
}

/// The asymptotic confidence sequence of arXiv 2103.06476, proposition 2.8, one-sided, as published.
#[derive(Default)]
pub(crate) struct Asymptotic {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Lower for Asymptotic {
    fn push(&mut self, value: f64) {
        self.n += 1.0;
        let distance = value - self.mean;
        self.mean += distance / self.n;
        self.squares += distance * (value - self.mean);
    }
    fn above(&self, margin: f64, alpha: f64) -> bool {
        if self.n < 2.0 {
            return false;
        }
        let growth = self.n * 0.16 + 1.0;
        let width = 2.0 * growth / (self.n * self.n * 0.16) * (1.0 + growth.sqrt() / (2.0 * alpha)).ln();
        self.mean - (self.squares / self.n * width).sqrt() > margin
    }
}

/// Sample mean and variance with the prior of arXiv 2010.09686, in [0, 1].
struct Running {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Running {
    fn new() -> Self {
        Self {
            n: 0.0,
            sum: 0.5,
            squares: 0.25,
        }
    }
    fn mean(&self) -> f64 {
        self.sum / (self.n + 1.0)
    }
    fn variance(&self) -> f64 {
        self.squares / (self.n + 1.0)
    }
    fn push(&mut self, x: f64) {
        self.n += 1.0;
        self.sum += x;
        self.squares += (x - self.mean()).powi(2);
    }
    /// The predictable plug-in bet of the paper.
    fn bet(&self, alpha: f64) -> f64 {
        (2.0 * (1.0 / alpha).ln() / (self.variance() * (self.n + 1.0) * (self.n + 2.0).ln())).sqrt()
    }
}

/// Betting, arXiv 2010.09686 theorem 3, the capital of the upper side against one null: mean = margin.
pub(crate) struct Betting {
    margin: f64,
    alpha: f64,
    running: Running,
    capital: f64,
    capital_max: f64,
}

impl Betting {
    pub(crate) fn new(margin: f64, alpha: f64) -> Self {
        Self {
            margin,
            alpha,
            running: Running::new(),
            capital: 0.0,
            capital_max: 0.0,
        }
    }
}

impl Lower for Betting {
    fn push(&mut self, value: f64) {
        let (x, m) = (f64::midpoint(value, 1.0), f64::midpoint(self.margin, 1.0));
        let bet = self.running.bet(self.alpha).min(0.75 / m);
        self.capital += (bet * (x - m)).ln_1p();
        self.capital_max = self.capital_max.max(self.capital);
        self.running.push(x);
    }
    fn above(&self, _: f64, _: f64) -> bool {
        self.capital_max > (1.0 / self.alpha).ln()
    }
}

/// Betting with a mixture of constant fractions instead of one predictable bet: nearly the most that betting can reach.
pub(crate) struct BettingMixture {
    margin: f64,
    alpha: f64,
    capitals: Vec<(f64, f64)>,
    best: f64,
}

impl BettingMixture {
    pub(crate) fn new(margin: f64, alpha: f64) -> Self {
        let capitals = (0..12).map(|i| (0.99 * 0.6_f64.powi(i), 0.0)).collect();
        Self {
            margin,
            alpha,
            capitals,
            best: 0.0,
        }
    }
}

impl Lower for BettingMixture {
    fn push(&mut self, value: f64) {
        for (fraction, capital) in &mut self.capitals {
            *capital += (*fraction / (1.0 + self.margin) * (value - self.margin)).ln_1p();
        }
        let mean = self.capitals.iter().map(|(_, c)| c.exp()).sum::<f64>() / self.capitals.len() as f64;
        self.best = self.best.max(mean);
    }
    fn above(&self, _: f64, _: f64) -> bool {
        self.best > 1.0 / self.alpha
    }
}

/// Predictable plug-in empirical Bernstein, arXiv 2010.09686 theorem 2.
pub(crate) struct Bernstein {
    alpha: f64,
    running: Running,
    bets: f64,
    weighted: f64,
    spread: f64,
    low: f64,
}

impl Bernstein {
    pub(crate) fn new(alpha: f64) -> Self {
        Self {
            alpha,
            running: Running::new(),
            bets: 0.0,
            weighted: 0.0,
            spread: 0.0,
            low: -1.0,
        }
    }
}

impl Lower for Bernstein {
    fn push(&mut self, value: f64) {
        let x = f64::midpoint(value, 1.0);
        let bet = self.running.bet(self.alpha).min(0.5);
        let before = self.running.mean();
        self.bets += bet;
        self.weighted += bet * x;
        self.spread += (x - before).powi(2) * (-(-bet).ln_1p() - bet);
        self.running.push(x);
        let low = (self.weighted - (1.0 / self.alpha).ln() - self.spread) / self.bets;
        self.low = self.low.max(2.0 * low - 1.0);
    }
    fn above(&self, margin: f64, _: f64) -> bool {
        self.low > margin
    }
}
