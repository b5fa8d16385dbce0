//! What a payment is like: three profiles (honest customers, the known fraud, the new fraud), each a product of
//! independent traits.
//!
//! By Bayes' rule the log odds of fraud are then a sum over the traits, so a linear model is the right one for each
//! world, and how well it can do is set by how far the profiles overlap. Payment `n` is a pure function of the
//! settings and `n`: the truth about any payment can be asked for later, without keeping it.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::PaymentsConfig;

/// Categories of merchants.
pub(super) const CATEGORIES: [&str; 10] = [
    "grocery",
    "restaurant",
    "fuel",
    "fashion",
    "pharmacy",
    "transit",
    "electronics",
    "travel",
    "tickets",
    "gift-cards",
];
/// Mean of ln(amount in euros) for each category.
const AMOUNTS: [f64; 10] = [3.4, 3.3, 3.9, 4.0, 2.9, 2.2, 5.0, 6.4, 4.6, 3.8];
/// Standard deviation of ln(amount).
const AMOUNT_SD: f64 = 0.5;
/// Countries of merchants and cards.
pub(super) const COUNTRIES: [&str; 8] = ["DE", "FR", "ES", "IT", "NL", "PL", "PT", "EE"];
/// Merchants of each category; they share its payments evenly.
pub(super) const MERCHANTS: u64 = 10;
/// The merchant whose feed may send cents for euros sells travel, one payment in a hundred: its cheapest trip in
/// cents is dearer than anything that others sell in euros.
const BAD_FEED: (usize, u64) = (7, 0);
/// No payment is above this, in cents.
pub(super) const AMOUNT_MAX_CENTS: u64 = 499_900;

/// Traits of a kind of payments.
struct Profile {
    /// Weight of each category.
    categories: [f64; 10],
    /// Weight of each country of the merchant.
    countries: [f64; 8],
    /// Added to the mean of ln(amount).
    amount: f64,
    /// Share with a card of another country than the merchant's.
    abroad: f64,
    /// Share made online.
    online: f64,
    /// Share between midnight and six, in local time.
    night: f64,
    /// Mean of ln(age of the card in days); its standard deviation is 1.
    card_age: f64,
    /// Mean number of payments with the card in the last hour (Poisson).
    last_hour: f64,
}

const HONEST: Profile = Profile {
    categories: [22.0, 15.0, 10.0, 13.0, 8.0, 9.0, 7.0, 10.0, 4.0, 2.0],
    countries: [24.0, 20.0, 15.0, 15.0, 10.0, 10.0, 4.0, 2.0],
    amount: 0.0,
    abroad: 0.08,
    online: 0.35,
    night: 0.06,
    card_age: 6.5,
    last_hour: 0.4,
};

/// Stolen cards: dear goods that are easily sold on, from abroad, many at a time.
const KNOWN: Profile = Profile {
    categories: [5.0, 5.0, 3.0, 19.0, 2.0, 2.0, 36.0, 4.0, 4.0, 20.0],
    countries: [24.0, 20.0, 15.0, 15.0, 10.0, 10.0, 4.0, 2.0],
    amount: 0.4,
    abroad: 0.65,
    online: 0.8,
    night: 0.12,
    card_age: 5.7,
    last_hour: 1.7,
};

/// Tickets bought online, at night, in one small country, at ordinary prices and with cards that look like anybody's:
/// payments that nobody had a reason to suspect.
const NEW: Profile = Profile {
    categories: [4.0, 4.0, 1.0, 4.0, 1.0, 4.0, 8.0, 1.0, 67.0, 6.0],
    countries: [6.0, 6.0, 4.0, 4.0, 3.0, 3.0, 2.0, 72.0],
    amount: 0.0,
    abroad: 0.33,
    online: 0.9,
    night: 0.75,
    card_age: 6.5,
    last_hour: 1.0,
};

/// Share of the fraud that follows the new pattern once the world has changed.
const NEW_SHARE: f64 = 0.6;

/// Who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// An honest customer.
    Honest,
    /// The fraud that was there from the start.
    Known,
    /// The fraud that comes with the change.
    New,
}

/// How the record of a payment is fit to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A payment as it should be.
    Ordinary,
    /// A test payment, which the SQL filters.
    Test,
    /// A record that cannot be decoded.
    Malformed(Fault),
}

