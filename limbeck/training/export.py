"""A trained encoder as an ONNX file, for encoding without torch: whole, or with 8-bit weights.

In 8 bits, weights of matrix products are stored in blocks of 64 with a scale each, and what they
are multiplied with is rounded block by block as it comes; the word vectors have a scale a row.
Rounding whole activations, as onnxruntime's `quantize_dynamic` does, lowers MiniLM's cosine to its
own float vectors to .94 on average; in blocks it stays at .999 (benchmarks/export_parity.py).
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import replacing
from limbeck.errors import MissingExtraError, TrainingError, UsageError
from limbeck.retrieval.encoders.conventions import OWN_FILE, Convention, Settings, write_own
from limbeck.retrieval.encoders.folders import WEIGHTS, onnx_alone, without_bars
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.retrieval.encoders.stated import stated_convention
from limbeck.training.folders import require_model
from limbeck.training.students import DenseStudent

__all__ = ["export_onnx"]

_CARD = "README.md"
_BLOCK = 64
_OPSET = 18
_MOST = 512
"""Texts of a batch, and tokens of a text."""

_TEXTS = (
    "how long does an egg take to boil",
    "The capital of France is Paris, on the river Seine; it has some two million inhabitants.",
    "Zinc supplementation reduces the duration of the common cold in adults (p < 0.05).",
    "SELECT name FROM users WHERE id = 7",
)
"""What the exported model is compared on with the one it was made from; and see `_texts`."""

_LEAST_COSINE = {"fp32": 0.9999, "int8": 0.99}


def export_onnx(
    model: Path, out: Path, *, precision: Literal["fp32", "int8"] = "int8"
) -> dict[str, float]:
    """Write a model's folder with an ONNX file in place of its weights, and return its parity.

    The folder is an encoder for Limbeck's pipelines where torch is not installed, and one that
    sentence-transformers loads with backend="onnx".

    Args:
        model: the folder of a SentenceTransformer: one tower, pooled by mean or [CLS].
        out: the folder to write.
        precision: of the weights.

    Returns:
        The lowest and the mean cosine to the model's own vectors, over a few texts.

    Raises:
        UsageError: the model is of another kind, or not there.
        TrainingError: the vectors came out different.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    _require_packages()
    require_model(model)
    _require_free(out, model)
    stated_convention(model, Convention())
    student = DenseStudent(base=str(model.absolute()))  # a path: "minilm" is the built-in model
    source = student.load().eval()
    texts = _texts(source[0])
    own = _vectors(source, texts)
    with replacing(out) as beside:
        _save(source, beside, student.between)
        if (model / _CARD).is_file():
            shutil.copyfile(model / _CARD, beside / _CARD)
        (beside / "onnx").mkdir()
        graph = beside / "onnx" / "model.onnx"
        _trace(source[0].model, graph)
        if precision == "int8":
            _quantise(graph, words=_words(source[0].model))
        cosines = _cosines(own, texts, beside)
        if cosines.min() < _LEAST_COSINE[precision]:
            raise TrainingError(
                f"an exported model must give the vectors of its source; the cosine fell to "
                f"{cosines.min():.4f} in {precision}; export it in fp32, or load it with torch"
            )
    return {"least_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}


def _require_free(out: Path, model: Path) -> None:
    """Raise UsageError unless a folder may be replaced: an exported model may, no other one."""
    made, read = out.resolve(), model.resolve()
    if made.is_relative_to(read) or read.is_relative_to(made):
        raise UsageError(
            f"an exported model must lie apart from its source, {model}; got {out}; give another"
        )
    is_ours = (out / OWN_FILE).is_file() and onnx_alone(out) is not None
    if out.exists() and not is_ours and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} must be free, or an exported model; it is neither; give another")


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        package = str(error.name)
        raise MissingExtraError(package, extra="training", wanted_by="limbeck export") from None


def _texts(reader: Any) -> list[str]:
    """Return what is compared: short texts, and for each length of the model a long one.

    That one turns where it is to be cut, so that whoever cuts it later has another vector.
    """
    cuts = {reader.max_seq_length, reader.query_length, reader.document_length} - {None}
    lengths = sorted(min(cut, _MOST) for cut in cuts)
    return [*_TEXTS, *(" ".join(["the"] * n + [_TEXTS[1]] * n) for n in lengths)]


def _vectors(source: Any, texts: list[str]) -> NDArray[np.float32]:
    """Return a model's own vectors of texts, as queries and as documents."""
    encoded = (source.encode_query, source.encode_document)
    return np.concatenate([encode(texts, show_progress_bar=False) for encode in encoded])


