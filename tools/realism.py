"""Measures recordings, real and simulated, with the same figures, and prints a Markdown table of them side by side.

    python3 -m venv ENV && ENV/bin/pip install -r tools/realism-requirements.txt
    ENV/bin/python tools/realism.py --real DIR... --simulated DIR...
    ENV/bin/python tools/realism.py --real MARS.npz RADHAR.npz --simulated MMFI_DIR

A folder with one index CSV in the layout of DeepSense 6G is measured as a link; a folder with E01…/S…/A…/mmwave
(MM-Fi) and an .npz with `points` and `frame_start` (MARS, RadHAR) as a radar that watches one person. What a recording
cannot tell (no time column: rates are per frame; no label: blockage is told by power) is marked.
"""

import argparse
import ast
import csv
import pathlib
import re
import sys

import numpy as np

# A sample is blocked when its best power is this far below the running 90th percentile, dB, where there is no label.
DROP_DB = 10.0
# The running percentile looks this many samples back.
LOOK_BACK = 50
LAGS = (1, 2, 5, 10)


class Wrong(Exception):
    """What the user has to change, in words."""


def decibels(power):
    return 10 * np.log10(power)


def percentile(values, share):
    values = values[np.isfinite(values)]
    return float(np.percentile(values, share)) if len(values) else float("nan")


# ------------------------------------------------------------------------------------------------------------ links


def column(rows, *names):
    """The first of these columns that the index has, else None."""
    return next((name for name in names if name in rows[0]), None)


def power_of(path):
    text = path.read_text()
    # Some copies print `[a, b, …]`.
    return np.array([float(word) for word in re.split(r"[\s,\[\]]+", text) if word])


def seconds_of(stamp):
    """Seconds of the day of `HH:MM:SS-µs`, `HH-MM-SS-ms` or `['HH-MM-SS-ms']`; None when it is something else."""
    stamp = stamp.strip()
    if stamp.startswith("["):
        stamp = str(ast.literal_eval(stamp)[0])
    match = re.fullmatch(r"(\d+)[:-](\d+)[:-](\d+)[-.](\d+)", stamp)
    if not match:
        return None
    hours, minutes, seconds, rest = match.groups()
    # Milliseconds have three digits and are printed without their zeros in front; microseconds have six.
    fraction = int(rest) / (1e6 if len(rest) > 3 or ":" in stamp else 1e3)
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + fraction


class Link:
    """The powers of a recording, its sequences and, where it has them, its times and labels."""

    def __init__(self, folder):
        indices = sorted(folder.glob("*.csv"))
        if len(indices) != 1:
            raise Wrong(f"{folder}: found {len(indices)} CSV files, allowed is the one index of a recording")
        with indices[0].open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if any((value or "").strip() for value in row.values())]
        if not rows:
            raise Wrong(f"{indices[0]}: found no rows")
        name = column(rows, "unit1_pwr_60ghz", "unit1_pwr_60ghz_1", "unit1_pwr_1")
        if name is None:
            raise Wrong(f"{indices[0]}: found no column of powers, allowed is unit1_pwr_60ghz")
        self.name = folder.resolve().name
        # A blank cell is a report that got lost.
        powers = [power_of(folder / row[name]) if row[name].strip() else None for row in rows]
        self.reported = np.array([power is not None for power in powers])
        lengths = {len(power) for power in powers if power is not None}
        if len(lengths) != 1 or max(lengths) < 2:
            raise Wrong(f"{folder}: found power files of {sorted(lengths)} beams, allowed is one number from 2")
        lost = np.full(max(lengths), np.nan)
        self.power = np.array([lost if power is None else power for power in powers])
        sequence = column(rows, "seq_index")
        self.sequence = np.array([int(float(row[sequence])) if sequence else 0 for row in rows])
        label = column(rows, "unit1_blockage", "unit1_blockage_label", "unit1_blockage_1")
        self.blocked = None
        if label and all((folder / row[label]).is_file() for row in rows):
            self.blocked = np.array([float((folder / row[label]).read_text().split()[0]) > 0.5 for row in rows])
        stamp = column(rows, "time_stamp[UTC]", "time_stamp")
        times = [seconds_of(row[stamp]) for row in rows] if stamp else [None]
        self.rate = None
        if all(time is not None for time in times):
            step = np.diff(times)[np.diff(self.sequence) == 0]
            step = step[step > 0]
            self.rate = 1 / float(np.median(step)) if len(step) else None

    def pieces(self):
        """Slices of rows that follow each other in one sequence."""
        ends = np.flatnonzero(np.diff(self.sequence)) + 1
        return [slice(a, b) for a, b in zip([0, *ends], [*ends, len(self.sequence)])]


