"""Recorded expansions."""

from __future__ import annotations

import json

import pytest

from limbeck.agents.recorded import Recorded
from limbeck.errors import CheckError, DataError, UsageError
from limbeck.meter import metered
from limbeck.types import Query
from tests.fakes import Listed

LINES = [
    {"query_id": "a", "text": ["one", "two"], "expanded": "q q one two"},
    {"query_id": "b", "text": "alone", "expanded": " "},
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "recorded.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return file


def test_expanded_is_searched_as_it_stands(path):
    (query,) = Recorded(path)([Query("a", "q")])
    assert query.weighted_texts() == [("q q one two", 1.0)]
    assert [(text, weight) for text, weight, *_ in query.weighted_inputs()] == [
        ("q q one two", 1.0)
    ]


def test_texts_are_weighed_as_a_method_does(path):
    (query,) = Recorded(path, method="lamer")([Query("a", "q")])
    assert query.weighted_texts() == [("q", 2.0), ("one", 1.0), ("two", 1.0)]
    (query,) = Recorded(path, method="verbatim")([Query("b", "q")])
    assert query.weighted_texts() == [("alone", 1.0)]


def test_a_query_without_a_recording_keeps_its_text(path):
    with metered() as meter:
        queries = Recorded(path)([Query("c", "q"), Query("b", "r")])
    assert [query.expansions for query in queries] == [(), ()]
    assert sum(meter.notes.values()) == 2


@pytest.mark.parametrize(
    ("line", "method", "said"),
    [
        ({"text": "x"}, "mugi", "must have a `query_id`"),
        ({"query_id": 7, "text": "x"}, "mugi", "must have a `query_id`"),
        ({"query_id": "a", "text": "x"}, "mugi", "of its own"),
        ({"query_id": "z", "text": 3}, "mugi", "must have `text`"),
        ({"query_id": "z", "text": ["x", 3]}, "mugi", "must have `text`"),
        ({"query_id": "z", "text": "x"}, "expanded", "must have `expanded`"),
    ],
)
def test_a_malformed_line_is_named(path, line, method, said):
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=f"line 3 .*{said}"):
        Recorded(path, method=method)([Query("a", "q")])


def test_the_fingerprint_is_that_of_the_content(path, tmp_path):
    """It was that of the path too, and this test made its copy and never looked at it."""
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    before = Recorded(path).fingerprint
    assert Recorded(copy).fingerprint == before
    assert Recorded(path, method="mugi").fingerprint != before
    path.write_text(json.dumps(LINES[0]) + "\n")
    assert Recorded(path).fingerprint != before


def test_one_file_is_one_node_whatever_its_path_is_called(path, monkeypatch):
    """A relative path made another node of the same file, and was lost when the folder changed."""
    monkeypatch.chdir(path.parent)
    relative = Recorded("recorded.jsonl")
    linked = path.with_name("linked.jsonl")
    linked.symlink_to(path)
    for other in (Recorded(path), Recorded("../" + path.parent.name + "/recorded.jsonl")):
        assert other == relative
        assert hash(other) == hash(relative)
        assert other.fingerprint == relative.fingerprint
    assert Recorded(linked) == relative
    monkeypatch.chdir("/")
    (query,) = relative([Query("a", "q")])
    assert query.weighted_texts() == [("q q one two", 1.0)]


def test_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(UsageError, match="a path must name a file"):
        Recorded("a\0b")


def test_a_missing_file_is_found_by_the_check_and_named_when_read(tmp_path):
    node = Recorded(tmp_path / "none.jsonl")
    with pytest.raises(CheckError, match="which is no file"):
        (node >> Listed()).check()
    with pytest.raises(DataError, match=r"none\.jsonl must be"):
        node([Query("a", "q")])


def test_an_unknown_method_is_refused(path):
    with pytest.raises(UsageError, match="method of recorded must be one of expanded, hyde"):
        Recorded(path, method="lamr")
