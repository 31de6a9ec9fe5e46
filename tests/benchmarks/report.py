"""The report: Markdown tables of ratios, each beside what was promised, with what was missed in plain sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from contention import COUNTERS, WRITERS
from recall import COMPARISONS, Comparison
from workload import CHANGES, CROWD, DEPTHS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from contention import Contention
    from rounds import Measured
    from timing import Timings
    from whole import Whole

    from amfs import Durability

_LARGE = 1_000_000
_LONGEST_WAIT = 5.0
_FAIRNESS = 0.67


class Row(NamedTuple):
    """A ratio of two operations; ``most`` is the promise, and ``most_at_large`` the one from 1M entries on."""

    title: str
    name: str
    base: str
    most: float | None = None
    most_at_large: float | None = None

    @property
    def promise(self) -> str:
        """The promise in words."""
        if self.most is None:
            return ""
        return f"<= {self.most:g}" + (f" ({self.most_at_large:g} at 1M)" if self.most_at_large else "")

    def limit(self, size: int) -> float | None:
        """Return what is promised at a size."""
        return self.most_at_large if self.most_at_large and size >= _LARGE else self.most


_BESIDE_PLAIN = (
    Row("write (version + event) / one-row transaction", "write", "plain write", 4.5, 7),
    Row("write / version and event row by hand", "write", "history write"),
    Row("write with an API key / as the owner", "write with a key", "write"),
    Row("read (a model) / primary-key SELECT", "read", "plain read", 3),
    Row("read with an API key / as the owner", "read with a key", "read"),
    *(Row(f"read at depth {n} / 0", f"read at depth {n}", "read", 2.5 if n == 20 else None) for n in DEPTHS),
)
_GROWING = (
    Row("read", "read", "", 2.5),
    Row("read as of a seq", "read by seq", "", 2.5),
    Row("read as of a tag", "read by tag", "", 2.5),
    Row("list of a path (100 entries) as of a seq", "list by seq", "", 2.5),
    Row("create branch", "create branch", "", 1.3),
    Row("create tag", "create tag", "", 1.3),
    Row("delete tag", "delete tag", "", 1.3),
    Row("fork, right after another", "fork", "", 1.3),
    Row(f"fork, {CHANGES} changes after the last", "fork after changes", "", 2.5),
    Row(f"diff of {CHANGES} changes", "diff", "", 1.3),
    Row(f"merge of {CHANGES} changes", "merge", "", 1.6),
    Row(f"rollback of {CHANGES} changes", "rollback", "", 1.6),
    Row(f"cherry-pick of {CHANGES} entries", "cherry-pick", "", 1.6),
)
_CROWDED = (
    Row("read", "read", "", 1.3),
    Row(f"diff of {CHANGES} changes", "diff", "", 1.3),
    Row(f"merge of {CHANGES} changes", "merge", "", 1.6),
)


def of_rounds(measured: Sequence[Measured], durability: Durability) -> list[str]:
    """Return the tables of one durability."""
    usual = [one for one in measured if not one.is_crowded]
    smallest = usual[0]
    sizes = [f"{one.size:,} entries" for one in usual]
    return [
        f"**durability={durability}**: ratio of medians (ratio of means; median in µs)",
        "",
        *_table(
            ["beside each other", "promise", *sizes],
            (
                [row.title, row.promise, *(_cell(row, one, one.times[row.base]) for one in usual)]
                for row in _BESIDE_PLAIN
            ),
        ),
        *_table(
            [f"growth: the same at {smallest.size:,} is 1", "promise", *sizes],
            (
                [row.title, row.promise, *(_cell(row, one, smallest.times[row.name]) for one in usual)]
                for row in _GROWING
            ),
        ),
        *(line for one in measured if one.is_crowded for line in _of_crowd(one, smallest)),
    ]


def _of_crowd(crowded: Measured, smallest: Measured) -> list[str]:
    rows = [[row.title, row.promise, _cell(row, crowded, smallest.times[row.name])] for row in _CROWDED]
    rows.append(["branches(), for each branch", "", f"{crowded.times['branches, for each'].median:.1f} µs"])
    return _table([f"{CROWD:,} more branches / without, {crowded.size:,} entries", "promise", ""], rows)


def of_whole(found: Iterable[Whole]) -> list[str]:
    """Return the table of what takes as long as there is much in the database."""
    rows: list[list[str]] = []
    for one in found:
        per_100k = one.verify * 100_000 / one.versions
        backup = "" if one.backup is None else f"{one.backup:.2f} s, {one.megabytes / one.backup:.0f} MB/s"
        file = f"{one.versions:,} versions, {one.megabytes:.0f} MB"
        rows.append([f"{one.size:,} entries", file, f"{one.verify:.2f} s", f"{per_100k:.2f} s", backup, _ms(one.fork)])
    header = ["", "file", "verify()", "per 100k versions", "backup(), verified", "first fork of a branch"]
    return ["What grows with the database, once each:", "", *_table(header, rows)]


def of_writers(found: Iterable[tuple[Durability, Contention]], seconds: float) -> list[str]:
    """Return the table of the processes that write one key."""
    rows = [
        [
            str(durability),
            ", ".join(f"{count:,}" for count in sorted(share.written for share in one.shares)),
            _judged(f"{one.fairness:.2f}", round(one.fairness, 2) >= _FAIRNESS),
            _none(one.errors),
            _none(one.lost),
        ]
        for durability, one in found
    ]
    return [
        f"{WRITERS} processes writing one key for {seconds:g} s:",
        "",
        *_table(["durability", "writes", f"slowest / fastest >= {_FAIRNESS}", "errors = 0", "lost = 0"], rows),
    ]


def of_counters(found: Iterable[tuple[Durability, Contention]], seconds: float) -> list[str]:
    """Return the table of the processes that count up with ``expected_version``."""
    rows = [
        [
            str(durability),
            f"{one.throughput:,.0f}",
            f"{one.refused:,}",
            _none(one.lost),
            _none(one.errors),
            _judged(f"{one.longest:.2f}", one.longest < _LONGEST_WAIT),
        ]
        for durability, one in found
    ]
    header = ["durability", "updates / s", "refused", "lost = 0", "errors = 0", f"longest, in s, < {_LONGEST_WAIT:g}"]
    return [
        f"{COUNTERS} processes counting up one entry (read, then write with `expected_version`) for {seconds:g} s:",
        "",
        *_table(header, rows),
    ]


def of_search(found: Mapping[int, Mapping[str, Timings]]) -> list[str]:
    """Return the table of search, by size."""
    rows = [
        [
            one.title,
            "" if one.most is None else f"<= {one.most:g}",
            *(_compared(one, times[one.name], times[one.base]) for times in found.values()),
        ]
        for one in COMPARISONS
    ]
    return [
        "Search, ratio of medians (ratio of means; median in µs):",
        "",
        *_table(["", "promise", *(f"{size:,} entries" for size in found)], rows),
    ]


def _compared(row: Comparison, mine: Timings, base: Timings) -> str:
    ratio = mine.ratio(base)
    figure = _judged(f"{ratio:.2f}", row.most is None or round(ratio, 2) <= row.most)
    return f"{figure} ({mine.mean_ratio(base):.2f}; {mine.median:,.0f})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(header), f"|{'---|' * len(header)}", *map(_line, rows), ""]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: Row, one: Measured, base: Timings) -> str:
    mine, limit = one.times[row.name], row.limit(one.size)
    ratio = mine.ratio(base)
    figure = _judged(f"{ratio:.2f}", limit is None or round(ratio, 2) <= limit)
    return f"{figure} ({mine.mean_ratio(base):.2f}; {mine.median:.1f})"


def _judged(figure: str, is_kept: bool) -> str:
    return f"**{figure}**" if is_kept else f"**{figure} missed**"


def _none(count: int) -> str:
    return _judged(f"{count:,}", count == 0)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"
