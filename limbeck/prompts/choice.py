"""Which label a model's answer chooses, read from its text.

An answer is cut into sentences and these into clauses, and what makes a label the choice stands in
its clause. The readings, from the most explicit to the least; the first that finds one decides:

1. a final result, "final score: 2"; the last one;
2. a result that is named, "answer: B"; the last one;
3. a label alone, at the beginning, "Yes, it does", or in a line of its own;
4. a line that is nothing but a heading, in any language, and a label, "Antwort: ja";
5. what is said of it, "I choose B", "B is more relevant", "so no";
6. a label that is explained, "B: since A is off the subject", "No it does not";
7. the only label that is named at all, "Does it? Yes.", "Passage B answers the query".

Where a reading but the first two finds several labels, it decides nothing. What a sentence denies
or only supposes, "I would not say yes", "if it named the town, the answer would be yes", is not
said: no answer is better than the opposite one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from limbeck.prompts.thinking import without_thinking

__all__ = ["choice", "final_choice"]

_MARKUP = re.compile(r"[*#`~\"“”„«»\\$]|(?<!\w)'|'(?!\w)|\(O\)")
_MEMBER = re.compile(r",\s*[\"'](?=\w{1,30}[\"']\s*:)")
_TAG = re.compile(r"<(/?)([a-z]{1,20})>", re.IGNORECASE)
_LIST = re.compile(r"^(?:[-•] )?1[.)] (?=.)", re.MULTILINE)
_LIST_NUMBER = re.compile(r"^(?:[-•] )?\d{1,2}[.)] (?=.)", re.MULTILINE)
_ARTICLE = re.compile(
    r"(\A|[.!?] |\n)A(?= [a-z])"
    r"(?! (?:is|would|has|gives|answers|names|does|and|or|over|as|since|more|better|because)\b)"
)
_SENTENCE = re.compile(r"(.+?)((?<![.!?;])[.!?;]+(?: |$)|。|$)")
_CLAUSE_END = re.compile(r",(?!\d)|[、()\[\]{}|<>–—]|(?:^| )[-•]+(?: |$)")
_EDGE = " :./'!?·"

_DENIED = re.compile(
    r"\b(?:not|never|cannot|neither|nor|without|hardly|barely|scarcely|un(?:likely|clear|sure)|less"
    r"|least|worse|worst|irrelevant|off|lacks?|fails?|nicht|kein\w*|weder|pas|jamais)\b|n't\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|unless|whether|otherwise|suppos\w+|wenn|falls|wäre|würde|serait|sería|sarebbe"
    r"|(?:not|never|cannot) (?:think|believe|say|agree|sure|clear|certain))\b"
    r"|n't (?:think|believe|say|agree|sure|clear|certain)\b",
    re.IGNORECASE,
)
_HELD_OPEN = re.compile(
    r"\b(?:could|might|may|must|should|needs?|only|both|either|perhaps|partially|partly|somewhat|different|another|other"
    r"|would (?:be|have|need|require|mean|take|imply|deserve|get|only))\b",
    re.IGNORECASE,
)

_SHOWN = r"(?i:(?:(?:the|passage|document|dokument|option|candidate|text|choice) ){0,3})"
_RESULT = (
    r"(?:answer|response|choice|verdict|decision|judge?ment|score|grade|rating|label|relevan(?:t"
    r"|ce|cy)|output|result|prediction|selection|preference|best|better|winner|overall|conclusion)"
)
_QUALIFIED = (
    r"(?:(?:so|thus|therefore|hence|and|the|my|our|is|it|overall|relevance|correct|right|selected"
    r"|chosen|preferred|predicted|most|more|best|better|passage|document|query) ){0,6}"
)
_FILLED = (
    r"(?:(?:it|it's|this|that|the|a|an|as|with|of|at|for|to|be|passage|document|option|text|query|score"
    r"|grade|rating|label|relevance) ){0,8}"
)
_STOP = (  # what may follow the label in its clause
    r"(?= ?(?:\Z|:|(?i:because|since|as|for|over|rather|instead|points?|marks?|weil|parce|porque)"
    r"\b))"
)


_CHOOSE = (
    r"choose|chose|pick|select|prefer|say|think|rate|give|grade|assign|vote|go|score|judge|deserves?|gets?"
    r"|earns?"
)
_IS = (
    r"(?i: (?:is|would be|seems|appears|looks)(?: to be)?"
    r"(?: the| a| an| clearly| much| far| slightly){0,3} )"
)
_SO = r"\A(?i:(?:(?:so|thus|therefore|hence|then|it's|it is|this is|that's|that is|a|an) ){1,4})"
_ANSWERS = (
    r"(?i:(?: would| does| also| best| clearly| fully| directly){0,3}"
    r" (?:answers?|address(?:es)?|match(?:es)?|explains?|fits?|is relevant)\b)"
)
_NO_HEADING = r"(?i:[^:]{0,40}\b(?:max|min|maximum|minimum|possible|confidence|example)\b)"


@dataclass(frozen=True, slots=True)
class _Clause:
    """A part of an answer.

    Attributes:
        begins: it is the first one of the answer.
        line: it is a line of its own.
        supposed: its sentence supposes something, or asks.
        doubted: its sentence supposes, denies or leaves something open.
    """

    text: str
    begins: bool
    line: bool
    supposed: bool
    doubted: bool


@dataclass(frozen=True, slots=True)
class _Forms:
    """The forms in which some labels are said; each has one group for each label."""

    named: re.Pattern[str]
    framed: re.Pattern[str]
    whole: re.Pattern[str]
    alone: re.Pattern[str]
    headed: re.Pattern[str]
    explained: re.Pattern[str]
    final: re.Pattern[str]
    result: re.Pattern[str]
    said: tuple[re.Pattern[str], ...]
    only: tuple[re.Pattern[str], ...]


def choice(text: str, labels: Sequence[str]) -> int | None:
    """Return the place of the label that an answer chooses, None where it chooses none.

    Words are compared without case, single letters with it but where they are the whole answer; the
    article "A" is no label. Grades may be written 2.0, 2/3 and 2 out of 3, where 3 is the last one.

    Args:
        text: the answer.
        labels: such as ("A", "B"), ("yes", "no") or ("0", "1", "2", "3").
    """
    forms = _forms(tuple(labels))
    clauses = _clauses(_plain(text, labels, forms))
    for reading in (_final, _result, _alone, _headed, _said, _explained, _only):
        place = reading(clauses, forms)
        if place is not None:
            return place
    return None


def final_choice(text: str, labels: Sequence[str]) -> int | None:
    """Return the place of the label in "final score: ..." alone, None where there is none.

    An answer that reasons first names labels before, and may be cut off before it decides.
    """
    forms = _forms(tuple(labels))
    return _final(_clauses(_plain(text, labels, forms)), forms)


def _final(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    return _last(_affirmed(clauses, forms.final))


def _result(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    return _last(_affirmed(clauses, forms.result))


def _alone(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    pattern = forms.whole if len(clauses) == 1 else forms.alone
    found = [match and (c, _place(match)) for c in clauses if (match := pattern.match(c.text))]
    if not any(c.begins or c.line for c, _ in found):
        return None
    return _one(place for _, place in found)


def _headed(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    lines = [c for c in clauses if c.line]
    return _one(_affirmed(lines, forms.headed))


def _said(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    return _one(place for form in forms.said for place in _affirmed(clauses, form))


def _explained(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    found = [(c, _place(match)) for c in clauses if (match := forms.explained.match(c.text))]
    return _one(place for _, place in found) if any(c.begins for c, _ in found) else None


def _only(clauses: Sequence[_Clause], forms: _Forms) -> int | None:
    if any(form.search(c.text) for c in clauses if not c.doubted for form in forms.only):
        return _one(_place(match) for c in clauses for match in forms.named.finditer(c.text))
    return None


def _affirmed(clauses: Iterable[_Clause], form: re.Pattern[str]) -> Iterator[int]:
    """Yield the labels that are said in a form, and neither denied before it nor supposed."""
    for clause in clauses:
        denied = _DENIED.search(clause.text)
        for match in form.finditer(clause.text):
            begins = match.start(match.lastgroup or 0)
            if not clause.supposed and (denied is None or denied.start() >= begins):
                yield _place(match)


def _place(match: re.Match[str]) -> int:
    return int((match.lastgroup or "")[1:])


def _last(places: Iterable[int]) -> int | None:
    return next(iter([*places][::-1]), None)


def _one(places: Iterable[int]) -> int | None:
    """Return what all places agree on, None where they do not."""
    found = set(places)
    return found.pop() if len(found) == 1 else None


def _plain(text: str, labels: Sequence[str], forms: _Forms) -> str:
    """Return an answer without markup, with one space or line end between words."""
    text = unicodedata.normalize("NFKC", without_thinking(text)).replace("’", "'")
    text = _TAG.sub(lambda tag: "\n" if tag[1] else f"\n{tag[2]}: ", text)
    text = _MARKUP.sub("", _MEMBER.sub("\n", text)).replace("_", " ")
    text = forms.framed.sub(lambda match: f" {match.group(match.lastgroup or 0)} ", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    if all(label.isdecimal() for label in labels):
        text = _without_scale(text, labels)
    if _LIST.search(text):
        text = _LIST_NUMBER.sub("", text)
    return re.sub(r":\s+", ": ", _ARTICLE.sub(r"\1", text))


def _without_scale(text: str, labels: Sequence[str]) -> str:
    """Return a text with its grades written as such: "2.0" and "2 out of 3" as "2"."""
    grade, low, high = "|".join(labels), labels[0], labels[-1]
    scale = rf"\b{low}(?: ?[-–—] ?| (?:to|and|through|bis|à|a|до) ){high}\b(?![.,]\d)"
    of = rf"(?: ?/ ?| (?:out of|of|von|sur|de|su|из) ){high}(?:[.,]0+)?(?![\w/]|[.,]\d)"
    text = re.sub(scale, "", text, flags=re.IGNORECASE)
    text = re.sub(rf"(?<![\w.,/-])({grade})[.,]0+(?!\w|[.,]\d)", r"\1", text)
    return re.sub(rf"(?<![\w.,/-])({grade}){of}", r"\1", text, flags=re.IGNORECASE)


def _clauses(text: str) -> list[_Clause]:
    """Return the clauses of an answer that hold anything."""
    found: list[_Clause] = []
    for line in text.splitlines():
        sentences = [(_parts(sentence), end) for sentence, end in _SENTENCE.findall(line)]
        whole = sum(len(clauses) for clauses, _ in sentences) == 1
        for clauses, end in sentences:
            sentence = ", ".join(clauses)
            supposed = end.startswith("?") or _SUPPOSED.search(sentence) is not None
            doubted = supposed or bool(_DENIED.search(sentence) or _HELD_OPEN.search(sentence))
            for clause in clauses:
                found.append(_Clause(clause, not found, whole, supposed, doubted))
    return found


def _parts(sentence: str) -> list[str]:
    bare = (part.strip(_EDGE) for part in _CLAUSE_END.split(sentence))
    return [part for part in bare if part]


@cache
def _forms(labels: tuple[str, ...]) -> _Forms:
    """Return the forms of some labels; the longest label that fits counts."""
    order = sorted(range(len(labels)), key=lambda place: -len(labels[place]))
    written = "|".join(f"(?P<p{place}>{_written(labels[place])})" for place in order)
    label = rf"(?<![\w.+-])(?<!\d/)(?:{written})(?!\w|%|-\w|[.,:/\u2044-]\d)"
    ended = f"{_SHOWN}{label}{_STOP}"
    found = {
        "named": label,
        "framed": rf"[(\[{{<] ?(?:{written}) ?[)\]}}>]",
        "whole": rf"{_SHOWN}(?i:{label})\Z",
        "alone": rf"{_SHOWN}{label}\Z",
        "headed": rf"\A(?!{_NO_HEADING})[^:\d]{{1,40}}: ?{_SHOWN}{label}\Z",
        "explained": rf"{_SHOWN}{label}(?::|(?i: (?:it|this|the)\b))",
        "final": r"(?:(?i:\bfinal\b[^:=\d]{0,40}?(?:[:=]|\bis\b:?)|\bboxed\b)|\AO ?[:=]) ?" + ended,
        "result": rf"\A(?i:{_QUALIFIED}{_RESULT}(?: (?:passage|document|option|score|grade|label))?"
        rf" ?[:=] ?){ended}",
    }
    return _Forms(
        **{name: re.compile(pattern) for name, pattern in found.items()},
        said=tuple(re.compile(pattern) for pattern in _sayings(label)),
        only=(re.compile(rf"\A{ended}"), re.compile(label + _ANSWERS)),
    )


def _sayings(label: str) -> tuple[str, ...]:
    """Return patterns of what is said of the label that is chosen."""
    ended = f"{_SHOWN}{label}{_STOP}"
    return (
        rf"(?i:\b(?:{_RESULT}|passage|document|option|one)\b[^:]{{0,80}}?\bis\b:? ){ended}",
        rf"(?i:\b(?:{_CHOOSE})\b {_FILLED}){ended}",
        rf"(?i:\b(?:best|better|(?:more|most) relevant)\b[^:]{{0,40}}?\bwould be\b:? ){ended}",
        rf"{_SO}{ended}",
        rf"{label}{_IS}(?i:(?:(?:more|most) \w+|better|best)\b)",
        rf"{label}(?i: (?:(?:would|will|does|clearly) )?(?:better|best)\b)",
    )


def _written(label: str) -> str:
    plain = unicodedata.normalize("NFKC", label).replace("_", " ")
    escaped = re.escape(" ".join(plain.split()) or label)
    return escaped if len(plain) == 1 else f"(?i:{escaped})"
