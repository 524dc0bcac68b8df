"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF file in a pip package."""

from __future__ import annotations

from pathlib import Path

from limbeck.artifact import locked
from limbeck.llm.llamacpp import find_gguf

__all__ = ["hugging_face_folder"]


def hugging_face_folder(folder: Path) -> Path:
    """Return the folder; the weights are dequantised into it the first time, some 20 seconds."""
    with locked(folder):
        if not (folder / "done").exists():
            _write(find_gguf("smollm2"), folder)
            (folder / "done").touch()
    return folder


def _write(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
