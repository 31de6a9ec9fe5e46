"""Run the demo: ``python notebooks/demo``."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path

from story import tell

DEFAULT_DATABASE = Path(".amfs/demo.db")


def main() -> None:
    """Read the command line and tell the story."""
    parser = argparse.ArgumentParser(prog="python notebooks/demo", description=tell.__doc__)
    parser.add_argument("--seed", type=int, default=11, help="decides the faults (default: 11)")
    parser.add_argument(
        "--database", type=Path, default=DEFAULT_DATABASE, help=f"a new file (default: {DEFAULT_DATABASE})"
    )
    parser.add_argument("--requests", type=_positive, default=200, help="per measurement (default: 200)")
    arguments = parser.parse_args()
    tell(arguments.seed, _unused(arguments.database), arguments.requests)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _unused(path: Path) -> Path:
    """Return the path, or path-2, path-3 … if it exists: no database is ever overwritten."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return path if not path.exists() else next(name for name in numbered if not name.exists())


if __name__ == "__main__":
    main()
