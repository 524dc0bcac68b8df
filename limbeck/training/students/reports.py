"""What transformers reports of a model that it loaded: of a table, the line that matters."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from limbeck.progress import announcer

__all__ = ["new_weights_told"]

_LOGGER = "transformers.modeling_utils"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_NEW = re.compile(r"^(?!.*\bpooler\b)(\S+)\s*\|\s*MISSING", re.MULTILINE)
"""A weight that the base lacks; the pooler's are not read."""


@contextmanager
def new_weights_told() -> Iterator[None]:
    """Announce the weights that a model has and its base lacks; those left over matter to nobody.

    transformers tells both in a table, with colours wherever it goes.
    """
    new: list[str] = []

    def heard(record: logging.LogRecord) -> bool:
        text = _ANSI.sub("", record.getMessage())
        is_report = "LOAD REPORT" in text
        if is_report:
            new.extend(_NEW.findall(text))
        return not is_report

    logger = logging.getLogger(_LOGGER)
    logger.addFilter(heard)
    try:
        yield
    finally:
        logger.removeFilter(heard)
    if new:
        announcer()(f"weights that the base lacks, and that begin at random: {', '.join(new)}")
