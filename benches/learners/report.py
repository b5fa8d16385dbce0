#!/usr/bin/env python3
"""Makes tables and pictures of what `prequential --json` and peers.py measured.

    report.py RESULTS.jsonl --streams STREAMS.json --out DIR --note TEXT

DIR/tables.md and, for each stream, DIR/NAME.svg: the metric over time. Figures of MOA and Vowpal Wabbit, and of River
where its run of now did not see the whole stream, are quoted from quoted.csv beside this file, and only for streams
that are bit for bit those on which they were measured.
"""

import argparse
import csv
import json
import math
import pathlib
import re
import statistics

HERE = pathlib.Path(__file__).parent
TITLES = {
    "dev": "Development streams",
    "unseen": "Further streams",
    "regression": "Regression",
    "anomaly": "Anomalies",
    "delayed": "Late labels",
}
CLASSES_READ = [
    "Each row is predicted, then learned from, in order. ± is half of a 95 % interval: the jackknife over a hundredth of the",
    "stream at a time. In brackets after it the least and most of the seeds. 'Ours − River' is over the rows that River's",
    "run of now saw, paired by hundredths. Log loss and temporal kappa of River are of those rows, ours of all.",
    "Rates count predicting and learning of parsed rows on one thread; the ratio is of our median and River's.",
]
HOW_TO_READ = {
    "dev": [*CLASSES_READ, "Quoted figures are of the whole stream, measured elsewhere (benches/learners/quoted.csv)."],
    "unseen": [
        "As above. No constant was chosen on these streams but those of `streaming-gradient-boosting`, which were compared on all",
        "but led; on generators of River the trees were compared with River's before, and on weather, covtype",
        "and sea changes of `auto` were looked at once.",
    ],
    "regression": [
        "As above. A lower mae and rmse are better, so 'ours − River' below 0 is better. The constants of trees of values were",
        "chosen with these streams in sight. River's learners, but for the baselines, stand behind a standardiser.",
    ],
    "anomaly": ["Nothing is learned from labels; the higher a row's score the more it is unlike the others."],
    "delayed": [
        "Each row is predicted at its own time by a model that has learned from the labels known by then, in the order in",
        "which they became known, and judged by the truth. landings: a flight's label is known when it lands. payments: one",
        "in 500 is fraud, a label is known after days, three in ten never, and in the middle of the stream a new kind of fraud",
        "takes over. Its first tenth is predicted and not judged. A missed fraud costs 0.99, a false alert 0.01, at the",
        "threshold of 0.01 that is best for calibrated scores. Recall and precision are of the 0.5 % of the rows with the",
        "highest scores in each hundredth of the stream. One run, seed 1.",
    ],
    "memory": [
        "Made-up rows (16 numbers, 4 texts, another rule every 100,000 rows, 10 % noise), each learner and task in a process",
        "of its own. Its own count is asked after every 1,024 rows. The peak is that of the resident set (VmHWM), which pages",
        "of the allocator and the batch in hand make larger, and a count that is an upper bound smaller.",
    ],
}
# Rows that a window of the picture averages over are those of this many parts of the stream.
SMOOTHED = 5
# What the design asks of `auto`, and the best single peer there.
AUTO = {"elec": (90.0, 87.6), "flights": (81.6, 81.1), "landings": (78.2, 77.7), "agrawal": (95.0, 94.4), "rbf": (89.0, 88.4)}
# How many times MOA's rows a second the design asks of a learner.
FASTER = {
    "naive-bayes": 3,
    "hoeffding-tree": 3,
    "hoeffding-adaptive-tree": 3,
    "adaptive-random-forest": 5,
    "leveraging-bagging": 4,
    "streaming-random-patches": 5,
    "knn": 5,
}
NORMAL_975 = 1.959964


def load(path):
    """Results by (stream, library, learner), and those of memory."""
    found, held = {}, []
    for line in path.read_text().splitlines():
        result = json.loads(line)
        if "held" in result:
            held.append(result)
        else:
            found[result["stream"], result["library"], result["learner"]] = result
    return found, held


