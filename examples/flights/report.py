#!/usr/bin/env python3
"""What the year was like, read from the topics alone.

    report.py --brokers HOST:PORT [--png FILE] [--json FILE] [--check]

Prints log loss, accuracy and PR-AUC of the live pipeline, of its frozen first model (flights.frozen.predictions), and
of the class as it was known at each departure: the running share of late flights among those landed by then, and its
majority. All are judged on the same flights: those with a label and a score of every model. Swaps are read off the
predictions (each names its model); jobs, the alarms that asked for them and the gate's verdicts off the epoch log.

--check counts that every departure has exactly one outcome, prediction, filtered or dead letter, and fails otherwise;
--better fails unless the live pipeline has the lowest log loss and the highest accuracy and PR-AUC.
"""

import argparse
import collections
import json
import time

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

EPOCHS = "driftmill.flights.epochs"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# The WHERE of flights.toml, said again: the report must not trust the engine with it.
FILTERED_CARRIERS = {"OO"}


def read(brokers, topic):
    """Every committed record of a topic, from its beginning to its end now; None when there is no such topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "flights-report",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        found = consumer.list_topics(topic, timeout=20).topics[topic]
        if found.error is not None:
            return None
        consumer.assign([TopicPartition(topic, partition, 0) for partition in found.partitions])
        return list(drain(consumer, len(found.partitions)))
    finally:
        consumer.close()


def drain(consumer, partitions):
    ended, last = set(), time.monotonic()
    while len(ended) < partitions:
        # It waits until the batch is full or the time is over, so the time is short.
        batch = consumer.consume(10_000, timeout=0.2)
        if batch:
            last = time.monotonic()
        elif time.monotonic() - last > 30:
            raise SystemExit("flights: Kafka gave nothing for 30 s before the end of a topic")
        for message in batch:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise SystemExit(f"flights: cannot read: {error.str()}")


def needed(brokers, topic):
    messages = read(brokers, topic)
    if messages is None:
        raise SystemExit(f"flights: topic {topic} does not exist; run produce.py and the daemon first")
    return messages


def load_labels(brokers):
    """flight_id to (arrived_at in ms, 1 when late)."""
    labels = {}
    for message in needed(brokers, "flights.arrivals"):
        row = json.loads(message.value())
        labels[row["flight_id"]] = (row["arrived_at"], int(row["late"]))
    return labels


def load_predictions(messages):
    """flight_id to (chance of being late or None, version)."""
    rows = {}
    for message in messages:
        row = json.loads(message.value())
        rows[row["flight_id"]] = (row["prediction"], row["driftmill"]["model"])
    return rows


def class_as_known(departures, labels):
    """For each departure the share of late flights among those landed by then: what the class alone could say."""
    landed = sorted(labels.values())
    shares, seen, late = {}, 0, 0
    for at, flight in departures:
        while seen < len(landed) and landed[seen][0] <= at:
            late += landed[seen][1]
            seen += 1
        # Laplace's rule of succession: a half before the first landing, and never exactly 0 or 1.
        shares[flight] = (late + 1) / (seen + 2)
    return shares


def log_loss(p, y):
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))


def accuracy(p, y):
    return float(np.mean((p > 0.5) == (y == 1)))


def pr_auc(p, y):
    """Average precision; equal scores are one threshold, so a constant score gives the share of positives."""
    if not y.any():
        return float("nan")
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    last = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    hits = np.cumsum(y)[last]
    precision, recall = hits / (last + 1), hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


MEASURES = {"log loss": log_loss, "accuracy": accuracy, "PR-AUC": pr_auc}


def months(at):
    """Of New York's standard time: the year ends at its own midnight."""
    return (at - 5 * HOUR_MS).astype("datetime64[ms]").astype("datetime64[M]")


