"""Conversations side by side."""

from __future__ import annotations

from limbeck.agents.rounds import driven, together
from limbeck.llm.model import Generation
from limbeck.types import Message


def _prompt(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def _counting(name: str, rounds: int, width: int = 1):
    """Ask `width` prompts a round, so many rounds; return all that was heard."""
    heard = []
    for number in range(rounds):
        answers = yield [_prompt(f"{name}{number}.{i}") for i in range(width)]
        heard += [answer.texts[0] for answer in answers]
    return heard


def _echo(asked: list[list[str]]):
    def ask(prompts):
        asked.append([prompt[0].content for prompt in prompts])
        return [Generation((f"re {prompt[0].content}",)) for prompt in prompts]

    return ask


def test_each_part_hears_its_own_answers_and_rounds_are_shared():
    asked: list[list[str]] = []
    parts = [_counting("a", 1), _counting("b", 3, width=2), _counting("c", 0), _counting("d", 2)]
    results = driven(together(parts), _echo(asked))
    assert asked == [["a0.0", "b0.0", "b0.1", "d0.0"], ["b1.0", "b1.1", "d1.0"], ["b2.0", "b2.1"]]
    assert results[0] == ["re a0.0"]
    assert results[1] == [f"re b{n}.{i}" for n in range(3) for i in range(2)]
    assert results[2] == []
    assert results[3] == ["re d0.0", "re d1.0"]


def test_parts_of_parts_are_parts():
    asked: list[list[str]] = []
    inner = together([_counting("a", 2), _counting("b", 1)])
    results = driven(together([inner, _counting("c", 2)]), _echo(asked))
    assert asked == [["a0.0", "b0.0", "c0.0"], ["a1.0", "c1.0"]]
    assert results == [[["re a0.0", "re a1.0"], ["re b0.0"]], ["re c0.0", "re c1.0"]]


def test_nothing_is_asked_for_nothing():
    asked: list[list[str]] = []
    assert driven(together([]), _echo(asked)) == []
    assert asked == []
