//! What every metric is: name, type, labels, unit and help, said once where it is registered. The page for operators is
//! made of the same values.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
};

/// Type of a metric, as Prometheus names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows while the process lives; a restart sets it to zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label: its name, and what its values are.
pub type Label = (&'static str, &'static str);

/// A metric as it is told to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Unit of its values.
    pub unit: &'static str,
    /// Its labels, beside `pipeline`, which every metric has.
    pub labels: &'static [Label],
    /// What it means, in sentences.
    pub help: String,
}

/// How a metric is named, measured and explained.
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    pub(super) help: &'a str,
}

/// Short for [`About`].
pub(super) fn about<'a>(name: &'a str, unit: &'static str, help: &'a str) -> About<'a> {
    About { name, unit, help }
}

/// Registers metrics and keeps their definitions, in the order of the page.
pub(super) struct Definer<'a> {
    registry: &'a Registry,
    pub(super) definitions: Vec<Definition>,
}

impl<'a> Definer<'a> {
    pub(super) fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            definitions: Vec::new(),
        }
    }

    fn add<M: Collector + Clone + 'static>(
        &mut self,
        about: &About<'_>,
        kind: Kind,
        labels: &'static [Label],
        metric: M,
    ) -> Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        self.definitions.push(Definition {
            name: about.name.to_owned(),
            kind,
            unit: about.unit,
            labels,
            help: about.help.to_owned(),
        });
        Ok(metric)
    }

    pub(super) fn counter(&mut self, about: &About<'_>) -> Result<IntCounter> {
        let metric = IntCounter::new(about.name, about.help)?;
        self.add(about, Kind::Counter, &[], metric)
    }

    pub(super) fn counters(&mut self, about: &About<'_>, labels: &'static [Label]) -> Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(about.name, about.help), &names(labels))?;
        self.add(about, Kind::Counter, labels, metric)
    }

    pub(super) fn gauge(&mut self, about: &About<'_>) -> Result<IntGauge> {
        let metric = IntGauge::new(about.name, about.help)?;
        self.add(about, Kind::Gauge, &[], metric)
    }

    pub(super) fn gauges(&mut self, about: &About<'_>, labels: &'static [Label]) -> Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(about.name, about.help), &names(labels))?;
        self.add(about, Kind::Gauge, labels, metric)
    }

    pub(super) fn float(&mut self, about: &About<'_>) -> Result<Gauge> {
        let metric = Gauge::new(about.name, about.help)?;
        self.add(about, Kind::Gauge, &[], metric)
    }

    pub(super) fn floats(&mut self, about: &About<'_>, labels: &'static [Label]) -> Result<GaugeVec> {
        let metric = GaugeVec::new(Opts::new(about.name, about.help), &names(labels))?;
        self.add(about, Kind::Gauge, labels, metric)
    }

    /// Buckets from 100 µs to about 100 s.
    pub(super) fn seconds(&mut self, about: &About<'_>) -> Result<Histogram> {
        self.histogram(about, (0..21).map(|step| 1e-4 * 2f64.powi(step)).collect())
    }

    /// Buckets from 1 to about 16,000.
    pub(super) fn sizes(&mut self, about: &About<'_>) -> Result<Histogram> {
        self.histogram(about, (0..8).map(|step| 4f64.powi(step)).collect())
    }

    fn histogram(&mut self, about: &About<'_>, buckets: Vec<f64>) -> Result<Histogram> {
        let metric = Histogram::with_opts(HistogramOpts::new(about.name, about.help).buckets(buckets))?;
        self.add(about, Kind::Histogram, &[], metric)
    }
}

fn names(labels: &'static [Label]) -> Vec<&'static str> {
    labels.iter().map(|(name, _)| *name).collect()
}