def _save(source: Any, folder: Path, title_separator: str) -> None:
    """Write what a model's folder states, without its weights.

    As sentence-transformers writes it now: older folders state the same in other words.
    """
    with without_bars():
        source.save_pretrained(str(folder), create_model_card=False)
    for pattern in WEIGHTS:
        for file in folder.glob(pattern):
            file.unlink()
    write_own(folder, title_separator=title_separator)


def _trace(transformer: Any, file: Path) -> None:
    """Write the graph from token ids to token states.

    Raises:
        UsageError: torch cannot make one of the architecture.
    """
    import torch

    # One tensor in two places would be one input of the graph.
    given = {name: torch.ones(2, 8, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    if getattr(transformer.config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = torch.zeros(2, 8, dtype=torch.int64)
    batch, tokens = (torch.export.Dim(name, max=_MOST) for name in ("batch", "tokens"))
    try:
        with _quiet():
            made = torch.onnx.export(
                _states(transformer),
                (),
                kwargs=given,
                output_names=["last_hidden_state"],
                dynamic_shapes={name: {0: batch, 1: tokens} for name in given},
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UsageError(
            "an exported model must be one of which torch can make a graph; "
            f"{type(transformer).__name__} gave {type(error).__name__}; load it with torch"
        ) from error
    assert made is not None
    made.save(str(file))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from telling which packages it would have more operators with."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _states(transformer: Any) -> Any:
    """Return a module that gives a transformer's token states and nothing else."""
    import torch

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = transformer

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            made = self.inner(input_ids=input_ids, attention_mask=attention_mask, **given)
            return made.last_hidden_state

    return States()


def _words(transformer: Any) -> str:
    """Return the name of a transformer's word vectors, which architectures call as they like."""
    weight = transformer.get_input_embeddings().weight
    names: list[str] = [n for n, held in transformer.named_parameters() if held is weight]
    return names[0]


def _quantise(file: Path, *, words: str) -> None:
    """Bring the weights of a graph to 8 bits, those of the words by a scale a row."""
    import logging

    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logger = logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer")
    level, logger.level = logger.level, logging.WARNING
    try:
        quantizer = MatMulNBitsQuantizer(
            onnx.load(file), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
    finally:
        logger.level = level
    graph = quantizer.model.model
    _narrow_words(graph, words)
    onnx.save(graph, file)


def _narrow_words(model: Any, name: str) -> None:
    """Store the word vectors of a graph as int8 with a scale a row.

    Raises:
        UsageError: the graph does not look words up in them.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    words, at = _lookup(graph, name)
    values = numpy_helper.to_array(words)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127.0
    narrow = np.rint(values / scales).astype(np.int8)
    gather = graph.node[at]
    rows, scaled = f"{words.name}_rows", f"{words.name}_scales"
    ids, made = gather.input[1], gather.output[0]
    nodes = [
        helper.make_node("Gather", [rows, ids], [f"{made}_rows"]),
        helper.make_node("Cast", [f"{made}_rows"], [f"{made}_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scaled, ids], [f"{made}_scale"]),
        helper.make_node("Mul", [f"{made}_float", f"{made}_scale"], [made]),
    ]
    graph.node.remove(gather)
    for place, node in enumerate(nodes):
        graph.node.insert(at + place, node)
    graph.initializer.remove(words)
    graph.initializer.append(numpy_helper.from_array(narrow, rows))
    graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), scaled))


def _lookup(graph: Any, name: str) -> tuple[Any, int]:
    """Return the word vectors of a graph, and the place of the one node that reads them."""
    for words in graph.initializer:
        readers = [n for n, node in enumerate(graph.node) if words.name in node.input]
        is_looked_up = len(readers) == 1 and graph.node[readers[0]].op_type == "Gather"
        if words.name.endswith(name) and is_looked_up:
            return words, readers[0]
    raise UsageError(
        f"a model in 8 bits must look each word up once; the graph has no such {name}; export it "
        "with --precision fp32"
    )


def _cosines(own: NDArray[np.float32], texts: list[str], folder: Path) -> NDArray[np.float64]:
    """Return the cosine of each text's vectors by the exported model to the model's own."""
    encoder = open_encoder(Settings(str(folder)))
    encoded = (encoder.encode_queries, encoder.encode_documents)
    made = np.concatenate([encode(texts) for encode in encoded])
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(made, axis=1)
    cosines: NDArray[np.float64] = (own * made).sum(axis=1) / lengths
    return cosines