def quotes():
    """Quoted figures by (stream, learner), a list each."""
    found = {}
    with open(HERE / "quoted.csv", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found.setdefault((row["stream"], row["learner"]), []).append(row)
    return found


def value(result, metric):
    return ((result or {}).get("metrics", {}).get(metric) or {}).get("value")


def half(result, metric):
    return ((result or {}).get("metrics", {}).get(metric) or {}).get("half")


def percent(number):
    return "–" if number is None else f"{100 * number:.2f}"


def plain(number, digits=3):
    if number is None:
        return "–"
    return f"{number:.{digits}f}" if abs(number) < 1e5 else f"{number:.1e}"


def rate(number):
    if number is None:
        return "–"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{2 if unit == 'M' else 1}f} {unit}"
    return f"{number:.0f}"


def rates(result):
    """Least, median and most rows a second."""
    numbers = result["rows_per_second"]
    return f"{rate(min(numbers))} · **{rate(statistics.median(numbers))}** · {rate(max(numbers))}"


def size(number):
    if number is None:
        return "–"
    return f"{number / 2**20:.1f} MiB" if number >= 2**20 else f"{number / 1024:.0f} KiB"


def student(degrees):
    """The 97.5 % quantile of Student's distribution, from 4 degrees of freedom on (Cornish and Fisher's expansion)."""
    z, n = NORMAL_975, degrees
    first = (z**3 + z) / (4 * n)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    return z + first + second + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)


def difference(ours, peer):
    """How much better our metric is on the rows that the peer saw, with an interval, from paired parts of the stream.

    None where a part is missing or there are fewer than five."""
    pairs = [
        (a, b) for a, b in zip(ours["curve"]["values"], peer["curve"]["values"]) if a is not None and b is not None
    ]
    if len(pairs) < 5 or not like(ours, peer):
        return None
    gaps = [a - b for a, b in pairs]
    return statistics.fmean(gaps), student(len(gaps) - 1) * statistics.stdev(gaps) / math.sqrt(len(gaps))


def like(ours, peer):
    """Whether both curves are of the same metric over the same parts."""
    return all(ours["curve"][key] == peer["curve"][key] for key in ("metric", "block_rows"))


def table(header, rows):
    if not rows:
        return []
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


