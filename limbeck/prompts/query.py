"""What a chat model says around the query it was asked for, taken off.

The parser is tolerant: of an answer with several queries it takes the first, and what it does not
know it leaves as it is.
"""

from __future__ import annotations

import re

from limbeck.prompts.thinking import without_thinking

__all__ = ["clean_query"]

_EDGE = r"""[\s"'“”‘’`*#>\[\]{},-]*"""
_NUMBER = r"(?:\(?1[.):]\s+)?"  # of the first query in a list; "10. Downing Street" is none
_LABEL = r"(?:(?:possible |short |search |user )*(?:query|question)(?: (?:\d{1,2}|text))?\W{0,4}:)?"
_BEFORE = re.compile(rf"\A{_EDGE}{_NUMBER}{_EDGE}{_LABEL}{_EDGE}", re.IGNORECASE)
_AFTER = re.compile(rf"{_EDGE}\Z")
_OPENER = r"(?:certainly|sure(?:\ thing)?|of\ course|okay|absolutely|alright)[!.,]+(?:\s|\Z)"
_ANNOUNCEMENT = r"""(?:here(?:\ is|['’]s|\ are)|below\ is|as\ requested)\b[^:]{0,80}
    \b(?:quer(?:y|ies)|questions?|search(?:es)?)\b[^:]{0,80}"""
_ANNOUNCED = re.compile(
    rf"\A[\s*]*(?:{_OPENER})?\s*(?:{_ANNOUNCEMENT}:[\s*]*)?", re.IGNORECASE | re.VERBOSE
)
_NO_QUERY = re.compile(
    rf"""\A(?:```.*|.*:[\s"*]*  # a fence, or an announcement of what follows
    |{_OPENER}(?!\s*{_ANNOUNCEMENT}:).*[!.]|{_ANNOUNCEMENT}[!.])\Z""",
    re.IGNORECASE | re.VERBOSE,
)


def clean_query(text: str) -> str:
    """Return the first query in a model's answer, on one line; empty where there is none."""
    for line in without_thinking(text).splitlines():
        bare = " ".join(line.split())
        query = _AFTER.sub("", _BEFORE.sub("", _ANNOUNCED.sub("", bare)))
        if not _NO_QUERY.match(bare) and any(character.isalnum() for character in query):
            return query
    return ""
