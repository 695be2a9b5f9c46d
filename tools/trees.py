"""Extra trees on past beam powers, on the very split of a run: the strongest simple predictor of beams that we know of.

    pip install -r tools/trees-requirements.txt
    python tools/trees.py RUN NAME RECORDING [--instants 0 1 2 3]

RUN is the folder of a run that learned from a DeepSense 6G recording (a folder with its index, or the index) under NAME; the
sequences of which the run has seen nothing (`data.json`) are the test, and those of its validation are learned from, too; rows
that stand twice are not left out. From the last four power reports before a row, in dB
below each one's strongest beam, the best beam of that row and of later ones. Prints top-1 and the mean power loss, with 95 %
by resampling sequences.

Of a folder of blockage windows (`val_Tp1.npz` and so on), from the powers of a window's frames, in dB, whether a blockage
comes: accuracy and average precision for each number of frames ahead. Windows that share a frame are one group, as for the
run.
"""

import argparse
import csv
import json
import pathlib

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score

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


def interval(measure, groups, random):
    """95 % of a measure of rows, by resampling groups."""
    names = np.unique(groups)
    of = [np.flatnonzero(groups == name) for name in names]
    drawn = random.integers(0, len(names), (1000, len(names)))
    measured = [measure(np.concatenate([of[group] for group in draw])) for draw in drawn]
    return np.percentile(measured, [2.5, 97.5])


def windows(folder):
    """Features, label, frames ahead and the number of its group of each window."""
    found, above, holders = [], [], {}

    def root(member):
        while above[member] != member:
            member = above[member]
        return member

    for file in sorted(folder.glob("*.npz")):
        archive = np.load(file)
        ahead = int("".join(filter(str.isdigit, file.stem)))
        for powers, label in zip(archive["features"], archive["labels"]):
            member = len(above)
            above.append(member)
            for frame in powers:
                one, other = root(member), root(holders.setdefault(frame.astype(float).tobytes(), member))
                above[max(one, other)] = min(one, other)
            with np.errstate(divide="ignore", invalid="ignore"):
                db = 10 * np.log10(powers)
            found.append((np.nan_to_num(db, nan=ABSENT_DB, neginf=ABSENT_DB).ravel(), bool(label), ahead))
    x, labels, ahead = zip(*found)
    return np.array(x), np.array(labels), np.array(ahead), np.array([root(member) for member in range(len(above))])


def blockages(folder, name, seen, random):
    x, labels, ahead, groups = windows(folder)
    learned = np.array([f"{name}/run {group}" in seen for group in groups])
    print(f"{len(set(groups[learned]))} groups learned from, {len(set(groups[~learned]))} asked")
    for frames in sorted(set(ahead)):
        trees = ExtraTreesClassifier(300, min_samples_leaf=2, n_jobs=-1, random_state=1)
        own, asked = learned & (ahead == frames), ~learned & (ahead == frames)
        trees.fit(x[own], labels[own])
        score, truth, of = trees.predict_proba(x[asked])[:, 1], labels[asked], groups[asked]
        told = []
        for measure in (
            lambda rows: np.mean((score[rows] > 0.5) == truth[rows]),
            lambda rows: average_precision_score(truth[rows], score[rows]),
        ):
            low, high = interval(measure, of, random)
            told.append(f"{measure(np.arange(len(truth))):.3f} ({low:.3f} to {high:.3f})")
        print(f"{frames} frames ahead: accuracy {told[0]}, AP {told[1]}, of {len(truth)} windows")


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
    random = np.random.default_rng(1)
    if arguments.recording.is_dir() and any(arguments.recording.glob("*.npz")):
        blockages(arguments.recording, arguments.name, seen, random)
        return
    named = sequences(index_of(arguments.recording))
    is_seen = {name: f"{arguments.name}/{name}" in seen for name in named}
    learn, test = ([name for name in named if is_seen[name] == side] for side in (True, False))
    if not learn or not test:
        parser.error(f"{len(learn)} sequences were learned from and {len(test)} not: of both some are needed")
    print(f"{len(learn)} sequences learned from, {len(test)} asked")
    for ahead in arguments.instants:
        x, powers, _ = together(named, learn, ahead)
        trees = ExtraTreesClassifier(300, min_samples_leaf=2, n_jobs=-1, random_state=1)
        trees.fit(x, np.nanargmax(powers, axis=1))
        x, powers, groups = together(named, test, ahead)
        chosen = trees.predict(x)
        right = (chosen == np.nanargmax(powers, axis=1)).astype(float)
        lost = 10 * np.log10(np.nanmax(powers, axis=1) / powers[np.arange(len(powers)), chosen])
        low, high = interval(lambda rows: right[rows].mean(), groups, random)
        print(f"+{ahead} rows: top-1 {right.mean():.3f} ({low:.3f} to {high:.3f}), {lost.mean():.2f} dB, of {len(right)} rows")


if __name__ == "__main__":
    main()