def table(at, y, models):
    """Prints one line a month and one for the year; returns the year's numbers."""
    names = list(models)
    print(f"{'':9} {'flights':>8} {'late':>6}" + "".join(f" | {name:^26}" for name in names))
    print(f"{'':9} {'':8} {'':6}" + " | log loss accuracy  PR-AUC  " * len(names))
    of_month = months(at)
    for month in [*np.unique(of_month), None]:
        rows = of_month == month if month is not None else np.full(len(y), True)
        cells = [[measure(models[name][rows], y[rows]) for measure in MEASURES.values()] for name in names]
        title = str(month) if month is not None else "all"
        line = f"{title:9} {rows.sum():8,} {y[rows].mean():6.1%}"
        print(line + "".join(f" | {a:8.4f} {b:8.2%} {c:8.4f} " for a, b, c in cells))
    return {name: {title: measure(models[name], y) for title, measure in MEASURES.items()} for name in names}


def swaps(departures, predictions):
    """(time, version) at each departure whose model differs from the one before it."""
    changes, live = [], None
    for at, flight in departures:
        score, version = predictions.get(flight, (None, None))
        # `v2@1234` is a snapshot of the line `v2`: snapshots follow each other all year long.
        version = version and version.split("@")[0]
        if score is not None and version != live:
            changes.append((at, version))
            live = version
    return changes


def load_events(brokers):
    """What decided the pipeline's course, in order, each with the event time of its epoch as `time`."""
    events = []
    for message in needed(brokers, EPOCHS):
        epoch = json.loads(message.value())
        events += [{**event, "time": epoch["watermark_ms"]} for event in epoch["events"]]
    return events


def when(ms):
    return str(np.datetime64(int(ms), "ms"))[:16].replace("T", " ")


def print_story(changes, events):
    print("\nversions, by the first departure that each scored")
    for at, version in changes[:40]:
        print(f"  {when(at)}  {version}")
    if len(changes) > 40:
        print(f"  … and {len(changes) - 40} more")
    print("\nthe epoch log: what asked for training, and what the gate said")
    kinds = collections.Counter(kind(event) for event in events)
    print("  " + ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))
    for event in events:
        if event["type"] in TOLD:
            words = event.get("reason") or event.get("cause") or ""
            print(f"  {when(event['time'])}  {kind(event):18} {words}"[:220])


TOLD = {"job-started", "job-failed", "verdict", "rolled-back"}


def kind(event):
    """Its type; with what asked for the job, or what the gate said."""
    if event["type"] == "job-started":
        return f"job ({event['cause'].split()[0]})"
    return f"verdict {event['verdict']}" if event["type"] == "verdict" else event["type"]


def asked_by_alarm(event):
    return event["type"] == "job-started" and event["cause"].startswith("drift ")


def check(departures, predictions, dead):
    """Every departure's outcomes, counted by (topic, partition, offset). Returns the faults in words."""
    outcomes = collections.Counter(json.loads(message.value())["driftmill_at"] for message in predictions)
    predicted = sum(outcomes.values())
    for message in dead:
        headers = {name: value.decode() for name, value in message.headers() or []}
        place = "/".join(headers[f"driftmill.{part}"] for part in ("topic", "partition", "offset"))
        # A bad label is a dead letter too; it is no outcome of a departure.
        if headers["driftmill.topic"] == "flights.departures":
            outcomes[place] += 1
    filtered, missing, twice, unasked = 0, [], [], []
    for message in departures:
        place = f"{message.topic()}/{message.partition()}/{message.offset()}"
        wanted = json.loads(message.value())["carrier"] not in FILTERED_CARRIERS
        found = outcomes.pop(place, 0)
        filtered += not wanted
        if found == 0 and wanted:
            missing.append(place)
        elif found > 0 and not wanted:
            unasked.append(place)
        elif found > 1:
            twice.append(place)
    total = len(departures)
    dead_count = len([m for m in dead if dict(m.headers() or [])["driftmill.topic"] == b"flights.departures"])
    print(
        f"\nin {total:,} = predictions {predicted:,} + filtered {filtered:,} + dead letters {dead_count:,}"
        f" · missing {len(missing):,} · twice {len(twice):,}"
    )
    faults = {"missing": missing, "twice": twice, "predicted though filtered": unasked}
    faults["of no departure"] = list(outcomes)
    return [f"{len(places):,} {what}, the first {places[0]}" for what, places in faults.items() if places]


