"""A namespace as a file of JSON lines, and back.

The first line says what the file is and how many rows of each kind follow; then one line per row, with the kind it is;
the last line holds the number of lines and the SHA-256 of all before it, so a file that lost or changed anything is
refused. Rows name each other by the numbers they had in the database they come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from amfs.core.validation import shown
from amfs.errors import InvalidExportError, NamespaceNotEmptyError, NotSupportedError
from amfs.storage import files
from amfs.storage.rows import JSON_COLUMNS

if TYPE_CHECKING:
    from pathlib import Path

    from amfs.core.context import Context, WriteContext
    from amfs.storage.rows import ExportRow

FORMAT = "amfs-namespace"
VERSION = 1
"""Counts up whenever an older AMFS could not read the file."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def export_to(context: Context, path: object, namespace: str) -> int:
    """Write all of the context's namespace into a file and return the number of its lines.

    Raises:
        NotSupportedError: The namespace is a fork, so that it holds what lies in another one.
    """
    context.require_admin("export a namespace")
    target, database = files.file_path("path", path), context.tx.database_file()
    files.refuse_own("path", target, database)
    _require_own_history(context, namespace)
    with files.replacing(target, database) as write:
        digest, lines = sha256(), 1
        for line in _lines(context, namespace):
            digest.update(line)
            write(line)
            lines += 1
        write(_last(lines, digest.hexdigest()))
    return lines


def import_from(context: WriteContext, path: object) -> int:
    """Add what a file holds to the context's namespace, which must be empty, and return the number of its lines.

    Raises:
        NamespaceNotEmptyError: Something was written here already.
        InvalidExportError: The file is no export, or not whole.
    """
    context.require_admin("import a namespace")
    source = files.file_path("path", path)
    _require_empty(context)
    with files.explained(source):
        if not source.exists():
            raise InvalidExportError(f"there is no file {str(source)!r}; pass what export_namespace() wrote")
        return _read(context, source)


def _require_own_history(context: Context, namespace: str) -> None:
    tx = context.tx
    for branch, _ in tx.branches(context.namespace):
        if branch.parent is not None and tx.branch_by_id(branch.parent).namespace != context.namespace:
            raise NotSupportedError(
                f"namespace {namespace!r} is a fork: what it inherited lies in the namespace it was forked from, so it "
                "cannot be exported alone; backup() copies the whole database"
            )


def _require_empty(context: WriteContext) -> None:
    branches = context.tx.branches(context.namespace)
    if len(branches) > 1 or branches[0][0].parent is not None or context.tx.last_seq_of(branches[0][0].id):
        raise NamespaceNotEmptyError(
            "something was written in this namespace already; open an AgentMemory with another namespace= to import "
            "into"
        )


def _lines(context: Context, namespace: str) -> Iterator[bytes]:
    counts = context.tx.namespace_counts(context.namespace)
    yield _line({"format": FORMAT, "version": VERSION, "namespace": namespace, "counts": counts})
    for kind, row in context.tx.namespace_rows(context.namespace):
        yield _line({"kind": kind, **{name: _decoded(name, row) for name in row}})


def _decoded(name: str, row: ExportRow) -> Any:
    return json.loads(cast("str", row[name])) if name in JSON_COLUMNS else row[name]


def _line(row: Mapping[str, Any]) -> bytes:
    return f"{_encode(row)}\n".encode()


def _last(lines: int, digest: str) -> bytes:
    return _line({"kind": "end", "lines": lines, "sha256": digest})


def _read(context: WriteContext, source: Path) -> int:
    digest, lines, counts = sha256(), 0, dict[str, int]()
    try:
        with source.open("rb") as file:
            header = _header(file.readline())
            digest.update(_line(header))
            adding = context.tx.importing(context.namespace, header["namespace"])
            lines, line = 2, file.readline()
            while line != _last(lines, digest.hexdigest()):
                kind, row = _row(line)
                adding.add(kind, row)
                counts[kind] = counts.get(kind, 0) + 1
                digest.update(line)
                lines, line = lines + 1, file.readline()
            _require_complete(file, counts, header)
            adding.finish()
    except InvalidExportError as error:
        where = f"line {lines} of " if lines else ""
        raise InvalidExportError(
            f"{where}{str(source)!r} cannot be imported: {error}. Nothing was imported; export the namespace again"
        ) from error
    return lines


def _require_complete(file: BinaryIO, counts: dict[str, int], header: dict[str, Any]) -> None:
    if file.readline() or counts != {kind: count for kind, count in header["counts"].items() if count}:
        raise InvalidExportError("it holds more or less than it says")


def _header(line: bytes) -> dict[str, Any]:
    header = _parsed(line)
    if header.get("format") != FORMAT:
        raise InvalidExportError("it is not what export_namespace() writes")
    version = header.get("version")
    if isinstance(version, int) and version > VERSION:
        raise InvalidExportError(f"it has format {version}, this version of AMFS knows {VERSION}: upgrade AMFS")
    if version != VERSION or not isinstance(header.get("namespace"), str) or not isinstance(header.get("counts"), dict):
        raise InvalidExportError("it is not what export_namespace() writes")
    if line != _line(header):
        raise InvalidExportError("it was changed")
    return header


def _row(line: bytes) -> tuple[str, dict[str, object]]:
    row = _parsed(line)
    kind = row.pop("kind", None)
    if not isinstance(kind, str) or kind == "end":
        raise InvalidExportError("it was changed, or something is missing")
    try:
        return kind, {name: _encode(value) if name in JSON_COLUMNS else value for name, value in row.items()}
    except ValueError as error:
        raise InvalidExportError(f"{error}") from error


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidExportError("it is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidExportError(f"{shown(found)} is no object")
    return cast("dict[str, Any]", found)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
