//! How `auto` learns whom to believe.
//!
//! Below, members have shares that follow how well each has predicted lately: the fixed-share forecaster on log loss
//! (Herbster and Warmuth, "Tracking the best expert", Machine Learning 1998). Its mean loses, against the best sequence
//! of members with `s` switches in `T` rows, at most `ln N + s ln(N / alpha) + T alpha` more or less, whatever the stream.
//! Beside it logarithmic pools learn weights of all members together by AdaGrad on log loss (Duchi, Hazan and Singer,
//! JMLR 2011), each at another rate, with a bias for each class and one for the classes that came last: they gain where
//! members know different things, which no mean of members can. Above, the fixed-share forecaster once more, over the
//! pools and the members' mean: it is never much worse than the best of them, and so than the best member.
//!
//! Of values the loss is the squared error in units of what has lately been usual, pools are sums, and there are no last
//! classes: the member `no-change` knows the last value.
//!
//! Shares are forgotten by what labels tell and not by rows: where a class is rare, a label tells next to nothing, and who
//! knew the last rare one must still be known when the next one comes.
//!
//! Where labels come `delay` rows late, rows that were predicted by the same knowledge are wrong together: so many
//! losses are one piece of evidence (Weinberger and Ordentlich, "On delayed prediction of individual sequences", IEEE
//! Transactions on Information Theory 2002, have `delay + 1` forecasters take turns, each of which sees one row in so
//! many; here their mean step is taken at every row).

use super::truth::Truth;
use super::worth::Worth;
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Task;
use crate::scorers::mixture::{Kind, Mixture, Parts, Pooled};

/// Step sizes of the pools: from one that settles to one that follows.
pub(super) const RATES: [f64; 3] = [0.02, 0.1, 0.5];
/// How many of the last classes have a bias.
pub(super) const RECENT: usize = 2;
/// What every member, and every pool, gets back of the shares of all after each row whose label tells a bit.
const MEMBER_SHARE: f64 = 0.01;
const POOL_SHARE: f64 = 0.001;
/// Sums of squared gradients begin with this: first steps are no leaps.
const SQUARES_START: f64 = 0.01;
/// A row counts at most this often.
const WEIGHT_MAX: f64 = 100.0;
/// Rows over which what is usual of values is remembered.
const VALUES_MEMORY: f64 = 1_000.0;
/// Deviations beyond move the weights of a pool as if they were this large; and none does before so many rows, whose
/// spread says nothing yet.
const DEVIATIONS_MAX: f64 = 5.0;
const VALUES_MIN: f64 = 10.0;
/// No recent class.
const NONE: u64 = u64::MAX;
/// Rows over which it is remembered how often each class came.
const CLASSES_MEMORY: f64 = 10_000.0;
/// A class that never comes is still counted as this: its logarithm stays finite.
const COUNT_MIN: f64 = 1e-6;
/// A round whose losses come to less, of classes in nats, says too little of who may rest: it goes on, up to so many
/// times. So few that the streams with as many rows of each class end rounds as ever; of payments of which one in 500 is
/// fraud a round holds ten frauds or so.
const ROUND_LOSS_MIN: f64 = 50.0;
const ROUND_PARTS_MAX: f64 = 64.0;

/// A pool as it learns: of members, of recent classes, of each class (or of the value).
#[derive(Debug, Clone)]
struct Pool {
    rate: f64,
    members: Vec<f64>,
    recent: [f64; RECENT],
    biases: Vec<f64>,
    /// Sums of squared gradients, in the same order.
    squares: Vec<f64>,
}

/// Shares, pools, trust.
pub(super) struct Weights {
    task: Task,
    shares: Vec<f64>,
    pools: Vec<Pool>,
    trust: Vec<f64>,
    recent: [u64; RECENT],
    worth: Worth,
    /// The losses of this round, how many they are, and the usual loss of a row, 0 while there is none.
    losses: [f64; 3],
    /// How often each class came lately, and of how many rows; none of values.
    classes: Vec<f64>,
    /// Rows between a row and its label.
    delay: u64,
    /// Of values: how many, their mean and variance, and the usual squared error in deviations.
    values: [f64; 4],
    /// Used again from row to row.
    gradient: Vec<f64>,
}

