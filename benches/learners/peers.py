#!/usr/bin/env python3
"""Runs River's learners of the same names over streams, as `prequential` runs Driftmill's: same rows, same order, predict
and then learn, one pass, one thread, rows already parsed, and only predicting and learning timed.

    peers.py [--rows N] [--cap SECONDS] [--blocks N] [--learner NAME]... STREAM.csv...

A line of JSON for each stream and learner, in the form that `prequential --json` writes. A run that takes longer than
the cap ends with the block in which it does; its line says how many rows it saw. All settings are River's defaults,
but for ten members of each ensemble and a standardiser before what measures distances or adds inputs up, as linear models in
the leaves of trees do.
"""

import argparse
import csv
import json
import math
import pathlib
import statistics
import sys
import time

import river
from river import anomaly, compose, dummy, ensemble, forest, linear_model, naive_bayes, neighbors, preprocessing, tree

SEED = 1
CLIP = 1e-15


def scaled(model):
    return compose.Pipeline(preprocessing.StandardScaler(), model)


def window():
    return neighbors.LazySearch(window_size=1000)


class Answering:
    """Only the classes that a model answers: one that is always certain has no log loss worth telling."""

    def __init__(self, model):
        self.model, self.learn_one = model, model.learn_one

    def predict_one(self, x):
        return self.model.predict_one(x)


CLASSES = {
    "majority": lambda: dummy.PriorClassifier(),
    "no-change": lambda: Answering(dummy.NoChangeClassifier()),
    "naive-bayes": lambda: naive_bayes.GaussianNB(),
    "hoeffding-tree": lambda: tree.HoeffdingTreeClassifier(),
    "hoeffding-adaptive-tree": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=SEED),
    "extremely-fast-tree": lambda: tree.ExtremelyFastDecisionTreeClassifier(),
    "knn": lambda: scaled(neighbors.KNNClassifier(n_neighbors=5, engine=window())),
    "leveraging-bagging": lambda: ensemble.LeveragingBaggingClassifier(
        tree.HoeffdingTreeClassifier(), n_models=10, seed=SEED
    ),
    "adaptive-random-forest": lambda: forest.ARFClassifier(n_models=10, seed=SEED),
    "streaming-random-patches": lambda: ensemble.SRPClassifier(
        tree.HoeffdingTreeClassifier(), n_models=10, seed=SEED
    ),
}
PEERS = {
    "binary": {"sgd-logistic": lambda: scaled(linear_model.LogisticRegression()), **CLASSES},
    "multiclass": {"sgd-softmax": lambda: scaled(linear_model.SoftmaxRegression()), **CLASSES},
    "regression": {
        "sgd-linear": lambda: scaled(linear_model.LinearRegression()),
        "no-change": lambda: Last(),
        "majority": lambda: Mean(),
        "hoeffding-tree": lambda: scaled(tree.HoeffdingTreeRegressor()),
        "hoeffding-adaptive-tree": lambda: scaled(tree.HoeffdingAdaptiveTreeRegressor(seed=SEED)),
        "knn": lambda: scaled(neighbors.KNNRegressor(n_neighbors=5, engine=window())),
        "adaptive-random-forest": lambda: scaled(forest.ARFRegressor(n_models=10, seed=SEED)),
        "streaming-random-patches": lambda: scaled(
            ensemble.SRPRegressor(tree.HoeffdingTreeRegressor(), n_models=10, seed=SEED)
        ),
    },
    "anomaly": {
        "half-space-trees": lambda: compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=SEED)),
    },
}


class Last:
    """The value that came last."""

    def __init__(self):
        self.value = 0.0

    def predict_one(self, _x):
        return self.value

    def learn_one(self, _x, y):
        self.value = y


class Mean:
    """The mean of the values so far: what `majority` answers for a value."""

    def __init__(self):
        self.sum, self.count = 0.0, 0

    def predict_one(self, _x):
        return self.sum / self.count if self.count else 0.0

    def learn_one(self, _x, y):
        self.sum, self.count = self.sum + y, self.count + 1


def read(path, rows_max):
    """Features as River takes them, labels, and the task."""
    with open(path, encoding="utf-8") as lines:
        reader = csv.reader(lines)
        names = next(reader)
        kind = {"value": "regression", "anomaly": "anomaly"}.get(names[-1])
        features, labels = [], []
        for cells in reader:
            if len(labels) == rows_max:
                break
            # A missing number is left out: River's way of saying so.
            features.append({name: float(cell) for name, cell in zip(names[:-1], cells) if cell})
            labels.append(float(cells[-1]) if kind == "regression" else int(float(cells[-1])))
    return features, labels, kind or ("multiclass" if max(labels) > 1 else "binary")


