"""Shared fixtures: no network beyond loopback, a cache of the test's own, small documents."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from limbeck.corpus import Corpus

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, and then no more

_SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.connect

    def connect(self: socket.socket, address):
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in {socket.AF_INET, socket.AF_INET6} and host not in {
            "127.0.0.1",
            "localhost",
            "::1",
        }:
            raise AssertionError(f"tests may connect to loopback only; got {address!r}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections beside the project."""
    if not _SHARED.is_dir():
        pytest.skip("the real collections in ../shared are not here")
    return _SHARED


@pytest.fixture(scope="session")
def mini_corpus() -> Corpus:
    """Twelve tiny documents, two of them with the same words, one empty."""
    texts = {
        "a1": ("Inverted index", "An inverted index maps each term to the documents that hold it."),
        "a2": ("Postings", "Postings lists are sorted by document so that they can be merged."),
        "a3": ("Stemming", "A stemmer maps running and runs to run, so that both match."),
        "b1": ("Dense retrieval", "A dense retriever compares vectors of queries and documents."),
        "b2": ("Hard negatives", "Training a dense retriever needs hard negative documents."),
        "b3": ("", "Vectors are compared by cosine or by dot product."),
        "c1": ("Fusion", "Reciprocal rank fusion adds one over sixty plus the rank."),
        "c2": ("Fusion", "Reciprocal rank fusion adds one over sixty plus the rank."),
        "c3": (
            "Évaluation",
            "Les mesures sont calculées sur les jugements; nDCG est la plus citée.",
        ),
        "d1": ("検索", "情報検索は文書を探す。"),
        "d2": ("Caching", "A cache keeps what was computed; its key must hold all inputs."),
        "d3": ("", ""),
    }
    return Corpus.from_documents(
        {"_id": doc_id, "title": title, "text": text} for doc_id, (title, text) in texts.items()
    )