/// What a mixture said of a row.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) mixture: &'a Mixture,
    pub(super) parts: &'a Parts,
}

/// A row whose label is known, as it was to be predicted.
#[derive(Clone, Copy)]
pub(super) struct Judged<'a> {
    /// Who had a say then, and has one still.
    pub(super) active: &'a [usize],
    /// What these come to with the weights of now.
    pub(super) now: Said<'a>,
    /// What was said then.
    pub(super) then: Said<'a>,
    /// The last classes of then.
    pub(super) recent: [u64; RECENT],
    pub(super) label: f64,
    pub(super) weight: f64,
}

impl Weights {
    /// All members alike.
    pub(super) fn new(task: Task, members: usize, delay: u64) -> Self {
        let places = kind_of(task, [0.0; 4]).places();
        let pool = |rate| Pool {
            rate,
            members: vec![1.0 / members as f64; members],
            recent: [0.0; RECENT],
            biases: vec![0.0; places],
            squares: vec![SQUARES_START; members + RECENT + places],
        };
        Self {
            task,
            shares: vec![1.0 / members as f64; members],
            pools: RATES.iter().map(|rate| pool(*rate)).collect(),
            trust: vec![1.0 / (RATES.len() + 1) as f64; RATES.len() + 1],
            recent: [NONE; RECENT],
            worth: Worth::new(members),
            losses: [0.0; 3],
            classes: match task {
                Task::Regression => Vec::new(),
                _ => vec![1.0; places],
            },
            delay,
            values: [0.0, 0.0, 0.0, 1.0],
            gradient: Vec::new(),
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let places = kind_of(self.task, self.values).places();
        let members = self.shares.len();
        // A pool has its numbers, and the mixture has them again.
        let pool = size_of::<Pool>() + size_of::<Pooled>() + 8 * (3 * members + 3 * places + RECENT);
        let parts = 8 * places * (2 * members + 2 * self.trust.len() + 4);
        let own = 16 * members + 8 * self.classes.len() + self.worth.bytes(places);
        size_of::<Self>() + own + self.pools.len() * pool + parts
    }

    /// What these members are mixed to now.
    pub(super) fn mixture(&self, active: &[usize]) -> Mixture {
        let pool = |pool: &Pool| Pooled {
            weights: vec![0.0; active.len()],
            biases: vec![0.0; pool.biases.len()],
        };
        let mut mixture = Mixture {
            kind: kind_of(self.task, self.values),
            shares: vec![0.0; active.len()],
            pools: self.pools.iter().map(pool).collect(),
            trust: self.trust.clone(),
        };
        self.show(active, self.recent, &mut mixture);
        mixture
    }

    /// The classes that came last.
    pub(super) fn recent(&self) -> [u64; RECENT] {
        self.recent
    }

    /// Brings the mixture of these members up to date, to be asked after these classes.
    pub(super) fn show(&self, active: &[usize], recent: [u64; RECENT], mixture: &mut Mixture) {
        mixture.kind = kind_of(self.task, self.values);
        let total: f64 = active.iter().map(|&member| self.shares[member]).sum();
        for (share, &member) in mixture.shares.iter_mut().zip(active) {
            *share = self.shares[member] / total;
        }
        mixture.trust.copy_from_slice(&self.trust);
        for (own, shown) in self.pools.iter().zip(&mut mixture.pools) {
            for (weight, &member) in shown.weights.iter_mut().zip(active) {
                *weight = own.members[member];
            }
            shown.biases.copy_from_slice(&own.biases);
            for (&class, bias) in recent.iter().zip(&own.recent) {
                if let Some(shown) = usize::try_from(class)
                    .ok()
                    .and_then(|class| shown.biases.get_mut(class))
                {
                    *shown += bias;
                }
            }
        }
    }

    /// Learns from a usable row, the `seen`th.
    pub(super) fn learn(&mut self, row: Judged<'_>, seen: u64) {
        let row = Judged {
            weight: row.weight.min(WEIGHT_MAX),
            ..row
        };
        let Said { mixture, parts } = row.now;
        let places = mixture.kind.places();
        let truth = Truth::of(mixture.kind, row.label, self.values[3]);
        let (told, pace) = (self.told(), self.pace());
        self.worth.ask(row.active, mixture, parts, truth, seen);
        self.share(row, truth, pace, pace * told);
        for index in 0..self.pools.len() {
            let said = &parts.experts[index * places..(index + 1) * places];
            self.descend(index, row, truth, said);
        }
        let Said { mixture, parts } = row.then;
        let truth = Truth::of(mixture.kind, row.label, self.values[3]);
        let losses = parts.experts.chunks_exact(places).map(|said| truth.loss(said));
        move_shares(&mut self.trust, losses, pace * row.weight, pace * told * POOL_SHARE);
        // Of values in deviations: what is usual among them must not hide that it grows.
        let loss = match truth {
            Truth::Class(_) => truth.loss(&parts.mixed),
            Truth::Value { .. } => truth.miss(0, parts.mixed.first().copied().unwrap_or_default()).abs(),
        };
        (self.losses[0], self.losses[1]) = (self.losses[0] + loss, self.losses[1] + 1.0);
        self.note(row.label, truth, &parts.mixed);
    }

    /// How much a label tells lately, in bits, at most 1: the entropy of how often each class came. Of a value 1.
    fn told(&self) -> f64 {
        let total: f64 = self.classes.iter().sum();
        let entropy = self
            .classes
            .iter()
            .map(|count| -(count / total) * (count / total).log2());
        match self.task {
            Task::Regression => 1.0,
            _ => entropy.sum::<f64>().min(1.0),
        }
    }

    /// How much a row counts as evidence: those that wait for their labels are wrong together.
    fn pace(&self) -> f64 {
        match self.delay {
            0 => 1.0,
            delay => 1.0 / (1.0 + delay as f64 * self.told()),
        }
    }

    /// Moves the shares of the members.
    fn share(&mut self, row: Judged<'_>, truth: Truth, pace: f64, told: f64) {
        let (active, Said { mixture, parts }) = (row.active, row.now);
        self.gradient.clear();
        self.gradient.extend(active.iter().map(|&member| self.shares[member]));
        let said = parts.said.chunks_exact(mixture.kind.places());
        let losses = said.map(|said| truth.loss(said));
        move_shares(&mut self.gradient, losses, pace * row.weight, told * MEMBER_SHARE);
        for (&member, share) in active.iter().zip(&self.gradient) {
            self.shares[member] = *share;
        }
    }

    /// A step of one pool along the gradient of its loss.
    fn descend(&mut self, index: usize, row: Judged<'_>, truth: Truth, said: &[f64]) {
        if matches!(truth, Truth::Value { .. }) && self.values[0] < VALUES_MIN {
            return;
        }
        // The squares of a few absurd values would stop a pool for good.
        let bound = match truth {
            Truth::Class(_) => f64::INFINITY,
            Truth::Value { .. } => DEVIATIONS_MAX,
        };
        self.gradient.clear();
        let misses = said.iter().enumerate().map(|(place, said)| truth.miss(place, *said));
        self.gradient.extend(misses.map(|miss| miss.clamp(-bound, bound)));
        let (misses, pool) = (&self.gradient, &mut self.pools[index]);
        let all = pool.members.len();
        let step = |number: &mut f64, square: &mut f64, gradient: f64| {
            let gradient = row.weight * gradient;
            *square += gradient * gradient;
            *number += pool.rate * gradient / square.sqrt();
        };
        for (&member, terms) in row.active.iter().zip(row.now.parts.terms.chunks_exact(said.len())) {
            let gradient = misses
                .iter()
                .zip(terms)
                .map(|(miss, term)| miss * term.clamp(-bound, bound))
                .sum();
            step(&mut pool.members[member], &mut pool.squares[member], gradient);
        }
        let (recent, biases) = pool.squares[all..].split_at_mut(RECENT);
        for ((&class, number), square) in row.recent.iter().zip(&mut pool.recent).zip(recent) {
            if let Some(miss) = usize::try_from(class).ok().and_then(|class| misses.get(class)) {
                step(number, square, *miss);
            }
        }
        for ((number, square), miss) in pool.biases.iter_mut().zip(biases).zip(misses) {
            step(number, square, *miss);
        }
    }

    /// Takes note of what a row was: the next one will be compared with it.
    fn note(&mut self, label: f64, truth: Truth, mixed: &[f64]) {
        let Truth::Value { .. } = truth else {
            self.recent.rotate_right(1);
            self.recent[0] = label as u64;
            self.count(label as usize);
            return;
        };
        let miss = truth.miss(0, mixed.first().copied().unwrap_or_default());
        let [count, mean, variance, usual] = &mut self.values;
        *count += 1.0;
        let rate = (1.0 / *count).max(1.0 / VALUES_MEMORY);
        let distance = label - *mean;
        *mean += rate * distance;
        *variance = (1.0 - rate) * (*variance + rate * distance * distance);
        if *count > VALUES_MIN {
            let miss = miss.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX);
            *usual = (*usual + rate * (miss * miss - *usual)).max(1e-12);
        }
    }

