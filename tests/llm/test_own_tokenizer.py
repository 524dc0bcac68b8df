"""A model's own tokenizer: from files on this machine, else from its server; never a guess."""

from __future__ import annotations

import dataclasses
import unicodedata
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import LLM
from limbeck.llm.token_pieces import TokenPieces, _alphabet, pieces_from_vocabulary
from tests.llm.server import Answer, Server
from tests.llm.test_tokenizer import byte_level

LETTER = {byte: letter for letter, byte in _alphabet().items()}


def _entries(text: str, width: int) -> list[str]:
    """Return a text as entries of a byte-level vocabulary, so many bytes each."""
    data = text.encode()
    cuts = [data[i : i + width] for i in range(0, len(data), width)]
    return ["".join(LETTER[byte] for byte in cut) for cut in cuts]


def test_the_alphabet_is_gpt_2_s():
    assert (LETTER[ord(" ")], LETTER[ord("\n")], LETTER[ord("a")]) == ("Ġ", "Ċ", "a")
    assert len(LETTER) == 256


@given(st.text(min_size=1).filter(lambda t: t.isprintable() or "\n" in t), st.integers(1, 5))
def test_byte_level_entries_are_read_back(text, width):
    pieces = pieces_from_vocabulary(text, _entries(text, width))
    assert b"".join(pieces) == text.encode()
    ends = TokenPieces(lambda t: pieces_from_vocabulary(t, _entries(t, width))).ends(text)
    assert ends == sorted(ends)
    assert ends[-1] == len(text)


def test_sentence_piece_entries_are_read_back():
    entries = ["▁na", "<0xC3>", "<0xAF>", "ve", "▁water"]
    assert b"".join(pieces_from_vocabulary("naïve water", entries)) == " naïve water".encode()
    assert TokenPieces(lambda t: pieces_from_vocabulary(t, entries)).ends("naïve water") == [
        2,
        2,
        3,
        5,
        11,
    ]


def test_entries_of_another_text_are_refused():
    with pytest.raises(LLMError, match="must make up the text"):
        pieces_from_vocabulary("water", ["fire"])


def _tells(body: dict, number: int) -> Answer:
    return Answer(body={"token_strs": _entries(body["prompt"], 3)})


@pytest.fixture
def served(serve):
    made: list[LLM] = []

    def start(script, **fields) -> tuple[LLM, Server]:
        server = serve(script)
        made.append(LLM("vllm:not/here", base_url=server.base_url, **fields))
        return made[-1], server

    yield start
    for llm in made:
        llm.close()


def test_a_server_of_vllm_is_asked_where_the_files_are_elsewhere(served):
    llm, server = served(_tells)
    assert llm.tokenizer.cut("when does water boil", 2) == "when d"
    assert server.asked[0]["add_special_tokens"] is False
    n = len(server.asked)
    llm.tokenizer.cut("when does water boil", 3)
    assert len(server.asked) <= n + 1, "what was asked last is remembered"


