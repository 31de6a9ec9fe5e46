"""The benchmark: ratios to plain sqlite3 in the same run, at several sizes and both durabilities, as Markdown.

Run it on a quiet machine: ``make bench``, or ``python tests/benchmarks --sizes 10000 100000 1000000``.
"""

from __future__ import annotations

import argparse
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

import report
from contention import contend, count_up
from recall import measure_search
from rounds import measure
from tqdm import tqdm
from whole import measure_whole
from workload import build, crowd, open_subject

from amfs import Durability

_LARGEST_TO_SEARCH = 100_000


def main() -> None:
    """Run the benchmark and print, or write, its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the processes contend")
    parser.add_argument("--only", choices=["verbs", "processes", "search"], help="a part of it")
    parser.add_argument("--output", type=Path, help="a Markdown file to write instead of printing")
    options = parser.parse_args()
    lines = [
        (
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {options.rounds} interleaved rounds "
            "after one to warm up; values of about 130 bytes."
        ),
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        home, sizes = Path(folder), sorted(set(options.sizes))
        if options.only in (None, "verbs"):
            lines += _of_sizes(home, sizes, options.rounds)
        if options.only in (None, "processes"):
            lines += _of_processes(home, options.seconds)
        if options.only in (None, "search"):
            searched = [size for size in sizes if size <= _LARGEST_TO_SEARCH]
            lines += report.of_search({size: measure_search(home, size, options.rounds) for size in searched})
    text = "\n".join(lines).rstrip() + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def _of_sizes(folder: Path, sizes: list[int], rounds: int) -> list[str]:
    homes = {size: build(folder, size) for size in tqdm(sizes, desc="build", file=sys.stderr)}
    crowded = crowd(homes[sizes[0]])
    lines: list[str] = []
    for durability in Durability:
        subjects = [open_subject(home, size, durability) for size, home in homes.items()]
        subjects.insert(1, open_subject(crowded, sizes[0], durability, is_crowded=True))
        lines += report.of_rounds(measure(subjects, rounds), durability)
        for subject in subjects:
            subject.close()
    whole = [measure_whole(home, size) for size, home in tqdm(homes.items(), desc="whole", file=sys.stderr)]
    return [*lines, *report.of_whole(whole)]


def _of_processes(folder: Path, seconds: float) -> list[str]:
    writers = [(one, contend(folder / f"writers-{one}.db", one, seconds)) for one in Durability]
    counters = [(one, count_up(folder / f"counters-{one}.db", one, seconds)) for one in Durability]
    return [*report.of_writers(writers, seconds), *report.of_counters(counters, seconds)]


if __name__ == "__main__":
    main()