def episodes(blocked, pieces):
    """Lengths of the runs of blocked samples."""
    lengths = []
    for piece in pieces:
        edges = np.diff(np.concatenate([[0], blocked[piece].astype(int), [0]]))
        lengths += list(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1))
    return np.array(lengths, dtype=float)


def dropped(best, pieces):
    """Blocked by power: below the 90th percentile of what was read so far."""
    blocked = np.zeros(len(best), dtype=bool)
    for piece in pieces:
        values = best[piece]
        for at in range(1, len(values)):
            before = values[max(0, at - LOOK_BACK):at]
            before = before[np.isfinite(before)]
            if len(before) >= 5:
                blocked[piece.start + at] = np.percentile(before, 90) - values[at] >= DROP_DB
    return blocked


def autocorrelation(best, pieces, lag):
    """Of the best beam's power in dB, its mean over each sequence taken off, pooled over the sequences."""
    above = below = 0.0
    for piece in pieces:
        values = best[piece]
        values = values[np.isfinite(values)]
        if len(values) <= 10:
            continue
        values = values - values.mean()
        above += float((values[lag:] * values[:-lag]).sum()) / (len(values) - lag) * len(values)
        below += float((values * values).sum())
    return above / below if below > 0 else float("nan")


def measure_link(folder):
    link = Link(folder)
    power = np.where(link.power > 0, link.power, np.nan)
    share_nan = float(np.isnan(link.power[link.reported]).mean())
    whole = np.isfinite(power).any(axis=1)
    filled = np.where(np.isfinite(power), power, -np.inf)
    beam = filled.argmax(axis=1)
    ordered = np.sort(filled, axis=1)
    best = decibels(np.where(whole, ordered[:, -1], np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        second = np.where(np.isfinite(ordered[:, -2]), decibels(np.maximum(ordered[:, -2], 1e-30)), np.nan)
    worst = decibels(np.nanmin(np.where(whole[:, None], power, np.nan), axis=1, initial=np.inf))
    pieces = link.pieces()
    used = np.bincount(beam[whole], minlength=power.shape[1]) / whole.sum()
    entropy = float(-(used[used > 0] * np.log2(used[used > 0])).sum())
    same = (np.diff(link.sequence) == 0) & whole[1:] & whole[:-1]
    jumps = np.abs(np.diff(beam))[same]
    changes = float((jumps > 0).mean()) if len(jumps) else float("nan")
    moved = jumps[jumps > 0]
    blocked = link.blocked if link.blocked is not None else dropped(best, pieces)
    lengths = episodes(blocked, pieces)
    rate, unit = (link.rate, "s") if link.rate else (1.0, "frames")
    found = {
        "rows, sequences": f"{len(power)}, {len(pieces)}",
        "reports lost": f"{float(1 - link.reported.mean()):.1%}",
        "rate, Hz": f"{link.rate:.1f}" if link.rate else "unknown",
        "beams in use": f"{beam[whole].min()}…{beam[whole].max()}",
        "entropy of the best beam, bits": f"{entropy:.2f}",
        "spread best/worst, dB: 5, 50, 95 %": " / ".join(f"{percentile(best - worst, p):.1f}" for p in (5, 50, 95)),
        "gap best to second, dB: 25, 50, 75 %": " / ".join(f"{percentile(best - second, p):.2f}" for p in (25, 50, 75)),
        "best beam's power, dB about its median: 5, 95 %": " / ".join(
            f"{percentile(best - np.nanmedian(best), p):+.1f}" for p in (5, 95)),
        "lowest reading, dB about its median: 5, 95 %": " / ".join(
            f"{percentile(worst - np.nanmedian(worst), p):+.2f}" for p in (5, 95)),
        "beam changes per frame": f"{changes:.2f}",
        "beam changes per second": f"{changes * link.rate:.1f}" if link.rate else "unknown",
        "size of a change, beams: 50, 90, 99 %": " / ".join(f"{percentile(moved, p):.0f}" for p in (50, 90, 99)),
        "changes by more than 5 beams": f"{float((jumps > 5).mean()):.1%}" if len(jumps) else "none",
        "blocked": f"{float(blocked.mean()):.1%} ({'label' if link.blocked is not None else 'by power'})",
        "length of a blockage, median": f"{np.median(lengths) / rate:.2f} {unit}" if len(lengths) else "none",
        "autocorrelation of best power at lags " + ", ".join(map(str, LAGS)): " / ".join(
            f"{autocorrelation(best, pieces, lag):.2f}" for lag in LAGS),
        "share of NaN": f"{share_nan:.2%}",
    }
    return link.name, found


# ----------------------------------------------------------------------------------------------------------- people


def people_of_npz(path):
    """Frames of MARS (x, y, z, Doppler, intensity) or RadHAR (x, y, z, range, velocity, bin, bearing, intensity)."""
    with np.load(path) as file:
        if "points" not in file or "frame_start" not in file:
            raise Wrong(f"{path}: found {sorted(file)}, allowed are arrays `points` and `frame_start`")
        points, starts = file["points"], file["frame_start"]
    widths = {5: (slice(0, 3), 3), 8: (slice(0, 3), 4)}
    if points.ndim != 2 or points.shape[1] not in widths:
        raise Wrong(f"{path}: found points of shape {points.shape}, allowed are (P, 5) and (P, 8)")
    place, doppler = widths[points.shape[1]]
    ends = [*starts[1:], len(points)]
    return [(points[a:b, place], points[a:b, doppler]) for a, b in zip(starts, ends)]


def people_of_mmfi(folder):
    """Frames of every mmwave/*.bin: little-endian f64 (N, 5): x forward, y lateral, z up, Doppler, intensity."""
    frames = []
    for path in sorted(folder.glob("**/mmwave/*.bin")):
        values = np.fromfile(path, dtype="<f8")
        if len(values) % 5:
            raise Wrong(f"{path}: found {len(values)} numbers, allowed is a multiple of 5")
        values = values.reshape(-1, 5)
        frames.append((values[:, :3], values[:, 3]))
    if not frames:
        raise Wrong(f"{folder}: found neither an index CSV nor mmwave/*.bin")
    return frames


def measure_people(path):
    frames = people_of_npz(path) if path.is_file() else people_of_mmfi(path)
    counts = np.array([len(doppler) for _, doppler in frames], dtype=float)
    some = [(place, doppler) for place, doppler in frames if len(doppler) >= 2]
    if not some:
        raise Wrong(f"{path}: found no frame with two points")
    doppler = np.concatenate([doppler for _, doppler in some])
    spread = np.array([doppler.std() for _, doppler in some])
    size = np.array([np.ptp(place, axis=0) for place, _ in some])
    name = path.stem if path.is_file() else path.resolve().name
    found = {
        "frames": f"{len(frames)}",
        "frames without a point": f"{float((counts == 0).mean()):.1%}",
        "points per frame: 5, 50, 95 %": " / ".join(f"{percentile(counts, p):.0f}" for p in (5, 50, 95)),
        "Doppler, m/s: 5, 50, 95 %": " / ".join(f"{percentile(doppler, p):+.2f}" for p in (5, 50, 95)),
        "points that do not move": f"{float((doppler == 0).mean()):.1%}",
        "deviation of Doppler in a frame, m/s: 50, 95 %": " / ".join(f"{percentile(spread, p):.2f}" for p in (50, 95)),
        "extent of a frame's points, m, median by axis": " / ".join(f"{value:.2f}" for value in np.median(size, axis=0)),
    }
    return name, found


# ------------------------------------------------------------------------------------------------------------ table


def is_link(path):
    return path.is_dir() and any(path.glob("*.csv"))


def table(columns):
    """Markdown: a row for each measure, a column for each recording."""
    names = [f"{name} ({kind})" for kind, name, _ in columns]
    lines = ["| measure | " + " | ".join(names) + " |", "|---" * (len(columns) + 1) + "|"]
    for measure in columns[0][2]:
        lines.append(f"| {measure} | " + " | ".join(found[measure] for *_, found in columns) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=pathlib.Path, nargs="+", default=[], metavar="PATH")
    parser.add_argument("--simulated", type=pathlib.Path, nargs="+", default=[], metavar="PATH")
    arguments = parser.parse_args()
    paths = [("real", path) for path in arguments.real] + [("simulated", path) for path in arguments.simulated]
    if not paths:
        parser.error("found neither --real nor --simulated")
    links, people = [], []
    try:
        for kind, path in paths:
            if not path.exists():
                raise Wrong(f"{path}: does not exist")
            (links if is_link(path) else people).append((kind, *(measure_link if is_link(path) else measure_people)(path)))
    except (Wrong, OSError, ValueError) as error:
        print(f"realism: {error}", file=sys.stderr)
        return 2
    print("\n\n".join(table(columns) for columns in (links, people) if columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
