#!/usr/bin/env python3
"""Creates the topics of flights.toml and fills the two inputs in time order.

    produce.py --brokers HOST:PORT DIR [--partitions 2] [--seconds S] [--only topics|records]

Both streams go out merged by time, a departure before an arrival of the same moment. The timestamp of a record is the
time of its event (CreateTime), so a replay at any speed tells the engine when each label became known. Events of 2013
are older than any retention by time: the topics keep everything.

With --seconds the records are spread over so long in proportion to their own time. A training job takes its second of
real time at any speed of replay; the slower the replay, the less of the year it misses.
"""

import argparse
import collections
import heapq
import json
import pathlib
import time

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

DEPARTURES, ARRIVALS = "flights.departures", "flights.arrivals"
OUTPUTS = ["flights.predictions", "flights.frozen.predictions", "flights.dead", "flights.frozen.dead"]


def create_topics(brokers, partitions):
    """A topic that is there already stops the run: counts over a topic filled twice would mean nothing."""
    keep = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
    topics = [NewTopic(name, partitions, config=keep) for name in [DEPARTURES, ARRIVALS, *OUTPUTS]]
    # Held until every answer is in: the client's end would end its requests.
    admin = AdminClient({"bootstrap.servers": brokers})
    for name, future in admin.create_topics(topics).items():
        try:
            future.result()
        except KafkaException as error:
            raise SystemExit(f"flights: cannot create topic {name}: {error.args[0].str()}") from error


def events(path, topic, time_column, rank):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            yield event[time_column], rank, event["flight_id"], topic, line.rstrip("\n")


def last_time(directory):
    """When the last landing is; both files are in time order and nearly every departure lands."""
    with open(directory / "arrivals.jsonl", encoding="utf-8") as lines:
        return max((json.loads(line)["arrived_at"] for line in collections.deque(lines, 1)), default=0)


def wait(producer, until):
    while True:
        # Polling with a time-out would return at every delivery and so cost a whole core.
        producer.poll(0)
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.1))


def produce(brokers, directory, seconds):
    failed = []

    def delivered(error, _message):
        if error is not None:
            failed.append(error)

    producer = Producer(
        {"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 20, "compression.type": "zstd"}
    )
    merged = heapq.merge(
        events(directory / "departures.jsonl", DEPARTURES, "sched_dep", 0),
        events(directory / "arrivals.jsonl", ARRIVALS, "arrived_at", 1),
    )
    sent, started, first, last = 0, time.monotonic(), None, last_time(directory)
    for at, _rank, key, topic, line in merged:
        first = at if first is None else first
        if seconds and sent % 100 == 0:
            wait(producer, started + seconds * (at - first) / max(1, last - first))
        while True:
            try:
                producer.produce(topic, line, key=key, timestamp=at, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % 1000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if failed or left:
        raise SystemExit(f"flights: {len(failed) + left:,} of {sent:,} records were not delivered: {failed[:1]}")
    return sent


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("dir", type=pathlib.Path, help="the folder that data.py filled")
    arguments.add_argument("--brokers", required=True)
    arguments.add_argument("--partitions", type=int, default=2, help="of each topic")
    arguments.add_argument("--seconds", type=float, help="how long it takes; as fast as possible when absent")
    arguments.add_argument("--only", choices=["topics", "records"], help="create the topics, or fill those there are")
    options = arguments.parse_args()
    if options.only != "records":
        create_topics(options.brokers, options.partitions)
    if options.only != "topics":
        sent = produce(options.brokers, options.dir, options.seconds)
        print(f"flights: {sent:,} records produced")


if __name__ == "__main__":
    main()
