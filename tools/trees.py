"""Extra trees on past beam powers, on the very split of a run: the strongest simple predictor of beams that we know of.

    pip install -r tools/trees-requirements.txt
    python tools/trees.py RUN NAME RECORDING [--instants 0 1 2 3]

RUN is the folder of a run that learned from a DeepSense 6G recording (a folder with its index, or the index) under NAME; the
sequences of which the run has seen nothing (`data.json`) are the test, and those of its validation are learned from, too; rows
that stand twice are not left out. From the last four power reports before a row, in dB
below each one's strongest beam, the best beam of that row and of later ones. Prints top-1 and the mean power loss, with 95 %
by resampling sequences.
"""

import argparse
import csv
import json
import pathlib

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

REPORTS = 4
ABSENT_DB = -100.0


def index_of(recording):
    if recording.is_file():
        return recording
    files = sorted(recording.glob("*.csv"))
    main = [file for file in files if file.stem.removeprefix("scenario").isdigit()]
    return (main or files)[0]


def sequences(index):
    """Powers `[rows, beams]` of each sequence, by its name."""
    found = {}
    with open(index, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = index.parent / (row.get("unit1_pwr_60ghz") or row["unit1_pwr_1"])
            powers = np.loadtxt(path) if path.is_file() else None
            if powers is not None and not np.nanmax(powers, initial=0.0) > 0.0:
                powers = None
            found.setdefault(row["seq_index"], []).append(powers)
    beams = next(powers.size for rows in found.values() for powers in rows if powers is not None)
    missing = np.full(beams, np.nan)
    return {name: np.array([missing if powers is None else powers for powers in rows]) for name, rows in found.items()}


def examples(powers, ahead):
    """What is known before each row, the row `ahead` of it, of rows that have one that was measured."""
    with np.errstate(divide="ignore", invalid="ignore"):
        below = 10 * np.log10(powers / np.nanmax(powers, axis=1, keepdims=True))
    below = np.nan_to_num(below, nan=ABSENT_DB, neginf=ABSENT_DB)
    before = np.full((REPORTS, powers.shape[1]), ABSENT_DB)
    padded = np.concatenate([before, below])
    for row in range(len(powers) - ahead):
        if np.isfinite(powers[row + ahead]).any():
            yield padded[row : row + REPORTS].ravel(), powers[row + ahead]


def together(named, names, ahead):
    rows = [(x, powers, name) for name in names for x, powers in examples(named[name], ahead)]
    x, powers, groups = zip(*rows)
    return np.array(x), np.array(powers), np.array(groups)


def interval(values, groups, random):
    names = np.unique(groups)
    of = [values[groups == name] for name in names]
    drawn = random.integers(0, len(names), (1000, len(names)))
    means = [np.concatenate([of[group] for group in draw]).mean() for draw in drawn]
    return np.percentile(means, [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("recording", type=pathlib.Path)
    parser.add_argument("--instants", type=int, nargs="+", default=[0, 1, 2, 3], help="rows ahead")
    arguments = parser.parse_args()
    learned = json.loads((arguments.run / "data.json").read_text(encoding="utf-8"))
    seen = {group for data in learned if data["name"] == arguments.name for group in data["seen"]}
    if not seen:
        parser.error(f"{arguments.run} has learned from nothing of the name {arguments.name}")
    named = sequences(index_of(arguments.recording))
    is_seen = {name: f"{arguments.name}/{name}" in seen for name in named}
    learn, test = ([name for name in named if is_seen[name] == side] for side in (True, False))
    if not learn or not test:
        parser.error(f"{len(learn)} sequences were learned from and {len(test)} not: of both some are needed")
    random = np.random.default_rng(1)
    print(f"{len(learn)} sequences learned from, {len(test)} asked")
    for ahead in arguments.instants:
        x, powers, _ = together(named, learn, ahead)
        trees = ExtraTreesClassifier(300, min_samples_leaf=2, n_jobs=-1, random_state=1)
        trees.fit(x, np.nanargmax(powers, axis=1))
        x, powers, groups = together(named, test, ahead)
        chosen = trees.predict(x)
        right = (chosen == np.nanargmax(powers, axis=1)).astype(float)
        lost = 10 * np.log10(np.nanmax(powers, axis=1) / powers[np.arange(len(powers)), chosen])
        low, high = interval(right, groups, random)
        print(f"+{ahead} rows: top-1 {right.mean():.3f} ({low:.3f} to {high:.3f}), {lost.mean():.2f} dB, of {len(right)} rows")


if __name__ == "__main__":
    main()