/// What is wrong with a malformed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Cut off somewhere.
    Truncated,
    /// The amount is a text.
    TextForNumber,
    /// The hour has a fraction.
    FractionForInteger,
    /// Nothing in it.
    Empty,
}

/// A payment as it really was, before anything goes wrong on its way.
#[derive(Debug, Clone)]
pub(super) struct Payment {
    pub(super) at_ms: i64,
    pub(super) pattern: Pattern,
    pub(super) form: Form,
    pub(super) category: usize,
    pub(super) merchant: u64,
    pub(super) country: usize,
    /// `None` where the record lacks it.
    pub(super) card_country: Option<usize>,
    pub(super) amount_cents: u64,
    /// Local time of the day, 0 to 23.
    pub(super) hour: u64,
    /// `None` where the record has null.
    pub(super) card_age_days: Option<u64>,
    /// `None` where the record has null.
    pub(super) last_hour: Option<u64>,
    pub(super) online: bool,
    /// Whether the merchant's feed sends the amount in cents for euros.
    pub(super) in_cents: bool,
    /// When its outcome becomes known, if ever.
    pub(super) outcome_ms: Option<i64>,
    /// Where a truncated record is cut, as a share of its length.
    pub(super) cut: f64,
}

/// A [`Profile`] with what drawing from it needs.
struct Drawn {
    profile: &'static Profile,
    categories: [f64; 10],
    countries: [f64; 8],
    no_payment: f64,
}

impl Drawn {
    fn new(profile: &'static Profile) -> Self {
        Self {
            profile,
            categories: cumulated(profile.categories),
            countries: cumulated(profile.countries),
            no_payment: (-profile.last_hour).exp(),
        }
    }
}

/// Shares, each with those before it.
fn cumulated<const N: usize>(weights: [f64; N]) -> [f64; N] {
    let whole: f64 = weights.iter().sum();
    let mut sum = 0.0;
    weights.map(|weight| {
        sum += weight / whole;
        sum
    })
}

/// All payments of one seed.
pub(super) struct World {
    config: PaymentsConfig,
    honest: Drawn,
    known: Drawn,
    new: Drawn,
}

impl World {
    pub(super) fn new(config: PaymentsConfig) -> Self {
        Self {
            config,
            honest: Drawn::new(&HONEST),
            known: Drawn::new(&KNOWN),
            new: Drawn::new(&NEW),
        }
    }

    pub(super) fn config(&self) -> &PaymentsConfig {
        &self.config
    }

    /// When payment `number` is made, in milliseconds since 1970.
    pub(super) fn at_ms(&self, number: u64) -> i64 {
        let after = u128::from(number) * 1_000 / u128::from(self.config.rate_per_s.max(1));
        self.config
            .start_ms
            .saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
    }

    /// Payment `number`.
    pub(super) fn payment(&self, number: u64) -> Payment {
        let mut draws = Draws::new(self.config.seed, number);
        let at_ms = self.at_ms(number);
        let form = self.form(&mut draws);
        let pattern = self.pattern(&mut draws, at_ms);
        let drawn = match pattern {
            Pattern::Honest => &self.honest,
            Pattern::Known => &self.known,
            Pattern::New => &self.new,
        };
        let profile = drawn.profile;
        let category = draws.pick(&drawn.categories);
        let merchant = draws.below(MERCHANTS);
        let country = draws.pick(&drawn.countries);
        let elsewhere = 1 + draws.below(COUNTRIES.len() as u64 - 1) as usize;
        let abroad = draws.chance(profile.abroad);
        let (a, b) = draws.normals();
        let card_country = if abroad {
            (country + elsewhere) % COUNTRIES.len()
        } else {
            country
        };
        Payment {
            at_ms,
            pattern,
            form,
            category,
            merchant,
            country,
            card_country: draws.unless(0.005, card_country),
            amount_cents: cents(AMOUNTS[category] + profile.amount + AMOUNT_SD * a),
            hour: if draws.chance(profile.night) {
                draws.below(6)
            } else {
                6 + draws.below(18)
            },
            card_age_days: draws.unless(0.01, (profile.card_age + b).exp() as u64),
            last_hour: {
                let count = draws.poisson(drawn.no_payment);
                draws.unless(0.005, count)
            },
            online: draws.chance(profile.online),
            in_cents: self.in_cents(at_ms, category, merchant),
            outcome_ms: self.outcome_ms(&mut draws, at_ms, form),
            cut: draws.uniform(),
        }
    }

