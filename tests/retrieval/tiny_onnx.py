"""Small BERTs as ONNX files, written without the packages onnx and torch.

An ONNX file is one protobuf message. The few message types that a graph needs are written here by
their field numbers in onnx.proto3; onnxruntime checks them when it loads the file. Weights have the
names of transformers' state dict, so that a model of torch and its ONNX file are one model.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np

VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", ";"),
    *(f"word{n}" for n in range(60)),
    *("an", "the", "of", "inverted", "index", "term", "terms", "documents", "dense", "retriever"),
    *("vectors", "queries", "query", "fusion", "rank", "cache", "stemmer", "running", "maps", "is"),
]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 16, 2, 2, 24, 64
EPSILON = 1e-12

_FLOAT, _INT64 = 1, 7


def sizes(**more) -> dict:
    """Return the configuration of the small BERT, as transformers names it."""
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.5,
        **more,
    }


def weights(head: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights of the small BERT and of a head, by the names of transformers."""
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (len(VOCABULARY), HIDDEN),
        "bert.embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "bert.embeddings.token_type_embeddings.weight": (2, HIDDEN),
        **_norm("bert.embeddings.LayerNorm"),
        **head,
    }
    for layer in (f"bert.encoder.layer.{n}." for n in range(LAYERS)):
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{layer}attention.self.{part}", HIDDEN, HIDDEN)
        shapes |= _linear(f"{layer}attention.output.dense", HIDDEN, HIDDEN)
        shapes |= _norm(f"{layer}attention.output.LayerNorm")
        shapes |= _linear(f"{layer}intermediate.dense", INNER, HIDDEN)
        shapes |= _linear(f"{layer}output.dense", HIDDEN, INNER)
        shapes |= _norm(f"{layer}output.LayerNorm")
    made = np.random.default_rng(seed)
    return {
        name: made.normal(float(name.endswith("LayerNorm.weight")), 0.5, shape).astype(np.float32)
        for name, shape in sorted(shapes.items())
    }


def classifier_head(n_labels: int = 1) -> dict[str, tuple[int, ...]]:
    return _linear("bert.pooler.dense", HIDDEN, HIDDEN) | _linear("classifier", n_labels, HIDDEN)


def language_head() -> dict[str, tuple[int, ...]]:
    return {
        **_linear("cls.predictions.transform.dense", HIDDEN, HIDDEN),
        **_norm("cls.predictions.transform.LayerNorm"),
        "cls.predictions.bias": (len(VOCABULARY),),
    }


def _linear(name: str, n_out: int, n_in: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}


def save_classifier(folder: Path, of: Mapping[str, np.ndarray] | None = None, **more) -> Path:
    """Save a cross-encoder as model.onnx with its tokenizer; logits of shape (1, n_labels)."""
    graph = Graph(weights(classifier_head(**more)) if of is None else of)
    return _saved(folder, _classifier(graph))


def _classifier(graph: Graph) -> bytes:
    """Return the bytes of the model of a cross-encoder."""
    first = graph("Gather", graph.bert(), graph.constant([0]), axis=1)
    pooled = graph("Tanh", graph.linear(first, "bert.pooler.dense"))
    logits = graph("Squeeze", graph.linear(pooled, "classifier"), graph.constant([1]))
    n_labels = len(graph.of["classifier.bias"])
    return graph.model(logits, ["batch", n_labels])


def save_classifier_in_two(folder: Path, data: str, *, seed: int = 0) -> Path:
    """Save a cross-encoder whose weights lie in a file of their own, as large models have them."""
    graph = _GraphInTwo(weights(classifier_head(), seed), data)
    _saved(folder, _classifier(graph))
    (folder / data).write_bytes(graph.data)
    return folder


def save_language_model(folder: Path, of: Mapping[str, np.ndarray] | None = None) -> Path:
    """Save a masked language model as model.onnx; logits of shape (1, n_tokens, n_terms)."""
    graph = Graph(weights(language_head()) if of is None else of)
    states = graph.gelu(graph.linear(graph.bert(), "cls.predictions.transform.dense"))
    states = graph.norm(states, "cls.predictions.transform.LayerNorm")
    words = graph.of["bert.embeddings.word_embeddings.weight"]
    logits = graph("MatMul", states, graph.tensor(words.T))
    logits = graph("Add", logits, graph.tensor(graph.of["cls.predictions.bias"]))
    return _saved(folder, graph.model(logits, ["batch", "tokens", len(VOCABULARY)]))


