"""Writes made-up training and test files for `batch.rs`, and measures scikit-learn on them, on one thread.

    python batch_peers.py DIR [--files-only]

10,000 rows of 20 inputs to learn from and as many to judge by: two classes, five classes, values. Settings are those of
Driftmill's learners of the same names where scikit-learn's usual ones differ. Printed: seconds of the fastest of three
fits, accuracy or root mean squared error, log loss.
"""

import pathlib
import sys
import time

import numpy as np
from sklearn import ensemble, linear_model, metrics, naive_bayes, neighbors, pipeline, preprocessing, svm
from sklearn.datasets import make_classification, make_friedman1

ROWS = 10_000


def data(task):
    if task == "regression":
        return make_friedman1(2 * ROWS, n_features=20, noise=1.0, random_state=1)
    classes = 2 if task == "binary" else 5
    return make_classification(
        2 * ROWS, 20, n_informative=8, n_redundant=4, n_classes=classes, n_clusters_per_class=2, flip_y=0.05, random_state=1
    )


def scaled(model):
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


def peers(task, y):
    forest = {"n_estimators": 100, "max_depth": 12, "min_samples_leaf": 5, "random_state": 1, "n_jobs": 1}
    if task == "regression":
        deviation = y.std()
        return {
            "random-forest": ensemble.RandomForestRegressor(max_features=1 / 3, **forest),
            "extra-trees": ensemble.ExtraTreesRegressor(**forest),
            "linear-regression": scaled(linear_model.LinearRegression()),
            "ridge": scaled(linear_model.Ridge(1.0)),
            "lasso": scaled(linear_model.Lasso(0.01 * deviation)),
            "elastic-net": scaled(
                linear_model.ElasticNet(0.01 * deviation + 0.01, l1_ratio=0.01 * deviation / (0.01 * deviation + 0.01))
            ),
            "k-nearest-neighbours": scaled(neighbors.KNeighborsRegressor(5, weights="distance", algorithm="brute")),
            "support-vector-machine, 2,000 rows": scaled(svm.SVR(C=deviation, epsilon=0.1 * deviation)),
        }
    return {
        "logistic-regression": scaled(linear_model.LogisticRegression()),
        "random-forest": ensemble.RandomForestClassifier(**forest),
        "extra-trees": ensemble.ExtraTreesClassifier(**forest),
        "k-nearest-neighbours": scaled(neighbors.KNeighborsClassifier(5, weights="distance", algorithm="brute")),
        "gaussian-naive-bayes": naive_bayes.GaussianNB(),
        "support-vector-machine, 2,000 rows": scaled(svm.SVC(probability=True, random_state=1)),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for task in ("binary", "multiclass", "regression"):
        x, y = data(task)
        header = ",".join([f"x{place}" for place in range(x.shape[1])] + ["label"])
        for name, rows in (("train", slice(None, ROWS)), ("test", slice(ROWS, None))):
            table = np.column_stack([x[rows], y[rows]])
            np.savetxt(folder / f"{task}-{name}.csv", table, delimiter=",", header=header, comments="", fmt="%.12g")
        if "--files-only" in sys.argv:
            continue
        print(task)
        for name, model in peers(task, y[:ROWS]).items():
            rows = 2_000 if "2,000" in name else ROWS
            seconds = []
            for _ in range(3):
                start = time.perf_counter()
                model.fit(x[:rows], y[:rows])
                seconds.append(time.perf_counter() - start)
            if task == "regression":
                error = metrics.mean_squared_error(y[ROWS:], model.predict(x[ROWS:])) ** 0.5
                print(f"  {name}: {min(seconds):.3f} s  rmse {error:.4f}")
            else:
                shares = model.predict_proba(x[ROWS:])
                right = (shares.argmax(1) == y[ROWS:]).mean()
                print(f"  {name}: {min(seconds):.3f} s  accuracy {right:.4f}  log loss {metrics.log_loss(y[ROWS:], shares):.4f}")


main()