def steps(model, task):
    """What is asked of a model for a row, and how it learns from it."""
    if task == "anomaly":
        return model.score_one, lambda x, _y: model.learn_one(x)
    ask = getattr(model, "predict_proba_one", model.predict_one) if task != "regression" else model.predict_one
    return ask, model.learn_one


def answers(raw, task):
    """Class and probability of each class from what a model answered; the value itself where it is one."""
    if task in ("regression", "anomaly"):
        return raw or 0.0, None
    if not isinstance(raw, dict):
        return (0 if raw is None else raw), None
    # Before the first row River knows no class; Driftmill's first answer is class 0 of equals, or 1 at a half.
    return (max(raw, key=raw.get) if raw else int(task == "binary")), raw


def rank_area(scores, labels):
    """Area under the receiver operating characteristic, equal scores counting a half."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, place = 0.0, 0
    while place < len(order):
        end = place
        while end < len(order) and scores[order[end]] == scores[order[place]]:
            end += 1
        ranks += sum(labels[row] for row in order[place:end]) * (place + 1 + end) / 2
        place = end
    positives = sum(labels)
    negatives = len(labels) - positives
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives) if positives * negatives else math.nan


def class_metrics(given, labels, classes):
    right = [answer == label for (answer, _), label in zip(given, labels)]
    found = {"accuracy": statistics.fmean(right)}
    repeats = [before == label for before, label in zip(labels, labels[1:])]
    if repeats and statistics.fmean(repeats) < 1:
        chance = statistics.fmean(repeats)
        found["temporal-kappa"] = (statistics.fmean(right[1:]) - chance) / (1 - chance)
    if all(shares is not None for _, shares in given):
        even = 1 / classes
        of = lambda shares, label: shares.get(label, 0.0) if shares else even
        found["log-loss"] = statistics.fmean(
            -math.log(min(max(of(shares, label), CLIP), 1.0)) for (_, shares), label in zip(given, labels)
        )
    return found


def metrics(given, labels, task, classes):
    if task == "anomaly":
        return {"roc-auc": rank_area([score for score, _ in given], labels)}
    if task == "regression":
        errors = [value - label for (value, _), label in zip(given, labels)]
        square = statistics.fmean(error * error for error in errors)
        spread = statistics.pvariance(labels) if len(labels) > 1 else 0.0
        found = {"mae": statistics.fmean(map(abs, errors)), "rmse": math.sqrt(square)}
        return {**found, "r2": 1 - square / spread} if spread else found
    return class_metrics(given, labels, classes)


CURVES = {"binary": "accuracy", "multiclass": "accuracy", "regression": "mae", "anomaly": "roc-auc"}


def run(model, features, labels, task, options):
    """Predicts and learns block by block until the rows or the time are over."""
    ask, learn = steps(model, task)
    block_rows = max(1, math.ceil(len(labels) / options.blocks))
    classes = int(max(labels)) + 1 if task in ("binary", "multiclass") else 0
    given, curve, seconds = [], [], 0.0
    for first in range(0, len(labels), block_rows):
        rows = list(zip(features[first : first + block_rows], labels[first : first + block_rows]))
        raw = []
        start = time.perf_counter()
        for x, y in rows:
            raw.append(ask(x))
            learn(x, y)
        seconds += time.perf_counter() - start
        block = [answers(answer, task) for answer in raw]
        curve.append(metrics(block, [y for _, y in rows], task, classes)[CURVES[task]])
        given += block
        if seconds > options.cap:
            break
    seen = len(given)
    return {
        "task": task,
        "rows": seen,
        "of_rows": len(labels),
        "rows_per_second": [seen / seconds],
        "metrics": {
            name: {"value": value} for name, value in metrics(given, labels[:seen], task, classes).items()
        },
        "curve": {"metric": CURVES[task], "block_rows": block_rows, "values": curve},
    }


def plain(value):
    """NaN is no JSON."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, help="rows of a stream, at most")
    arguments.add_argument("--cap", type=float, default=10.0, help="seconds of a run, at most")
    arguments.add_argument("--blocks", type=int, default=100, help="equal parts of a stream")
    arguments.add_argument("--learner", action="append", help="this one alone; may stand several times")
    arguments.add_argument("streams", type=pathlib.Path, nargs="+")
    options = arguments.parse_args()
    for path in options.streams:
        features, labels, task = read(path, options.rows)
        for name, make in PEERS[task].items():
            if options.learner and name not in options.learner:
                continue
            found = {"library": "river", "version": river.__version__, "learner": name, "stream": path.stem}
            try:
                found |= run(make(), features, labels, task, options)
            except Exception as error:  # A peer that fails is told in the table; the others go on.
                found |= {"task": task, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(plain(found)), flush=True)
            told = found.get("error") or f"{found['rows']:,} rows, {found['rows_per_second'][0]:,.0f} a second"
            print(f"river {path.stem} {name}: {told}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
