//! Every record has exactly one outcome, whatever dies in between.

use std::time::Duration;

use driftmill_tests::kafka::Broker;
use driftmill_tests::kill::Kills;
use driftmill_tests::proxy::{END_TXN, OFFSET_COMMIT, OFFSETS_IN_TXN, Proxy, Then};

use crate::pipeline::{LIMIT, Pipeline};

/// The short form of a run; `DRIFTMILL_KILLS` and `DRIFTMILL_SEED` ask for the full one or for another.
fn kills() -> Kills {
    let number = |name: &str, otherwise: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => otherwise,
    };
    Kills {
        seed: number("DRIFTMILL_SEED", 3),
        times: u32::try_from(number("DRIFTMILL_KILLS", 5)).unwrap(),
        after: Duration::from_millis(100)..Duration::from_millis(4000),
    }
}

/// Kills a pipeline again and again while its input grows, lets it finish, and returns it with what it owes.
fn tormented(broker: &'static Broker, delivery: &'static str) -> driftmill_tests::outcomes::Balance {
    let pipeline = Pipeline::new(broker, delivery);
    let (kills, per_round) = (kills(), 2000);
    let fed = std::cell::Cell::new(0);
    let feed = |_round: u32| {
        pipeline.feed(fed.get()..fed.get() + per_round);
        fed.set(fed.get() + per_round);
    };
    let struck = kills.run(|armed| pipeline.start_armed(armed), feed);
    let ready = struck.iter().filter(|hit| hit.ready.is_some()).count();
    eprintln!(
        "{delivery}: {ready} of {} kills hit a daemon that was ready",
        struck.len()
    );
    let balance = pipeline.finish(pipeline.start());
    eprintln!("{delivery}: {balance}");
    assert_eq!(balance.inputs as i64, fed.get());
    balance
}

#[test]
fn exactly_once_survives_kill_9() {
    let Some(broker) = Broker::shared() else { return };
    tormented(broker, "exactly-once").assert_exactly_once();
}

#[test]
fn at_least_once_survives_kill_9() {
    let Some(broker) = Broker::shared() else { return };
    tormented(broker, "at-least-once").assert_at_least_once();
}

/// The daemon cannot know whether the transaction was committed: it must find out, and neither lose nor repeat it.
fn answer_lost(then: Then) {
    let Some(broker) = Broker::shared() else { return };
    let Some(proxy) = Proxy::before(broker) else { return };
    let pipeline = Pipeline::new(broker, "exactly-once");
    pipeline.feed(0..3000);
    let mut daemon = pipeline.start_at(proxy.bootstrap());
    daemon.wait_records(3000, LIMIT);

    proxy.hold(END_TXN, 1, then);
    pipeline.feed(3000..4000);
    proxy.wait_held(1, LIMIT);
    match then {
        Then::Cut => {}
        Then::CutAndRefuse => {
            std::thread::sleep(Duration::from_secs(2));
            proxy.refuse(false);
        }
        Then::Keep => {
            // Past the client's own patience with a request: it comes back by another connection, for which the late
            // answer is none.
            proxy.wait_accepted(proxy.accepted() + 1, LIMIT);
            proxy.release();
        }
    }
    pipeline.feed(4000..6000);
    let balance = pipeline.finish(daemon);
    eprintln!("{then:?}: {balance}");
    assert_eq!(balance.inputs, 6000);
    balance.assert_exactly_once();
}

#[test]
fn a_lost_answer_to_a_commit_loses_and_repeats_nothing() {
    answer_lost(Then::Cut);
}

#[test]
fn a_lost_answer_and_a_broker_away_lose_and_repeat_nothing() {
    answer_lost(Then::CutAndRefuse);
}

#[test]
fn a_late_answer_to_a_commit_loses_and_repeats_nothing() {
    answer_lost(Then::Keep);
}

/// Group offsets are for lag tools. When a broker never answers to them, nothing waits: not the commits, and not the
/// end.
#[test]
fn an_answer_to_group_offsets_that_never_comes_holds_nothing_up() {
    let Some(broker) = Broker::shared() else { return };
    for delivery in ["at-least-once", "exactly-once"] {
        let Some(proxy) = Proxy::before(broker) else { return };
        let pipeline = Pipeline::new(broker, delivery);
        let group = format!("driftmill-{}", pipeline.name);
        proxy.hold(OFFSET_COMMIT, u32::MAX, Then::Keep);
        pipeline.feed(0..2000);
        let mut daemon = pipeline.start_at(proxy.bootstrap());
        proxy.wait_held(1, LIMIT);
        pipeline.feed(2000..4000);
        daemon.wait_records(4000, LIMIT);
        daemon.wait_for("every epoch committed", LIMIT, |daemon| {
            let metrics = daemon.metrics()?;
            let epochs = metrics.get("driftmill_epochs_total", &[])?;
            (metrics.get("driftmill_epoch_committed", &[])? == epochs).then_some(())
        });
        let status = daemon.terminate(LIMIT);
        assert!(status.success(), "{delivery}: {status}\n{}", daemon.log());
        for key in OFFSETS_IN_TXN {
            assert_eq!(proxy.requests(key), 0, "{delivery}: group offsets in a transaction");
        }
        drop(proxy);
        let balance = pipeline.balance();
        eprintln!("{delivery}: {balance}");
        assert_eq!(balance.inputs, 4000);
        balance.assert_exactly_once();

        // As soon as brokers answer, lag tools show where the pipeline stands.
        pipeline.feed(4000..4100);
        let mut daemon = pipeline.start();
        daemon.wait_for("group offsets at the end", LIMIT, |_| {
            (broker.group_lag(&group, &pipeline.topic("in")) == Some(0)).then_some(())
        });
        let balance = pipeline.finish(daemon);
        assert_eq!(balance.inputs, 4100);
        balance.assert_at_least_once();
    }
}