class Report:
    def __init__(self, results, streams):
        self.results, self.streams, self.quoted = results, streams, quotes()

    def of_group(self, group):
        return [
            name
            for name, stream in self.streams.items()
            if stream["group"] == group and any(key[0] == name for key in self.results)
        ]

    def learners(self, names):
        """Driftmill's learners that were measured on one of these streams, in the order of their list."""
        found = [key[2] for key in self.results if key[1] == "driftmill" and key[0] in names]
        return list(dict.fromkeys(found))

    def ours(self, stream, learner):
        return self.results.get((stream, "driftmill", learner))

    def river(self, stream, learner):
        found = self.results.get((stream, "river", learner))
        return None if found is None or "error" in found else found

    def quote(self, stream, learner, libraries):
        """The quoted runs over this very stream."""
        if not self.streams[stream]["is_reference"] and stream != "landings":
            return []
        return [row for row in self.quoted.get((stream, learner), []) if row["library"] in libraries]

    def whole(self, stream, learner):
        """Whether our run saw all rows of the stream, so that quoted figures can stand beside it."""
        ours = self.ours(stream, learner)
        return ours is not None and ours["rows"] == self.streams[stream]["rows"]

    def better_peer(self, stream, learner):
        """The higher accuracy of the peers' runs over the whole stream, in percent, and whose it is."""
        runs = []
        river = self.river(stream, learner)
        if river and river["rows"] == self.ours(stream, learner)["rows"]:
            runs.append((100 * value(river, "accuracy"), "River"))
        if self.whole(stream, learner):
            full = [r for r in self.quote(stream, learner, {"MOA", "River"}) if int(r["rows"]) == self.streams[stream]["rows"]]
            runs += [(float(row["accuracy_percent"]), row["library"]) for row in full]
        return max(runs) if runs else None

    def summary(self, names):
        """Accuracy of every learner on every stream, with the better peer's."""
        rows = []
        for learner in self.learners(names):
            cells = []
            for stream in names:
                ours = self.ours(stream, learner)
                if not ours:
                    cells.append("–")
                    continue
                peer = self.better_peer(stream, learner)
                beside = f" ({peer[0]:.2f} {peer[1]})" if peer else ""
                cells.append(percent(value(ours, "accuracy")) + beside)
            rows.append([f"`{learner}`", *cells])
        return table(["accuracy, % (better peer of the same name, whole stream)", *names], rows)

    def below(self, names):
        """Where a learner is more than half a point below the peer of its name: each needs its sentence."""
        found = []
        for learner in self.learners(names):
            for stream in names:
                ours = self.ours(stream, learner)
                peer = ours and self.better_peer(stream, learner)
                gap = peer and 100 * value(ours, "accuracy") - peer[0]
                if gap is not None and gap < -0.5:
                    found.append(f"`{learner}` on {stream}: {gap:+.2f} ({peer[1]})")
        return ["More than 0.5 points below the peer of the same name: " + ("; ".join(found) or "none") + ".", ""]

    def classes(self, stream):
        """One stream of classes, all learners."""
        rows = []
        for learner in self.learners([stream]):
            ours, river = self.ours(stream, learner), self.river(stream, learner)
            interval = half(ours, "accuracy")
            accuracy = percent(value(ours, "accuracy")) + (f" ± {100 * interval:.2f}" if interval is not None else "")
            seeds = ours["metrics"]["accuracy"]["by_seed"]
            if max(seeds) > min(seeds):
                accuracy += f" ({100 * min(seeds):.2f}–{100 * max(seeds):.2f})"
            rows.append([f"`{learner}`", accuracy, *self.beside(ours, river, "accuracy", 100), *self.quotes_of(stream, learner)])
            rows[-1] += [
                plain(value(ours, "log-loss")) + (f" ({plain(value(river, 'log-loss'))})" if river else ""),
                plain(value(ours, "temporal-kappa"), 2) + (f" ({plain(value(river, 'temporal-kappa'), 2)})" if river else ""),
                rates(ours),
                *self.speed(ours, river),
                size(ours["bytes_max"]),
            ]
        header = ["learner", "accuracy, % ± 95 % (seeds)", "River, now (rows)", "ours − River, same rows", "quoted"]
        header += ["log loss (River)", "temporal kappa (River)", "rows/s: least · median · most", "River", "ratio", "memory"]
        return table(header, rows)

    def beside(self, ours, river, metric, scale):
        """River's value with the rows it saw, and the difference on those."""
        if not river:
            return ["–", "–"]
        seen = "" if river["rows"] == ours["rows"] else f" (first {river['rows']:,})"
        found = difference(ours, river)
        gap = f"{scale * found[0]:+.2f} ± {scale * found[1]:.2f}" if found and abs(found[0]) < 1e5 else "–"
        return [f"{scale * value(river, metric):.2f}{seen}", gap]

    def quotes_of(self, stream, learner):
        cells = []
        for row in self.quote(stream, learner, {"MOA", "Vowpal Wabbit"}):
            seen = "" if int(row["rows"]) == self.streams[stream]["rows"] else f", first {int(row['rows']):,}"
            speed = f", {rate(float(row['rows_per_second']))}/s" if row["rows_per_second"] else ""
            cells.append(f"{row['library']} {row['algorithm']} {row['accuracy_percent']}{speed}{seen}")
        return ["; ".join(cells) or "–"]

    def speed(self, ours, river):
        if not river:
            return ["–", "–"]
        theirs = river["rows_per_second"][0]
        return [rate(theirs), f"{statistics.median(ours['rows_per_second']) / theirs:,.0f} ×"]

    def values(self, stream, metrics, main):
        """One stream whose labels are values or anomalies."""
        rows = []
        for learner in self.learners([stream]):
            ours, river = self.ours(stream, learner), self.river(stream, learner)
            cells = []
            for metric in metrics:
                interval = half(ours, metric)
                theirs = f" ({plain(value(river, metric))})" if river and value(river, metric) is not None else ""
                cells.append(plain(value(ours, metric)) + (f" ± {interval:.3f}" if interval is not None else "") + theirs)
            cells.append(self.beside(ours, river, main, 1)[1])
            seen = f"{river['rows']:,}" if river else "–"
            rows.append([f"`{learner}`", *cells, seen, rates(ours), *self.speed(ours, river), size(ours["bytes_max"])])
        header = ["learner", *(f"{metric} (River, now)" for metric in metrics), f"{main}: ours − River, same rows"]
        return table([*header, "rows of River", "rows/s: least · median · most", "River", "ratio", "memory"], rows)

    def landings(self, stream):
        """Classes whose labels come late."""
        rows = []
        for learner in self.learners([stream]):
            ours = self.ours(stream, learner)
            quoted = [f"{row['library']} {row['accuracy_percent']}" for row in self.quote(stream, learner, {"River"})]
            cells = [f"{percent(value(ours, 'accuracy'))} ± {percent(half(ours, 'accuracy'))}", "; ".join(quoted) or "–"]
            cells += [plain(value(ours, metric)) for metric in ("log-loss", "brier", "roc-auc", "calibration-error")]
            rows.append([f"`{learner}`", *cells, size(ours["bytes_max"])])
        header = ["learner", "accuracy, % ± 95 %", "quoted", "log loss", "Brier", "ROC AUC", "calibration error", "memory"]
        return table(header, rows)

    def rare(self, stream):
        """Rare positives whose labels come late, and some never."""
        metrics = [("pr-auc", 4), ("roc-auc", 4), ("log-loss", 5), ("brier", 6), ("calibration-error", 5)]
        rows = []
        for learner in self.learners([stream]):
            ours = self.ours(stream, learner)
            cells = []
            for metric, digits in metrics:
                interval = half(ours, metric)
                shown = f" ± {interval:.{digits}f}" if interval is not None else ""
                cells.append(plain(value(ours, metric), digits) + shown)
            alerts, cost = ours.get("alerts") or {}, value(ours, "cost")
            cells += [plain(cost and 1000 * cost), percent(alerts.get("recall")), percent(alerts.get("precision"))]
            rows.append([f"`{learner}`", *cells, size(ours["bytes_max"])])
        header = ["learner", "PR-AUC", "ROC AUC", "log loss", "Brier", "calibration error", "cost of 1,000 rows"]
        return table([*header, "recall among alerts, %", "precision, %", "memory"], rows)

    def faster(self):
        """Rows a second beside MOA's quoted ones. Not measured side by side: on another machine it says little."""
        rows = []
        for learner, asked in FASTER.items():
            cells = []
            for stream in ("elec", "agrawal"):
                ours = stream in self.streams and self.ours(stream, learner)
                quoted = self.quote(stream, learner, {"MOA"}) if ours else []
                if not quoted:
                    cells.append("–")
                    continue
                median, theirs = statistics.median(ours["rows_per_second"]), float(quoted[0]["rows_per_second"])
                cells.append(f"{rate(median)} / {rate(theirs)} = {median / theirs:.1f} ×")
            if cells != ["–", "–"]:
                rows.append([f"`{learner}`", *cells, f"{asked} ×"])
        return table(["rows/s, median / MOA's, quoted", "elec", "agrawal", "asked"], rows)

    def auto(self):
        """What the design asks of `auto`."""
        rows = []
        for stream, (wanted, single) in AUTO.items():
            ours = stream in self.streams and self.ours(stream, "auto")
            if ours:
                reached = f"{percent(value(ours, 'accuracy'))}"
                scope = "" if self.whole(stream, "auto") else f" (first {ours['rows']:,} rows)"
                best = [(value(self.ours(stream, name), "accuracy"), name) for name in self.learners([stream]) if name != "auto"]
                members = f"{percent(max(best)[0])} `{max(best)[1]}`" if best else "–"
                rows.append([stream, reached + scope, f"{wanted:.1f}", f"{single:.1f}", members, rates(ours)])
        return table(["`auto` on", "accuracy, %", "asked", "best single peer", "best other learner", "rows/s"], rows)


