"""Fingerprints: stable, content-based, and different where anything that matters is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UsageError
from limbeck.fingerprint import canonical_json, digest, fingerprint, fingerprint_callable

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def test_parts_do_not_run_on():
    assert digest("ab", "c") != digest("a", "bc")


@given(_PLAIN)
def test_the_same_value_has_the_same_fingerprint(value):
    assert fingerprint(value) == fingerprint(value)


def test_order_of_keys_and_of_sets_does_not_matter():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert canonical_json({"x", "y", "z"}) == canonical_json({"z", "y", "x"})


def test_types_are_told_apart():
    assert len({fingerprint(v) for v in (0, 0.0, False, "0", None, b"0", [0])}) == 7


def test_dataclasses_count_with_their_type():
    @dataclass
    class A:
        x: int

    @dataclass
    class B:
        x: int

    assert fingerprint(A(1)) == fingerprint(A(1))
    assert len({fingerprint(v) for v in (A(1), A(2), B(1))}) == 3


def test_an_object_without_content_is_refused():
    with pytest.raises(UsageError, match="fingerprint"):
        fingerprint(object())


def test_a_callable_is_known_by_its_code_and_what_it_closes_over():
    def made(word):
        return lambda text: text.split(word)

    assert fingerprint_callable(made("a")) == fingerprint_callable(made("a"))
    assert fingerprint_callable(made("a")) != fingerprint_callable(made("b"))
    assert fingerprint_callable(made("a")) != fingerprint_callable(lambda text: text.split())
    assert fingerprint_callable(str.split) != fingerprint_callable(str.lower)


def test_a_fingerprint_is_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from limbeck.fingerprint import fingerprint, fingerprint_callable as f;"
        "print(fingerprint({'a': {1, 2, 3}, 'b': {'x', 'y'}}),"
        " f(lambda t: t in {'x', 'y', 'z'}))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


def _analyzer(source: str, name: str = "analyse"):
    module = {"__name__": "users_own"}
    exec(source, module)
    return module[name]


_SOURCE = """
import re
from functools import cache
STOP = {"the", "a"}
WORD = re.compile("[a-z]+")
@cache
def stem(word):
    return word.rstrip("s")
def words(text):
    return [stem(w) for w in WORD.findall(text) if w not in STOP]
def analyse(text):
    return words(text.lower())
"""


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ('rstrip("s")', 'rstrip("e")'),
        ("w not in STOP", "w in STOP"),
        ('{"the", "a"}', '{"the"}'),
        ('"[a-z]+"', '"[a-z0-9]+"'),
    ],
)
def test_a_callable_is_known_by_what_it_reads_by_name(there, here):
    assert there in _SOURCE
    first = fingerprint_callable(_analyzer(_SOURCE))
    assert fingerprint_callable(_analyzer(_SOURCE)) == first
    assert fingerprint_callable(_analyzer(_SOURCE.replace(there, here))) != first
    assert fingerprint_callable(_analyzer(_SOURCE + "unused = 1\n")) == first


def test_a_callable_that_calls_itself_has_a_fingerprint():
    def made(end):
        def own(text):
            return own(text[1:]) if text else [end]

        return own

    assert fingerprint_callable(made("a")) == fingerprint_callable(made("a"))
    assert fingerprint_callable(made("a")) != fingerprint_callable(made("b"))
    each_other = (
        "def analyse(t):\n    return other(t)\ndef other(t):\n    return analyse(t) or END\n"
    )
    one, two = (_analyzer(f"{each_other}END = {end}\n") for end in (1, 2))
    assert fingerprint_callable(one) != fingerprint_callable(two)


def test_what_has_no_content_is_known_by_its_type_and_a_library_by_name():
    source = (
        "import re, threading\nfrom json import dumps\nlock = threading.Lock()\n"
        "def analyse(text):\n    with lock:\n        return re.split(' ', dumps(text))\n"
    )
    first = fingerprint_callable(_analyzer(source))
    assert fingerprint_callable(_analyzer(source)) == first
    assert fingerprint_callable(_analyzer(source.replace("dumps", "loads"))) != first
