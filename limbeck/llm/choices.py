"""Holding a completion to one of some texts, in the parameters that servers have for it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["chosen_from"]


def chosen_from(choices: Sequence[str], parameter: str) -> dict[str, Any]:
    """Return what a request holds besides, so that its answer is one of the choices.

    Args:
        choices: the texts.
        parameter: "structured_outputs" of vLLM; "regex" of SGLang; "grammar" of llama.cpp.
    """
    if parameter == "structured_outputs":
        return {"structured_outputs": {"choice": list(choices)}}
    if parameter == "regex":
        return {"regex": f"({'|'.join(map(re.escape, choices))})"}
    assert parameter == "grammar", parameter
    quoted = [json.dumps(choice, ensure_ascii=False) for choice in choices]
    return {"grammar": f"root ::= {' | '.join(quoted)}"}
