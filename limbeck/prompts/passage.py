"""What a chat model says around the passage it was asked for, taken off.

Those words would enter a BM25 query ("Certainly! Here is a correct answering passage ..."), and
move a vector. The parser is tolerant: what it does not know, it leaves as it is.
"""

from __future__ import annotations

import re

from limbeck.prompts.thinking import without_thinking

__all__ = ["clean_passage"]

_FLAGS = re.IGNORECASE | re.VERBOSE | re.DOTALL
_FENCED = re.compile(r"\A```[a-z]*\n(.*?)(?:\n```\s*|\Z)", _FLAGS)
_MARK = r"""[\s"'“”‘’*\#>_-]"""
_MARKS = rf"{_MARK}*"
_LABEL = re.compile(  # begins where its marks do: a long run of them is looked through once
    rf"""(?:\A|(?<!{_MARK})(?={_MARK}*?(?:\n|\s\s|\*\*|\#\ ))){_MARK}*+
    (?:the\ |a\ |possible\ |correct\ |relevant\ |answering\ |hypothetical
    \ |scientific\ |paper\ |news\ |financial\ |article\ )*
    (?:passage|answer|counter[- ]?argument|abstract|document)
    [\s"'*]*:{_MARKS}""",
    _FLAGS,
)
_OPENER = re.compile(
    rf"""\A{_MARKS}
    (?:certainly|sure(?:\ thing)?|of\ course|absolutely|okay|great\ question|alright
       |here(?:\ is|\ are|['’]s)|below\ is|i(?:['’]d|\ would)\ be\ happy\ to|as\ requested)\b
    (?:[^\n]{{0,400}}?[\s*]-{{3,}}(?=\s)      # up to a rule,
       |[^\n]{{0,240}}?[:!](?=[\s"'“*]|\Z)    # or up to the end of the announcement
       |[^\n]*(?:\n|\Z))""",
    _FLAGS,
)
_REMNANT = re.compile(r"\A(?:[-*_]{3,}|[\"”’*]+)(?:\s+|\Z)")
_ECHO = re.compile(rf"\A{_MARKS}(?:question|query|claim|topic)[\s*]*:[^\n]*(?:\n|\Z)", _FLAGS)
_CLOSER = re.compile(
    r"(?<!\s)(?=\s*\n)\s++(?:let\ me\ know|i\ hope\ this|feel\ free|is\ there\ anything)[^\n]*\Z",
    _FLAGS,
)
_OPENING, _CLOSING = "\"“'‘", "\"”'’"
_MIN_WORDS_AFTER_LABEL = 3


def clean_passage(text: str) -> str:
    """Return the passage in a model's answer, without preamble, label, echoed query, closing words.

    An answer that is nothing but such words gives the empty string.
    """
    before = None
    while before != text:  # each round can only shorten it
        before = text
        text = _peeled(text)
    return text if any(character.isalnum() for character in text) else ""


def _peeled(text: str) -> str:
    """Return the text with one layer of each kind taken off."""
    text = without_thinking(text).strip()
    fenced = _FENCED.match(text)
    text = _after_last_label(fenced.group(1) if fenced else text)
    for pattern in (_OPENER, _ECHO, _REMNANT, _CLOSER):
        text = pattern.sub("", text, count=1).strip()
    if len(text) > 1 and text[0] in _OPENING and text[-1] in _CLOSING:
        text = text.lstrip(_OPENING).rstrip(_CLOSING)
    return text.replace("**", "").strip()


def _after_last_label(text: str) -> str:
    """Return what follows the last "Correct passage:" or the like that has something after it."""
    for label in reversed(list(_LABEL.finditer(text))):
        rest = text[label.end() :]
        if label.start() == 0 or len(rest.split()) >= _MIN_WORDS_AFTER_LABEL:
            return rest
    return text