    fn form(&self, draws: &mut Draws) -> Form {
        let place = draws.uniform();
        let fault = draws.below(4);
        if place < self.config.malformed_share {
            return Form::Malformed(match fault {
                0 => Fault::Truncated,
                1 => Fault::TextForNumber,
                2 => Fault::FractionForInteger,
                _ => Fault::Empty,
            });
        }
        if place < self.config.malformed_share + self.config.test_share {
            Form::Test
        } else {
            Form::Ordinary
        }
    }

    fn pattern(&self, draws: &mut Draws, at_ms: i64) -> Pattern {
        let (fraud, new) = (draws.chance(self.config.fraud_rate), draws.chance(NEW_SHARE));
        let changed = self
            .config
            .drift_at
            .is_some_and(|after| at_ms >= self.config.moment_ms(after));
        match (fraud, changed && new) {
            (false, _) => Pattern::Honest,
            (true, false) => Pattern::Known,
            (true, true) => Pattern::New,
        }
    }

    fn in_cents(&self, at_ms: i64, category: usize, merchant: u64) -> bool {
        let bad = self
            .config
            .bad_feed
            .is_some_and(|(from, to)| (self.config.moment_ms(from)..self.config.moment_ms(to)).contains(&at_ms));
        bad && (category, merchant) == BAD_FEED
    }

    /// Whether and when an outcome becomes known depends on nothing but chance: labels are a fair sample. Records
    /// that are filtered or cannot be decoded have none, as nobody would wait for it.
    fn outcome_ms(&self, draws: &mut Draws, at_ms: i64, form: Form) -> Option<i64> {
        let delay = self.config.label_delay;
        let (known, (spread, _)) = (draws.chance(self.config.label_share), draws.normals());
        if !known || form != Form::Ordinary {
            return None;
        }
        let seconds = (delay.median_s * (delay.sigma * spread).exp()).min(delay.max_s);
        // A number that is none becomes 0.
        Some(at_ms.saturating_add(((seconds * 1_000.0) as i64).max(1)))
    }
}

/// Euros by their logarithm, in cents.
fn cents(log_euros: f64) -> u64 {
    ((log_euros.exp() * 100.0) as u64).clamp(1, AMOUNT_MAX_CENTS)
}

/// Draws of one payment.
struct Draws(Pcg64Mcg);

impl Draws {
    fn new(seed: u64, number: u64) -> Self {
        // Seeds that follow each other lie far apart, so that their payments do not overlap.
        Self(Pcg64Mcg::seed_from_u64(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(32)
                .wrapping_add(number),
        ))
    }

    /// From 0 to 1, without 1.
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, share: f64) -> bool {
        self.uniform() < share
    }

    /// `value`, but nothing in that share of the cases.
    fn unless<T>(&mut self, missing: f64, value: T) -> Option<T> {
        (!self.chance(missing)).then_some(value)
    }

    /// Below `bound`, each number as often as any other but for one part in 2^53.
    fn below(&mut self, bound: u64) -> u64 {
        (self.uniform() * bound as f64) as u64
    }

    fn pick(&mut self, cumulated: &[f64]) -> usize {
        let place = self.uniform();
        // Rounding may leave the last sum just below 1.
        cumulated
            .iter()
            .position(|&end| place < end)
            .unwrap_or(cumulated.len() - 1)
    }

    /// Two independent standard normal numbers (Box and Muller, Annals of Mathematical Statistics 1958).
    fn normals(&mut self) -> (f64, f64) {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        (radius * cos, radius * sin)
    }

    /// A Poisson number by multiplication (Knuth, The Art of Computer Programming 2, 3.4.1), `none` being the
    /// probability of 0; the mean is small here.
    fn poisson(&mut self, none: f64) -> u64 {
        let (mut count, mut product) = (0, self.uniform());
        while product > none {
            count += 1;
            product *= self.uniform();
        }
        count
    }
}
