"""How models were trained to be used: a table by name, read without loading anything.

A name is matched by its last part, so that "facebook/contriever" and a folder "models/contriever"
are used alike. What a caller states stands above the table, and so does what a folder states that
Limbeck wrote: a model that was trained here may bear any name.

Paper: DPR (Karpukhin et al. 2020), Contriever (Izacard et al. 2022), E5 (Wang et al. 2022), BGE
(Xiao et al. 2023), TAS-B (Hofstätter et al. 2021); their released code and model cards.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from limbeck.artifact import write_atomically
from limbeck.errors import UsageError
from limbeck.retrieval.encoders.arithmetic import Arithmetic, require_arithmetic

__all__ = [
    "ADAPTER",
    "MINILM",
    "OWN_FILE",
    "Convention",
    "Pooling",
    "Settings",
    "Similarity",
    "convention",
    "write_own",
]

Pooling = Literal["mean", "cls"]
Similarity = Literal["cosine", "dot"]

OWN_FILE = "limbeck.json"
"""What Limbeck writes into the folder of a model that it trained or exported, for what files of
others do not say. Where it lies, the folder is believed, not its name."""

ADAPTER = "adapter.json"
"""What makes a folder an adapter of an encoder's queries."""

MINILM = "minilm"
"""The name of the built-in encoder, which needs no torch."""


@dataclass(frozen=True, slots=True)
class Convention:
    """How a model makes vectors, and how they are compared.

    Attributes:
        pooling: token states to one vector; None: as the model's own sentence-transformers modules
            say, or the mean where it has none.
        normalise: whether vectors are brought to length 1; None: as its own modules say.
        similarity: how vectors are compared.
        max_tokens: texts are cut to this length; None: the model's own.
        query_tokens: queries are cut to this length; None: as documents are. A model that
            sentence-transformers loads knows its own.
        query_prefix: stands before each query; None: the model's own prompt, if it has one.
        document_prefix: the same for documents.
        title_pair: title and text are a pair, "[CLS] title [SEP] text [SEP]", all of segment 0.
        title_separator: stands between title and text where they are no pair.
        towers: the models of queries and documents, where there are two.
    """

    pooling: Pooling | None = None
    normalise: bool | None = None
    similarity: Similarity = "cosine"
    max_tokens: int | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    title_pair: bool = False
    title_separator: str = " "
    query_tokens: int | None = None
    towers: tuple[str, str] | None = None

    @property
    def joining(self) -> list[str]:
        """What fingerprints hold of the title separator: nothing where it is a space."""
        return [] if self.title_separator == " " else [self.title_separator]


@dataclass(frozen=True, slots=True)
class Settings:
    """An encoder as a user names it; None leaves a choice to the convention of that name.

    Attributes:
        arithmetic: of a model in torch.
    """

    encoder: str
    query_prefix: str | None = None
    document_prefix: str | None = None
    pooling: Pooling | None = None
    normalise: bool | None = None
    similarity: Similarity | None = None
    max_tokens: int | None = None
    arithmetic: Arithmetic = "fp32"

    def __post_init__(self) -> None:
        require_arithmetic(self.arithmetic)
        _require_one_of("pooling", self.pooling, get_args(Pooling))
        _require_one_of("similarity", self.similarity, get_args(Similarity))
        if not self.encoder.strip():
            raise UsageError("an encoder must be a name or a folder; got an empty one")
        if self.max_tokens is not None and self.max_tokens < 3:
            raise UsageError(f"max_tokens must be 3 or more; got {self.max_tokens}")

    @property
    def convention(self) -> Convention:
        """The convention of the encoder's name, with what is stated here in its place."""
        stated = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in {"encoder", "arithmetic"} and getattr(self, f.name) is not None
        }
        return dataclasses.replace(convention(self.encoder), **stated)


def _require_one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def _plain(
    pooling: Pooling, prefix: tuple[str, str] = ("", ""), max_tokens: int = 512
) -> Convention:
    """Return the convention of one tower with normalised vectors."""
    return Convention(pooling, True, "cosine", max_tokens, *prefix)  # noqa: FBT003 - a table


_DOT_MEAN = Convention("mean", False, "dot", 512, "", "")  # noqa: FBT003 - a table
_DPR = Convention("cls", False, "dot", 256, "", "", title_pair=True)  # noqa: FBT003 - a table

_BGE_ENGLISH = "Represent this sentence for searching relevant passages: "
_BGE_CHINESE = "为这个句子生成表示以用于检索相关文章："  # noqa: RUF001 - as BGE was trained

_TABLE: tuple[tuple[str, Convention], ...] = (
    (r"minilm|all-minilm-l6-v2", _plain("mean", max_tokens=256)),
    (r"m?contriever(-msmarco)?", _DOT_MEAN),
    (r"(multilingual-)?e5-(small|base|large)(-v2)?", _plain("mean", ("query: ", "passage: "))),
    (r"bge-(small|base|large)-en(-v1\.5)?", _plain("cls", (_BGE_ENGLISH, ""))),
    (r"bge-(small|base|large)-zh(-v1\.5)?", _plain("cls", (_BGE_CHINESE, ""))),
    (r"bge-m3", _plain("cls", max_tokens=8192)),
    (r"gte-(small|base|large)", _plain("mean")),
    (r"msmarco-distilbert-base-tas-b", Convention("cls", False, "dot", 512, "", "")),  # noqa: FBT003
    (
        r"(multi-qa|msmarco)-.*-dot-v\d|msmarco-roberta-base-ance-firstp",
        Convention(similarity="dot"),
    ),
)

_DPR_NAME = re.compile(r"(.*?)dpr-(?:question|ctx)_encoder-([^/\\]+)[/\\]*")


def convention(encoder: str, folder: Path | None = None) -> Convention:
    """Return how a model is used: as Limbeck wrote, else by its name, else as its folder says.

    Args:
        encoder: its name.
        folder: where it lies, if its name does not say so.
    """
    place = folder or Path(encoder)
    own = {} if encoder == MINILM else _stated(place, OWN_FILE)
    named = None if own else _by_name(encoder)
    if named is not None:
        return named
    stated = _stated(place, "config_sentence_transformers.json").get("similarity_fn_name")
    stated = _stated(place, ADAPTER).get("similarity", stated)
    return Convention(
        similarity="dot" if stated in {"dot", "dot_score"} else "cosine",
        title_separator=str(own.get("title_separator", " ")),
    )


def write_own(folder: Path, *, title_separator: str) -> None:
    """Write into a model's folder what others' files do not say of it."""
    write_atomically(folder / OWN_FILE, json.dumps({"title_separator": title_separator}))


def _by_name(encoder: str) -> Convention | None:
    two = _DPR_NAME.fullmatch(encoder)
    if two:
        question, passage = (f"{two[1]}dpr-{side}_encoder-{two[2]}" for side in ("question", "ctx"))
        return dataclasses.replace(_DPR, towers=(question, passage))
    last = re.split(r"[/\\]", encoder.rstrip("/\\"))[-1].lower()
    return next((found for pattern, found in _TABLE if re.fullmatch(pattern, last)), None)


def _stated(folder: Path, name: str) -> dict[str, Any]:
    """Return what a file of a model folder says; nothing where it is not there or no JSON."""
    try:
        stated = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stated if isinstance(stated, dict) else {}