def memory(held):
    rows = [
        [
            f"`{result['learner']}`",
            result["task"],
            f"{result['held']:,}",
            size(result["bytes_max"]),
            size(result["budget_bytes"]),
            size(result["peak_grown_bytes"]),
        ]
        for result in held
    ]
    return table(["learner", "task", "rows", "most, by its own count", "budget", "growth of the process's peak"], rows)


def smooth(values):
    """A moving mean over a few parts; missing parts are left out."""
    out = []
    for end in range(1, len(values) + 1):
        window = [v for v in values[max(0, end - SMOOTHED) : end] if v is not None]
        out.append(statistics.fmean(window) if window else math.nan)
    return out


def draw(report, stream, folder):
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "driftmill"
    matplotlib.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    names = report.learners([stream])
    figure, panel = plt.subplots(figsize=(10, 5), constrained_layout=True)
    colours = plt.get_cmap("tab20").colors
    for place, learner in enumerate(names):
        colour = colours[place % len(colours)]
        for result, style in ((report.ours(stream, learner), "-"), (report.river(stream, learner), ":")):
            if not result or not like(report.ours(stream, learner), result):
                continue
            curve = result["curve"]
            rows = [(part + 1) * curve["block_rows"] for part in range(len(curve["values"]))]
            label = learner if style == "-" else None
            width = 2.2 if learner == "auto" else 1.1
            # Every other part: the mean of five changes little from one to the next.
            panel.plot(rows[::-2], smooth(curve["values"])[::-2], style, color=colour, linewidth=width, label=label)
    first = report.ours(stream, names[0])
    window = SMOOTHED * first["curve"]["block_rows"]
    panel.set_title(f"{stream}: {first['curve']['metric']} of the last {window:,} rows (dotted: River's of the same name)")
    panel.set_xlabel("rows")
    panel.grid(alpha=0.3)
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    path = folder / f"{stream}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    # A tenth of a point is finer than any screen, and half of the bytes.
    short = lambda path: re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}", path[0])
    path.write_text(re.sub(r' d="[^"]*"', short, path.read_text(encoding="utf-8")), encoding="utf-8")