def test_what_the_server_says_the_model_is_may_be_on_this_machine(served, tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    llm, server = served(_tells)
    server.beside["/v1/models"] = {"data": [{"id": "not/here", "root": str(tmp_path)}]}
    assert type(llm.tokenizer).__name__ == "HuggingFace"
    assert server.asked == []


def test_there_is_no_guess(served, tmp_path):
    """Before, an estimate cut the prompts: the same spec asked other things on other machines."""
    llm, _ = served(lambda body, _: Answer(404, {}))
    with pytest.raises(LLMError, match="tokenizer_from"):
        llm.tokenizer.cut("water", 1)
    replayed = dataclasses.replace(llm, cassette=tmp_path / "tape", cassette_mode="replay")
    with pytest.raises(UsageError, match="tokenizer_from"):
        replayed.tokenizer.cut("water", 1)
    assert dataclasses.replace(llm, tokenizer_from="pieces").tokenizer.cut("water", 1) == "wate"


def test_a_llama_cpp_server_is_asked_in_its_own_way(serve):
    def script(body: dict, number: int) -> Answer:
        pieces = body["content"].split(" ")
        told = [{"piece": piece if i == 0 else " " + piece} for i, piece in enumerate(pieces)]
        return Answer(body={"tokens": told})

    llm = LLM("llama-server:m", base_url=serve(script).base_url)
    assert llm.tokenizer.cut("when does water boil", 2) == "when does"
    llm.close()


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_a_tokenizer_that_composes_characters_cuts_between_those_of_the_text(served, form):
    """Before, an e with an accent of its own ended the run: Qwen's tokenizer makes one of both."""
    text = "cafe\u0301 in the o\ufb03ce"

    def tells(body: dict, number: int) -> Answer:
        return Answer(body={"token_strs": _entries(unicodedata.normalize(form, body["prompt"]), 3)})

    llm, _ = served(tells)
    cuts = [llm.tokenizer.cut(text, n) for n in range(1, 9)]
    assert cuts[:2] == ["caf", "cafe\u0301 "]
    assert all(text.startswith(cut) for cut in cuts)
    assert cuts[-1] == text


@pytest.mark.parametrize("model", ["vllm:not/here", "llama-server:m"])
@pytest.mark.parametrize("status", [503, None])
def test_a_server_that_goes_away_while_texts_are_cut_is_waited_for_and_told(serve, model, status):
    """Before, `limbeck eval` ended with a traceback."""
    ill = [False]

    def script(body: dict, number: int) -> Answer:
        if ill[0]:
            return Answer(status, {})
        if "content" in body:
            return Answer(body={"tokens": [{"piece": body["content"]}]})
        return Answer(body={"token_strs": _entries(body["prompt"], 3)})

    server = serve(script)
    llm = LLM(model, base_url=server.base_url, retries=2, first_wait_s=0.01, reconnect_s=0.3)
    with closing(llm):
        llm.tokenizer.cut("when does water boil", 2)
        asked = len(server.asked)
        if status is None:
            server.close()
        ill[0] = True
        wanted = "no connection|connection broken" if status is None else "http 503"
        with pytest.raises(LLMError, match=f"must be reachable to tell how long .*: ({wanted})"):
            llm.tokenizer.cut("another passage", 2)
    assert status is None or len(server.asked) == asked + 3, "it is tried again"


def test_a_server_that_comes_back_while_texts_are_cut_costs_nothing(served):
    answers = [Answer(503, {})] * 2

    def script(body: dict, number: int) -> Answer:
        return answers.pop() if answers and number > 0 else _tells(body, number)

    llm, _ = served(script, first_wait_s=0.01)
    assert llm.tokenizer.cut("when does water boil", 2) == "when d"
    assert answers == []


def test_a_served_name_is_no_path_and_no_estimate(serve, tmp_path, monkeypatch):
    """Before, a folder that bore the served name where the program ran gave another tokenizer."""
    (tmp_path / "served").mkdir()
    byte_level().save(str(tmp_path / "served" / "tokenizer.json"))
    monkeypatch.chdir(tmp_path)
    for name in ("served", "pieces"):
        with closing(LLM(f"vllm:{name}", base_url=serve(_tells).base_url)) as llm:
            assert type(llm.tokenizer).__name__ == "TokenPieces"


def test_a_name_that_the_server_does_not_know_is_told_as_that(served):
    """Before, every fault of a connection read as a missing tokenizer."""
    llm, server = served(_tells)
    server.beside["/v1/models"] = {"data": [{"id": "qwen", "root": "q"}, {"id": "lora"}]}
    with pytest.raises(LLMError, match="its server serves; that is qwen, lora; give its name"):
        llm.tokenizer.cut("water", 1)


@pytest.mark.parametrize(
    ("status", "told"), [(401, "http 401: it wants another key"), (500, "500")]
)
def test_why_the_server_does_not_tell_is_told(served, status, told):
    llm, _ = served(lambda body, _: Answer(status, {}), retries=0)
    with pytest.raises(LLMError, match=f"must be reachable to tell .*{told}"):
        llm.tokenizer.cut("water", 1)
