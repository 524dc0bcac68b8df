"""Analysis beside Lucene: what its analysers returned for these texts lies in lucene_8_7.json."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UsageError
from limbeck.retrieval import analysis
from limbeck.retrieval.analysis import ENGLISH_STOPWORDS, Analyzer, words

LUCENE = json.loads((Path(__file__).parent / "lucene_8_7.json").read_text(encoding="utf-8"))


def _rows(kind):
    return [
        pytest.param(row["text"], row["terms"], id=ascii(row["text"])[:30]) for row in LUCENE[kind]
    ]


@pytest.mark.parametrize(("text", "terms"), _rows("english"))
def test_english_is_lucenes_english_analyzer(text, terms):
    assert Analyzer()(text) == terms


@pytest.mark.parametrize(("text", "tokens"), _rows("standard"))
def test_words_are_lucenes_standard_tokens(text, tokens):
    assert words(text) == tokens


@pytest.mark.parametrize(("text", "terms"), _rows("cjk"))
def test_cjk_is_lucenes_cjk_analyzer(text, terms):
    assert Analyzer("cjk")(text) == terms


@pytest.mark.parametrize(("word", "stem"), LUCENE["porter"].items())
def test_porter_is_lucenes_porter(word, stem):
    assert Analyzer(stopwords=())(word) == [stem]


def test_there_are_33_english_stopwords():
    assert len(ENGLISH_STOPWORDS) == len(set(ENGLISH_STOPWORDS)) == 33


ALPHABET = "abz019 _:.,;'\"’-é\u0301日カか한\u200d👍#"


@given(st.text(alphabet=ALPHABET, max_size=40), st.text(alphabet=ALPHABET, max_size=40))
def test_a_space_always_separates(left, right):
    assert words(f"{left} {right}") == words(left) + words(right)


@given(st.text(alphabet="abz019 _:.,;'\"-\n", max_size=40))
def test_the_ascii_way_equals_the_unicode_way(text):
    assert words(text) == analysis._word_pattern().findall(text)


@given(st.text(max_size=300))
def test_tokens_stand_in_the_text_in_order_and_are_short(text):
    place = 0
    for token in words(text * 3):
        place = (text * 3).index(token, place) + len(token)
        assert 0 < len(token) <= 255


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("german", "Die Häuser und Katzen", ["die", "haus", "und", "katz"]),
        ("french", "L'avion continuellement", ["avion", "continuel"]),
        ("turkish", "IŞIK İstanbul", ["\u0131ş\u0131k", "istanbul"]),
        ("none", "Running Dogs' IDs", ["running", "dogs", "ids"]),
    ],
)
def test_other_languages_are_word_break_lower_case_and_snowball(language, text, terms):
    """Expected stems: the sample vocabularies of the Snowball project."""
    assert Analyzer(language)(text) == terms


@pytest.mark.parametrize("language", ["german", "french", "russian", "finnish", "spanish"])
def test_stems_are_those_of_the_languages_stemmer(language):
    text = "continuellement Häuser бегущий kalojen corriendo"
    stemmer = Stemmer.Stemmer(language)
    assert Analyzer(language)(text) == [stemmer.stemWord(w.lower()) for w in text.split()]


def test_stopwords_and_stemming_can_be_chosen():
    assert Analyzer(stopwords=["Dogs"])("the dogs ran") == ["the", "ran"]
    assert Analyzer(stopwords=())("the dogs") == ["the", "dog"]
    assert Analyzer(stem=False)("the dogs") == ["dogs"]
    assert Analyzer("german", stopwords=("die",))("die Katzen") == ["katz"]


@pytest.mark.parametrize("name", ["zh", "ja", "ko", "chinese", "japanese", "korean"])
def test_the_names_of_the_three_languages_are_bigrams(name):
    assert Analyzer(name)("LG전자 検索") == ["lg", "전자", "検索"]
    assert Analyzer(name).fingerprint == Analyzer("cjk").fingerprint


def test_the_fingerprint_tells_what_gives_other_terms():
    kinds = [
        Analyzer(),
        Analyzer("german"),
        Analyzer("cjk"),
        Analyzer("none"),
        Analyzer(stem=False),
        Analyzer(stopwords=()),
        Analyzer(stopwords=("dog",)),
    ]
    assert len({kind.fingerprint for kind in kinds}) == len(kinds)
    assert Analyzer(stopwords=("a", "b")).fingerprint == Analyzer(stopwords=["b", "a"]).fingerprint
    assert Analyzer(stopwords=ENGLISH_STOPWORDS).fingerprint == Analyzer().fingerprint


@pytest.mark.parametrize("language", ["klingon", "", "English"])
def test_an_unknown_language_is_refused_with_the_known_ones(language):
    with pytest.raises(UsageError, match=r"language must be one of .*finnish.* got '"):
        Analyzer(language)


def test_stopwords_as_one_string_are_refused():
    with pytest.raises(UsageError, match="stopwords must be a list"):
        Analyzer(stopwords="the")


def test_threads_share_one_analyzer():
    texts = [f"running dogs number {n} possibly technologies" for n in range(200)]
    analyzer = Analyzer(stopwords=("only", "here"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(analyzer, texts))
    assert found == [Analyzer(stopwords=("only", "here"))(text) for text in texts]


def test_the_memory_of_terms_is_bounded(monkeypatch):
    monkeypatch.setattr(analysis, "_MAX_CACHED", 10)
    analyzer = Analyzer(stopwords=("memory",))
    text = " ".join(f"words{n}" for n in range(50))
    assert analyzer(text) == text.split()
    assert len(analyzer._terms) <= 10


@pytest.mark.timeout(60)
def test_long_texts_without_spaces_take_linear_time():
    assert len(words("é" + "ab1" * 100_000)) == -(-300_001 // 255)
    assert len(words("ab1" * 100_000)) == -(-300_000 // 255)
    for filler in "._#\u200d\u0301":
        assert words(filler * 300_000 + " é") == ["é"]