def lines_of(report, held, note):
    lines = ["# Learners, measured", "", note, ""]
    lines += report.auto()
    for group, title in TITLES.items():
        names = report.of_group(group)
        if not names:
            continue
        lines += [f"## {title}", "", *HOW_TO_READ[group], ""]
        if group in ("dev", "unseen"):
            lines += report.summary(names) + report.below(names)
        if group == "dev":
            lines += report.faster()
        for stream in names:
            rows = max(r["rows"] for key, r in report.results.items() if key[:2] == (stream, "driftmill"))
            lines += [f"### {stream}, {rows:,} rows", ""]
            if group == "regression":
                lines += report.values(stream, ["mae", "rmse", "r2"], "mae")
            elif group == "anomaly":
                lines += report.values(stream, ["roc-auc", "pr-auc"], "roc-auc")
            elif group == "delayed":
                lines += report.rare(stream) if stream == "payments" else report.landings(stream)
            else:
                lines += report.classes(stream)
    if held:
        lines += ["## Memory", "", *HOW_TO_READ["memory"], "", *memory(held)]
    errors = [r for r in report.results.values() if "error" in r]
    lines += [f"River's `{r['learner']}` failed on {r['stream']}: {r['error']}" for r in errors]
    return lines


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("results", type=pathlib.Path)
    arguments.add_argument("--streams", type=pathlib.Path, required=True)
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--note", default="", help="what was run, and where")
    options = arguments.parse_args()
    results, held = load(options.results)
    report = Report(results, json.loads(options.streams.read_text()))
    options.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines_of(report, held, options.note)).rstrip() + "\n"
    (options.out / "tables.md").write_text(text, encoding="utf-8")
    for stream in report.streams:
        if report.learners([stream]):
            draw(report, stream, options.out)
    print(text)


if __name__ == "__main__":
    main()