def draw(path, at, y, models, changes, events):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    week = (at - at.min()) // (7 * DAY_MS)
    colours = {"live": "tab:blue", "frozen first": "tab:orange", "class alone": "grey"}
    figure, panels = plt.subplots(len(MEASURES), 1, figsize=(11, 9), sharex=True, constrained_layout=True)
    for panel, (title, measure) in zip(panels, MEASURES.items()):
        for name, p in models.items():
            weeks = [w for w in np.unique(week) if (week == w).sum() >= 200]
            times = [np.datetime64(int(at[week == w].mean()), "ms") for w in weeks]
            values = [measure(p[week == w], y[week == w]) for w in weeks]
            panel.plot(times, values, label=name, color=colours[name], linewidth=2 if name == "live" else 1.2)
        for moment, _version in changes[1:]:
            panel.axvline(np.datetime64(moment, "ms"), color="tab:green", alpha=0.25, linewidth=1)
        for event in events:
            if asked_by_alarm(event):
                panel.axvline(np.datetime64(event["time"], "ms"), color="tab:red", alpha=0.25, linestyle=":")
        panel.set_ylabel(f"{title}, week by week")
        panel.grid(alpha=0.3)
    panels[0].set_title(f"Late flights from New York: {len(y):,} judged · green: swap · red: training after an alarm")
    panels[0].legend(loc="upper right", ncols=len(models))
    figure.savefig(path, dpi=110)
    print(f"\npicture: {path}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--brokers", required=True)
    arguments.add_argument("--png", help="draw the weeks into this file")
    arguments.add_argument("--json", help="write the numbers into this file")
    arguments.add_argument("--check", action="store_true", help="fail unless each departure has exactly one outcome")
    arguments.add_argument("--better", action="store_true", help="fail unless the live pipeline beats all others")
    options = arguments.parse_args()

    source = needed(options.brokers, "flights.departures")
    rows = [json.loads(message.value()) for message in source]
    departures = sorted((row["sched_dep"], row["flight_id"]) for row in rows)
    labels = load_labels(options.brokers)
    served = needed(options.brokers, "flights.predictions")
    live = load_predictions(served)
    frozen = load_predictions(read(options.brokers, "flights.frozen.predictions") or [])
    share = class_as_known(departures, labels)
    compared = [live, frozen] if frozen else [live]

    judged = [
        (at, flight)
        for at, flight in departures
        if flight in labels and all(model.get(flight, (None,))[0] is not None for model in compared)
    ]
    if not judged:
        raise SystemExit("flights: no labelled flight has a score yet")
    at = np.array([when_due for when_due, _ in judged])
    y = np.array([labels[flight][1] for _, flight in judged])
    models = {"live": np.array([live[flight][0] for _, flight in judged])}
    if frozen:
        models["frozen first"] = np.array([frozen[flight][0] for _, flight in judged])
    else:
        print("flights.frozen.predictions is empty: no frozen first model to compare with (frozen.toml makes it)\n")
    models["class alone"] = np.array([share[flight] for _, flight in judged])

    numbers = table(at, y, models)
    changes, events = swaps(departures, live), load_events(options.brokers)
    print_story(changes, events)
    if options.png:
        draw(options.png, at, y, models, changes, events)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump({"judged": len(y), "late": float(y.mean()), "models": numbers, "swaps": len(changes) - 1}, out)
    if options.better:
        names = [name for name in numbers if name != "live"]
        worse = [
            f"{title} of {name}"
            for name in names
            for title in MEASURES
            if (numbers["live"][title] < numbers[name][title]) != (title == "log loss")
        ]
        if worse:
            raise SystemExit("flights: the live pipeline is not better in " + ", ".join(worse))
        print("\nthe live pipeline is better than " + " and ".join(names) + " in " + ", ".join(MEASURES))
    if options.check:
        dead = read(options.brokers, "flights.dead") or []
        faults = check(source, served, dead)
        if faults:
            raise SystemExit("flights: " + "; ".join(faults))


if __name__ == "__main__":
    main()
