"""What 8 bits cost a small encoder: by onnxruntime's dynamic quantisation, and by ours, in blocks.

    python benchmarks/export_parity.py FOLDER [--model minilm] [--documents 500] [--rounds 5]

FOLDER is a collection in BEIR's layout. Its first documents are encoded by the model in torch and
by three ONNX files made of it. Prints the cosine to torch's float vectors, lowest and mean, the
size of the file and documents a second, the files in turn, medians. Needs the extra training.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.training.export import export_onnx
from limbeck.training.students import DenseStudent

_GRAPH = Path("onnx/model.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR folder")
    parser.add_argument("--model", default="minilm", help="a folder, a name on the hub, or minilm")
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    corpus: Corpus = Dataset.load(options.folder).corpus
    documents = [corpus.document(row) for row in range(min(options.documents, len(corpus)))]
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        DenseStudent(base=options.model).load().save_pretrained(str(source))
        own = open_encoder(Settings(str(source))).encode_documents(documents)
        files = exported(source, Path(place))
        encoders = {name: open_encoder(Settings(str(folder))) for name, folder in files.items()}
        seconds: dict[str, list[float]] = {name: [] for name in files}
        cosines: dict[str, NDArray[np.float64]] = {}
        for _ in range(options.rounds):
            for name, encoder in encoders.items():
                began = time.perf_counter()
                vectors = encoder.encode_documents(documents)
                seconds[name].append(time.perf_counter() - began)
                cosines[name] = cosine(own, vectors)
        print("| file | lowest cosine | mean | MB | documents/s |\n|---|---|---|---|---|")
        for name, folder in files.items():
            size = (folder / _GRAPH).stat().st_size / 1e6
            rate = len(documents) / statistics.median(seconds[name])
            found = cosines[name]
            print(f"| {name} | {found.min():.4f} | {found.mean():.4f} | {size:.1f} | {rate:.1f} |")


def exported(source: Path, place: Path) -> dict[str, Path]:
    """Return the folders of the model's ONNX files."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    files = {name: place / name.split()[0] for name in ("float", "blocks of 64", "dynamic")}
    export_onnx(source, files["float"], precision="fp32")
    export_onnx(source, files["blocks of 64"], precision="int8")
    shutil.copytree(files["float"], files["dynamic"])
    quantize_dynamic(
        files["float"] / _GRAPH, files["dynamic"] / _GRAPH, weight_type=QuantType.QInt8
    )
    return files


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float64] = (a * b).sum(axis=1) / lengths
    return found


if __name__ == "__main__":
    main()