def _saved(folder: Path, model: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Save BERT's tokenizer with the small vocabulary, and the length of the model."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    numbers = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, numbers[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.add_special_tokens(VOCABULARY[:5])
    tokenizer.save(str(folder / "tokenizer.json"))
    stated = {"model_max_length": POSITIONS, "tokenizer_class": "BertTokenizerFast"}
    special = ("pad", "unk", "cls", "sep", "mask")
    tokens = {f"{name}_token": f"[{name.upper()}]" for name in special}
    (folder / "tokenizer_config.json").write_text(json.dumps({**stated, **tokens}))


class Graph:
    """A graph in the making; a call adds a node and returns the name of its output."""

    def __init__(self, of: Mapping[str, np.ndarray]) -> None:
        self.of = of
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._names = (f"t{number}" for number in count())

    def __call__(self, op: str, *inputs: str, **attributes: float | Sequence[int]) -> str:
        name = next(self._names)
        parts = [_text(1, each) for each in inputs] + [_text(2, name), _text(4, op)]
        parts += [_field(5, _attribute(*each)) for each in attributes.items()]
        self._nodes.append(b"".join(parts))
        return name

    def tensor(self, values: np.ndarray) -> str:
        name = next(self._names)
        kind = _INT64 if values.dtype == np.int64 else _FLOAT
        shape = b"".join(_varint(1, size) for size in values.shape)
        data = _varint(2, kind) + _text(8, name) + _field(9, np.ascontiguousarray(values).tobytes())
        self._tensors.append(shape + data)
        return name

    def constant(self, numbers: Sequence[int]) -> str:
        return self.tensor(np.array(numbers, dtype=np.int64))

    def scalar(self, number: float) -> str:
        return self.tensor(np.array(number, dtype=np.float32))

    def linear(self, x: str, name: str) -> str:
        made = self("MatMul", x, self.tensor(self.of[f"{name}.weight"].T))
        return self("Add", made, self.tensor(self.of[f"{name}.bias"]))

    def norm(self, x: str, name: str) -> str:
        scale, shift = (self.tensor(self.of[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def gelu(self, x: str) -> str:
        """x (1 + erf(x / sqrt 2)) / 2."""
        raised = self("Add", self("Erf", self("Mul", x, self.scalar(0.5**0.5))), self.scalar(1.0))
        return self("Mul", self("Mul", x, raised), self.scalar(0.5))

    def bert(self) -> str:
        """Add the transformer; return its last hidden states, shape (batch, tokens, HIDDEN)."""
        table = "bert.embeddings.{}_embeddings.weight"
        words, positions, segments = (
            self.tensor(self.of[table.format(name)]) for name in ("word", "position", "token_type")
        )
        n_tokens = self("Gather", self("Shape", "input_ids"), self.constant([1]))
        own = self("Slice", positions, self.constant([0]), n_tokens, self.constant([0]))
        states = self("Add", self("Gather", words, "input_ids"), own)
        states = self("Add", states, self("Gather", segments, "token_type_ids"))
        states = self.norm(states, "bert.embeddings.LayerNorm")
        hidden = self("Sub", self("Cast", "attention_mask", to=_FLOAT), self.scalar(1.0))
        hidden = self("Mul", self("Unsqueeze", hidden, self.constant([1, 2])), self.scalar(1e9))
        for layer in range(LAYERS):
            states = self._layer(states, hidden, f"bert.encoder.layer.{layer}.")
        return states

    def _layer(self, states: str, hidden: str, name: str) -> str:
        read = self.linear(self._attention(states, hidden, name), f"{name}attention.output.dense")
        states = self.norm(self("Add", states, read), f"{name}attention.output.LayerNorm")
        inner = self.gelu(self.linear(states, f"{name}intermediate.dense"))
        written = self.linear(inner, f"{name}output.dense")
        return self.norm(self("Add", states, written), f"{name}output.LayerNorm")

    def _attention(self, states: str, hidden: str, name: str) -> str:
        width = HIDDEN // HEADS
        query, key, value = (
            self("Reshape", self.linear(states, f"{name}attention.self.{part}"),
                 self.constant([0, 0, HEADS, width]))
            for part in ("query", "key", "value")
        )  # fmt: skip
        query, value = (self("Transpose", each, perm=[0, 2, 1, 3]) for each in (query, value))
        likeness = self("MatMul", query, self("Transpose", key, perm=[0, 2, 3, 1]))
        likeness = self("Add", self("Mul", likeness, self.scalar(width**-0.5)), hidden)
        read = self("MatMul", self("Softmax", likeness, axis=-1), value)
        joined = self("Transpose", read, perm=[0, 2, 1, 3])
        return self("Reshape", joined, self.constant([0, 0, HIDDEN]))

    def model(self, output: str, shape: Sequence[int | str]) -> bytes:
        """Return the bytes of the model with one output."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = [_value(name, _INT64, ["batch", "tokens"]) for name in names]
        graph = b"".join(
            _field(number, part)
            for number, parts in ((1, self._nodes), (5, self._tensors), (11, inputs))
            for part in parts
        )
        graph += _text(2, "bert") + _field(12, _value(output, _FLOAT, shape))
        opset = _text(1, "") + _varint(2, 17)
        return _varint(1, 8) + _field(7, graph) + _field(8, opset)


class _GraphInTwo(Graph):
    """A graph whose tensors of weights name a place in another file."""

    def __init__(self, of: Mapping[str, np.ndarray], place: str) -> None:
        super().__init__(of)
        self.data = b""
        self._place = place

    def tensor(self, values: np.ndarray) -> str:
        if values.dtype == np.int64 or not values.ndim:
            return super().tensor(values)
        name, raw = next(self._names), np.ascontiguousarray(values).tobytes()
        where = {"location": self._place, "offset": str(len(self.data)), "length": str(len(raw))}
        self.data += raw
        shape = b"".join(_varint(1, size) for size in values.shape)
        entries = (_field(13, _text(1, key) + _text(2, value)) for key, value in where.items())
        data = _varint(2, _FLOAT) + _text(8, name) + b"".join(entries) + _varint(14, 1)
        self._tensors.append(shape + data)
        return name


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + b"\x15" + struct.pack("<f", value) + _varint(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _varint(3, value) + _varint(20, 2)
    return _text(1, name) + b"".join(_varint(8, each) for each in value) + _varint(20, 7)


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    sizes_ = [_text(2, size) if isinstance(size, str) else _varint(1, size) for size in shape]
    dims = b"".join(_field(1, size) for size in sizes_)
    return _text(1, name) + _field(2, _field(1, _varint(1, kind) + _field(2, dims)))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, data: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(data)) + data


def _varint(number: int, value: int) -> bytes:
    return _number(number << 3) + _number(value & (1 << 64) - 1)


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
