"""The benchmark: ratios to plain sqlite3 in the same run, at several sizes and both durabilities, as Markdown.

Run it on a quiet machine: ``make bench``, or ``python tests/benchmarks --sizes 10000 100000 1000000``.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

from contention import PROCESSES, contend
from timing import Timings
from tqdm import tqdm
from workload import CHANGES, DEPTH, Subject, build, open_subject, place, value

from amfs import Durability

_WRITES, _READS, _FEW = 400, 2000, 3

Results = dict[str, Timings]


def measure(subjects: list[Subject], rounds: int) -> dict[int, Results]:
    """Measure every subject in rounds that take turns."""
    results: dict[int, Results] = {subject.size: {} for subject in subjects}
    turns = list(itertools.product(range(rounds + 1), subjects))
    for number, subject in tqdm(turns, desc=subjects[0].durability, file=sys.stderr):
        taken = results[subject.size]
        if number == 1:  # the first round only warms up
            taken.clear()
        _round(subject, taken, number)
    return results


def _round(subject: Subject, taken: Results, number: int) -> None:
    memory, salt = subject.memory, number + 1

    def take(name: str, operation, arguments) -> None:
        taken.setdefault(name, Timings()).take(operation, arguments)

    few = Durability.FULL is subject.durability
    writes = _WRITES // 4 if few else _WRITES
    take("plain write", lambda n: subject.table.write(*place(n), value(n + salt)), zip(subject.numbers(writes)))
    take("history write", lambda n: subject.history.write(*place(n), value(n + salt)), zip(subject.numbers(writes)))
    take("write", lambda n: subject.write(n, salt), zip(subject.numbers(writes)))
    numbers = [(number,) for number in subject.numbers(_READS)]
    take("plain read", lambda n: subject.table.read(*place(n)), numbers)
    take("read", lambda n: memory.read(*place(n)), numbers)
    for depth in (1, DEPTH):
        name = f"depth/{depth}"
        take(f"read at depth {depth}", lambda n, name=name: memory.read(*place(n), branch=name), numbers)
    names = [f"bench/{subject.durability}/{number}/{index}" for index in range(_FEW)]
    take("create branch", lambda name: memory.create_branch(f"{name}/empty", source="main"), zip(names))
    for name in names:
        subject.diverge(name, salt + 1)
    take("diff", lambda name: memory.diff_branch(name, "main"), zip(names))
    take("merge", lambda name: memory.merge_branch(name, target="main"), zip(names))


def report(results: dict[int, Results], durability: Durability) -> list[str]:
    """Return the tables of one durability as Markdown lines."""
    sizes = list(results)
    lines = [f"**durability={durability}**: ratio of medians (ratio of means; median in µs)", ""]
    lines += [f"| | promise | {' | '.join(f'{size:,} entries' for size in sizes)} |", f"|---|---|{'---|' * len(sizes)}"]
    rows = [
        ("write (version + event) / one-row transaction", "<= 4.5 (7 at 1M)", "write", "plain write"),
        ("write / version and event row by hand", "", "write", "history write"),
        ("read (a model) / primary-key SELECT", "<= 3", "read", "plain read"),
        (f"read at depth {DEPTH} / depth 0", "<= 2.5", f"read at depth {DEPTH}", "read"),
        (f"read at depth {DEPTH} / depth 1", "", f"read at depth {DEPTH}", "read at depth 1"),
    ]
    for title, promise, name, base in rows:
        cells = [_cell(results[size][name], results[size][base]) for size in sizes]
        lines.append(f"| {title} | {promise} | {' | '.join(cells)} |")
    smallest = results[sizes[0]]
    growing = [
        ("read", "<= 2.5"),
        ("create branch", "<= 1.3"),
        ("diff", "<= 1.3"),
        ("merge", "<= 1.6"),
    ]
    for name, promise in growing:
        title = f"{name} of {CHANGES} changes" if name in {"diff", "merge"} else name
        cells = [_cell(results[size][name], smallest[name]) for size in sizes]
        lines.append(f"| {title} / the same at {sizes[0]:,} | {promise} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(one: Timings, other: Timings) -> str:
    return f"**{one.ratio(other):.2f}** ({one.mean_ratio(other):.2f}; {one.median:.1f})"


def main() -> None:
    """Run the benchmark and print, or write, its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the processes contend")
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
        homes = {size: build(Path(folder), size) for size in tqdm(options.sizes, desc="build", file=sys.stderr)}
        for durability in Durability:
            subjects = [open_subject(home, size, durability) for size, home in homes.items()]
            lines += report(measure(subjects, options.rounds), durability)
            for subject in subjects:
                subject.close()
        lines += [
            (
                f"{PROCESSES} processes writing one key for {options.seconds:g} s: no lost write and no error allowed, "
                "slowest / fastest >= 0.67"
            ),
            "",
            "| durability | writes per process | slowest / fastest | errors | lost |",
            "|---|---|---|---|---|",
        ]
        for durability in Durability:
            found = contend(Path(folder) / f"contention-{durability}.db", durability, options.seconds)
            writes = ", ".join(f"{count:,}" for count in sorted(found.writes))
            lines.append(f"| {durability} | {writes} | {found.fairness:.2f} | {found.errors} | {found.lost} |")
    text = "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
