"""How models print in a terminal and show in a notebook, with data nobody vouches for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from amfs import AgentMemory, MergeConflictError, Page
from amfs.display import html_table, text_table
from tests.helpers_display import HOSTILE, OURS, SVC, Reader, assert_safe, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mem(tmp_path: Path) -> Iterator[AgentMemory]:
    with AgentMemory("deploy-agent", tmp_path / "memory.db") as memory:
        yield memory


# --- entries ----------------------------------------------------------------------------------------------------------


def test_an_entry_is_one_line_and_its_value(mem):
    mem.write(SVC, "retry-pattern", {"max_retries": 3})
    entry = mem.write(SVC, "retry-pattern", {"max_retries": 5}, confidence=0.85)

    line, *value = str(entry).splitlines()

    assert line.startswith(f"{SVC}/retry-pattern v2, confidence 0.85, by deploy-agent, on main, seq {entry.seq}, ")
    assert value == ["{", '  "max_retries": 5', "}"]
    assert "&quot;max_retries&quot;: 5" in entry._repr_html_()


def test_an_entry_says_what_is_unusual_about_it(mem):
    mem.write(SVC, "note", 1, shared=False, memory_type="belief", ttl=3600)
    assert "belief, confidence 1.00, by deploy-agent (private)" in str(mem.read(SVC, "note"))
    assert ", expires 2" in str(mem.read(SVC, "note"))


def test_a_long_value_is_cut_and_says_so(mem):
    lines = str(mem.write(SVC, "long", {"hosts": list(range(100)), "x": "y" * 1000})).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "… 85 more"
    wide = str(mem.write(SVC, "wide", "z" * 1000)).splitlines()[1]
    assert len(wide) == 110
    assert wide.endswith("…")


def test_a_list_is_a_table(mem):
    mem.write(SVC, "retry-pattern", {"max_retries": 3}, confidence=0.5)
    mem.write(SVC, "timeout", None)

    head, first, second = str(mem.list(SVC)).splitlines()

    assert re.split(r"  +", head) == [
        "path",
        "key",
        "v",
        "value",
        "confidence",
        "author",
        "branch",
        "when (UTC)",
    ]
    assert re.split(r"  +", first)[:7] == [
        SVC, "retry-pattern", "1", '{"max_retries": 3}', "0.50", "deploy-agent", "main",
    ]  # fmt: skip
    assert re.split(r"  +", second)[3] == "null"
    assert head.index("confidence") == first.index("0.50") == second.index("1.00")
    assert Reader(mem.list(SVC)._repr_html_()).tags <= OURS


def test_a_deleted_version_shows_as_deleted(mem):
    mem.write(SVC, "retry-pattern", 1)
    mem.delete(SVC, "retry-pattern")
    history = mem.history(SVC, "retry-pattern")
    assert "(deleted)" in str(history).splitlines()[-1]
    assert "v2, deleted" in str(history[-1])


def test_pages_show_twenty_rows_and_count_the_rest(mem):
    for number in range(25):
        mem.write(SVC, f"key-{number:02}", number)

    everything, page = mem.list(SVC), mem.list(SVC, limit=5)

    assert str(everything).splitlines()[-1] == "… 5 more"
    assert "key-19" in str(everything)
    assert "key-20" not in str(everything)
    assert rows(everything._repr_html_()) == 20
    assert "<p>… 5 more</p>" in everything._repr_html_()
    assert str(page).splitlines()[-1] == "more with cursor=page.next_cursor"
    assert "next_cursor" in page._repr_html_()
    assert str(mem.timeline()).splitlines()[-1] == f"… {len(mem.timeline()) - 20} more"


@pytest.mark.parametrize("page", ["list", "timeline", "experiments", "tags", "conflicts", "pull_requests", "api_keys"])
def test_an_empty_page_says_so(mem, page):
    empty = getattr(mem, page)()
    assert empty == []
    assert str(empty) == "nothing here"
    assert "nothing here" in empty._repr_html_()


def test_a_page_of_something_else_shows_its_items():
    assert str(Page(["a", {"b": 1}])) == "'a'\n{'b': 1}"
    assert Page(["<b>"])._repr_html_().count("&lt;b&gt;") == 1


def test_looking_changes_nothing(mem):
    entry = mem.as_agent("review-agent").write(SVC, "retry-pattern", 1)
    before = mem.stats().events
    for shown in (entry, mem.list(), mem.timeline(agent_id="*"), mem.branches(), mem.stats()):
        assert str(shown) == str(shown)
        assert shown._repr_html_() == shown._repr_html_()
    assert mem.stats().events == before


# --- hostile data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", HOSTILE)
def test_names_and_values_cannot_leave_their_place(mem, words):
    mem.write(words.replace("/", "|"), words, {words: words, "nested": [words]}, pattern_refs=[words])
    mem.create_branch("side", words)
    mem.write(words.replace("/", "|"), words, words, branch="side")
    mem.record_context(words, words, words)
    shown = [
        mem.list(), mem.list()[0], mem.timeline(), mem.timeline()[0], mem.branches(), mem.diff_branch("side"),
        mem.merge_branch("side"), mem.commit_outcome(words, "success", mem.list()), mem.explain(words),
    ]  # fmt: skip
    assert_safe(shown)


def test_a_key_with_a_line_break_stays_in_its_row(mem):
    mem.write(SVC, "two\nlines", "a\nb")
    assert len(str(mem.list()).splitlines()) == 2
    assert "two\\nlines" in str(mem.list())
    assert "two\\nlines" in mem.list()._repr_html_()


def test_dollar_signs_are_not_typeset_as_formulas(mem):
    mem.write(SVC, "price", "$5 to $7")
    assert mem.list()._repr_html_().startswith('<div class="tex2jax_ignore mathjax_ignore">')


def test_a_megabyte_is_cut(mem):
    mem.write(SVC, "big", "<" * 1_000_000)
    assert len(str(mem.list())) < 1000
    assert len(mem.list()._repr_html_()) < 3000
    assert len(mem.read(SVC, "big")._repr_html_()) < 3000


# --- diffs and merges -------------------------------------------------------------------------------------------------


@pytest.fixture
def changed(mem) -> AgentMemory:
    """A branch "side" that added, modified and deleted an entry each, and clashes with main in a fourth."""
    mem.write(SVC, "retry-pattern", {"max_retries": 3, "backoff": "linear", "jitter": True})
    mem.write(SVC, "old", "gone soon")
    mem.write(SVC, "limit", {"rps": 10})
    mem.create_branch("side")
    side = mem.on_branch("side")
    side.write(SVC, "retry-pattern", {"max_retries": 5, "backoff": "linear", "cap": 9})
    side.write(SVC, "new", "here now")
    side.delete(SVC, "old")
    side.write(SVC, "limit", {"rps": 20})
    mem.write(SVC, "limit", {"rps": 30})
    return mem


def test_a_diff_has_signs_and_fields(changed):
    lines = str(changed.diff_branch("side")).splitlines()

    assert lines[0] == "4 changes, 1 added, 1 modified, 1 deleted, 1 in conflict"
    signs = {line.split()[2]: line.split()[0] for line in lines[2:] if line[0] != " "}
    assert signs == {"retry-pattern": "~", "old": "-", "limit": "!", "new": "+"}
    drawn = "\n".join(lines)
    assert "max_retries: 3 -> 5" in drawn
    assert "cap: added 9" in drawn
    assert "jitter: removed true" in drawn
    assert 'edit/edit: the target has {"rps": 30}' in drawn
    assert "v1 -> v2" in drawn


def test_a_diff_in_html_reads_without_styles(changed):
    source = changed.diff_branch("side")._repr_html_()
    plain = re.sub(r' (style|class)="[^"]*"', "", source)
    assert "max_retries: <del>3</del> → <ins>5</ins>" in plain
    assert "cap: <ins>9</ins>" in plain
    assert "jitter: <del>true</del>" in plain
    assert "<ins>&quot;here now&quot;</ins>" in plain
    assert "<del>&quot;gone soon&quot;</del>" in plain
    assert all(f"<tr><td>{sign}</td>" in plain for sign in "+~-!")


def test_a_change_of_confidence_alone_is_shown(mem):
    mem.write(SVC, "retry-pattern", 3, confidence=0.5)
    mem.create_branch("side")
    mem.write(SVC, "retry-pattern", 3, confidence=0.75, branch="side")
    assert "confidence: 0.50 -> 0.75" in str(mem.diff_branch("side"))


def test_a_change_of_the_whole_value_and_many_fields(mem):
    mem.write(SVC, "scalar", 1)
    mem.write(SVC, "wide", {f"f{number}": 0 for number in range(9)})
    mem.create_branch("side")
    mem.write(SVC, "scalar", "one", branch="side")
    mem.write(SVC, "wide", {f"f{number}": 1 for number in range(9)}, branch="side")
    drawn = str(mem.diff_branch("side"))
    assert 'value: 1 -> "one"' in drawn
    assert "f4: 0 -> 1" in drawn
    assert "f5: 0 -> 1" not in drawn
    assert "… 4 more" in drawn


def test_one_change_is_a_diff_of_one(mem):
    mem.write(SVC, "pool", {"size": 5})
    mem.write(SVC, "pool", {"size": 10})
    change = mem.compare_versions(SVC, "pool")
    assert "size: 5 -> 10" in str(change)
    assert "<del" in change._repr_html_()


def test_a_merge_says_what_it_did(changed):
    with pytest.raises(MergeConflictError) as refused:
        changed.merge_branch("side")
    lines = str(refused.value.result).splitlines()
    assert lines[0].startswith("conflicts: side -> main, nothing applied, strategy three_way")
    assert lines.index("free of conflicts:") < lines.index("conflicts:")
    assert "applied:" not in lines
    assert re.split(r"  +", lines[-1]) == [
        "!", SVC, "limit", "edit/edit", "rps", '{"rps": 10}', '{"rps": 20}', '{"rps": 30}',
    ]  # fmt: skip

    rehearsal = changed.merge_branch("side", strategy="target_wins", dry_run=True)
    assert str(rehearsal).startswith("dry run, merged: side -> main, 3 entries, strategy target_wins\n")
    assert "would be applied:" in str(rehearsal)

    merged = changed.merge_branch("side", strategy="target_wins")
    drawn = str(merged)
    assert drawn.startswith("merged: side -> main, 3 entries, strategy target_wins, event ")
    assert drawn.index("applied:") < drawn.index("retry-pattern") < drawn.index("skipped:") < drawn.index("!")
    assert rows(merged._repr_html_()) + 1 == 3 + 2 + 1

    again = changed.merge_branch("side", strategy="target_wins")
    assert str(again) == "up to date: side -> main, 0 entries, strategy target_wins"


def test_conflicts_with_a_missing_side(mem):
    mem.write(SVC, "limit", {"rps": 10})
    mem.create_branch("side")
    mem.write(SVC, "limit", {"rps": 20}, branch="side")
    mem.delete(SVC, "limit")
    result = mem.merge_branch("side", dry_run=True)
    assert "(absent)" in str(result).splitlines()[-1]
    assert "edit/delete: the target is absent" in str(mem.diff_branch("side"))
    assert "(absent)" in str(result.conflicts[0])


# --- timeline, branches, outcomes, reports ----------------------------------------------------------------------------


def test_a_timeline_is_newest_first(mem):
    mem.write(SVC, "retry-pattern", 1)
    mem.write(SVC, "retry-pattern", 2)

    head, *lines = str(mem.timeline()).splitlines()

    assert re.split(r"  +", head) == ["seq", "time (UTC)", "agent", "branch", "summary"]
    assert lines[0].endswith(f"deploy-agent  main    Wrote {SVC}/retry-pattern v2")
    assert lines[1].endswith(f"deploy-agent  main    Wrote {SVC}/retry-pattern v1")
    assert str(mem.timeline()[0]).startswith(
        f"Wrote {SVC}/retry-pattern v2, by deploy-agent, on main, seq {mem.timeline()[0].seq}, "
    )


def test_branches_are_a_tree(mem):
    mem.create_branch("side", "trying things")
    mem.create_branch("side/deeper", source="side")
    mem.create_branch("other")
    mem.close_branch("other")

    lines = str(mem.branches()).splitlines()

    assert [line.split(" (")[0] for line in lines] == ["main", "|-- side", "|   `-- side/deeper", "`-- other"]
    assert lines[0].startswith("main (open")
    assert lines[1].endswith(", by deploy-agent) trying things")
    assert "closed, from main at" in lines[3]
    assert str(mem.branches("closed")).startswith("other (closed, ")
    assert "<pre>main (open" in mem.branches()._repr_html_()


def test_an_outcome_shows_how_confidence_moved(mem):
    mem.write(SVC, "retry-pattern", 1, confidence=0.5)
    mem.read(SVC, "retry-pattern")
    mem.record_context("pager", "no alarms")
    outcome = mem.commit_outcome("deploy-42", "success")

    assert str(outcome).startswith("outcome deploy-42: success, weight 1, seq ")
    assert re.search(r"retry-pattern  v1  0\.50 -> 0\.\d\d$", str(outcome))
    assert "recorded before, nothing changed" in str(mem.commit_outcome("deploy-42", "success"))
    explained = str(mem.explain("deploy-42"))
    assert "retry-pattern" in explained
    assert "pager" in explained
    assert "deploy-42" in mem.explain("deploy-42")._repr_html_()


def test_an_outcome_says_what_it_did_not_move(mem):
    mem.write(SVC, "retry-pattern", 1, confidence=0.5)
    mem.read(SVC, "retry-pattern")
    mem.write(SVC, "retry-pattern", 2)
    assert "0.50, not moved: " in str(mem.commit_outcome("deploy-42", "success"))


def test_experiments_and_their_comparison_are_tables(mem):
    with mem.experiment("retry-v3", params={"max_retries": 5, "<b>": "x"}) as exp:
        exp.log(score=0.9)

    drawn = str(mem.experiments())

    assert "retry-v3" in drawn
    assert "max_retries=5" in drawn
    assert "score=0.9" in drawn
    assert "finished" in str(mem.experiments()[0])
    assert Reader(mem.experiments()._repr_html_()).tags <= OURS
    assert "retry-v3" in str(mem.compare())
    assert Reader(mem.compare()._repr_html_()).tags <= OURS


def test_reports_read_as_sentences_and_tables(mem):
    mem.write(SVC, "retry-pattern", 1)
    assert re.search(r"^entries +1$", str(mem.stats()), re.MULTILINE)
    assert all(note in str(mem.stats()) for note in mem.stats().notes)
    assert re.fullmatch(r"no problems, \d+ checks over 1 version", str(mem.verify()))
    assert "no problems" in mem.verify()._repr_html_()


# --- the tables themselves --------------------------------------------------------------------------------------------


def test_wide_letters_keep_columns_aligned():
    lines = text_table(["a", "b"], [["名前", 1], ["e\u0301", 2], ["plain", 3]]).splitlines()
    assert lines == ["a      b", "名前   1", "e\u0301      2", "plain  3"]


def test_cells_of_any_kind():
    drawn = text_table(["x"], [[None], [True], [0.1 + 0.2], [{"a": [1]}], ["text"]])
    assert drawn.splitlines() == ["x", "", "true", "0.3", '{"a": [1]}', "text"]


def test_headers_are_data_too():
    assert "\x1b" not in text_table(["\x1b[31m"], [[1]])
    assert Reader(html_table(["<script>"], [["<b>"]])).tags <= OURS
    assert text_table(["x"], []) == "nothing here"
    assert "nothing here" in html_table(["x"], [])