    /// Counts a class, and forgets.
    fn count(&mut self, class: usize) {
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1.0;
        }
        let total: f64 = self.classes.iter().sum();
        if total > CLASSES_MEMORY {
            let left = CLASSES_MEMORY / total;
            self.classes
                .iter_mut()
                .for_each(|count| *count = (*count * left).max(COUNT_MIN));
        }
    }

    /// What each member was good for.
    pub(super) fn worth(&mut self) -> &mut Worth {
        &mut self.worth
    }

    /// Whether the losses of a round, in parts of so many rows, say enough to end it.
    pub(super) fn is_round_told(&self, part_rows: u64) -> bool {
        let [sum, count, _] = self.losses;
        let is_value = self.task == Task::Regression;
        is_value || sum * self.pace() >= ROUND_LOSS_MIN || count >= ROUND_PARTS_MAX * part_rows as f64
    }

    /// Ends a round; gives whether its loss was `alarm` times the usual one or more. That is a mean that forgets, over so
    /// many rounds.
    pub(super) fn end_round(&mut self, alarm: f64, rounds: f64) -> bool {
        let [sum, count, usual] = &mut self.losses;
        let loss = *sum / count.max(1.0);
        let is_alarmed = *usual > 0.0 && loss > alarm * *usual;
        *usual = if *usual > 0.0 {
            *usual + (loss - *usual) / rounds
        } else {
            loss
        };
        (*sum, *count) = (0.0, 0.0);
        is_alarmed
    }

    /// A member leaves: its part goes to the others, in proportion.
    pub(super) fn leave(&mut self, member: usize, active: &[usize]) {
        for pool in &mut self.pools {
            let others = active.iter().filter(|other| **other != member);
            let rest: f64 = others.map(|&other| pool.members[other]).sum();
            let total = rest + pool.members[member];
            if rest > 0.1 * total && total > 0.0 {
                let active = active.iter().filter(|other| **other != member);
                active.for_each(|&other| pool.members[other] *= total / rest);
            }
            pool.members[member] = 0.0;
        }
    }

    /// A member comes back, with hardly a say: it has to earn one.
    pub(super) fn enter(&mut self, member: usize) {
        self.shares[member] = MEMBER_SHARE / self.shares.len() as f64;
        self.worth.forget(member);
    }

    /// A member's part of what is said: its share and its weights in the pools, by the trust in each.
    pub(super) fn part(&self, member: usize, active: &[usize]) -> f64 {
        let of = |numbers: &[f64]| {
            let total: f64 = active.iter().map(|&member| numbers[member].abs()).sum();
            if total > 0.0 {
                numbers[member].abs() / total
            } else {
                0.0
            }
        };
        let lists = self.pools.iter().map(|pool| &pool.members).chain([&self.shares]);
        lists.zip(&self.trust).map(|(numbers, trust)| trust * of(numbers)).sum()
    }

    /// Appends all that was learned.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.recent.iter().for_each(|class| out.put_u64(*class));
        self.worth.write(out);
        for numbers in self.numbers() {
            numbers.iter().for_each(|number| out.put_f64(*number));
        }
    }

    /// Reads what was written with as many members and classes.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), CodecError> {
        for class in &mut self.recent {
            *class = reader.u64()?;
        }
        self.worth.read(reader)?;
        let lists = [&mut self.shares, &mut self.trust];
        for number in lists.into_iter().flatten() {
            *number = reader.finite()?;
            if !(*number > 0.0 && *number <= 1.0) {
                return Err(reader.error("a share is above 0 and at most 1"));
            }
        }
        for number in self.losses.iter_mut().chain(&mut self.values) {
            *number = reader.finite()?;
        }
        for count in &mut self.classes {
            *count = reader.finite()?;
            if !(*count > 0.0 && *count <= 2.0 * CLASSES_MEMORY) {
                return Err(reader.error("a class came more often than never, and not more often than is remembered"));
            }
        }
        if self.values[2] < 0.0 || self.values[3] <= 0.0 {
            return Err(reader.error("a variance is not below 0"));
        }
        for pool in &mut self.pools {
            let numbers = pool.members.iter_mut().chain(&mut pool.recent).chain(&mut pool.biases);
            for number in numbers {
                *number = reader.finite()?;
            }
            for square in &mut pool.squares {
                *square = reader.finite()?;
                if *square <= 0.0 {
                    return Err(reader.error("a sum of squares is above 0"));
                }
            }
        }
        Ok(())
    }

    /// All numbers, in the order in which they are written.
    fn numbers(&self) -> impl Iterator<Item = &[f64]> {
        let pools = self.pools.iter();
        let pools = pools.flat_map(|pool| [&pool.members[..], &pool.recent, &pool.biases, &pool.squares]);
        [&self.shares[..], &self.trust, &self.losses, &self.values, &self.classes]
            .into_iter()
            .chain(pools)
    }
}

/// What is mixed for a task, of values around what they have been lately.
fn kind_of(task: Task, values: [f64; 4]) -> Kind {
    match task {
        Task::Multiclass { classes } => Kind::Classes(classes as usize),
        Task::Regression => {
            let spread = values[2].sqrt();
            Kind::Values {
                center: values[1],
                spread: if spread > 1e-12 * values[1].abs() && spread > 0.0 {
                    spread
                } else {
                    1.0
                },
            }
        }
        Task::Binary | Task::Anomaly => Kind::Binary,
    }
}

/// Moves the weights of a mean by the losses of a row, and gives `back` of all of them back to each alike.
fn move_shares(shares: &mut [f64], losses: impl Iterator<Item = f64> + Clone, weight: f64, back: f64) {
    let least = losses.clone().fold(f64::INFINITY, f64::min);
    for (share, loss) in shares.iter_mut().zip(losses) {
        *share *= (weight * (least - loss)).exp();
    }
    let total: f64 = shares.iter().sum();
    let even = back / shares.len() as f64;
    shares
        .iter_mut()
        .for_each(|share| *share = (1.0 - back) * *share / total + even);
}
