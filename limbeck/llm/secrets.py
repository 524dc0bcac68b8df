"""Keys by reference: `${env:NAME}` is resolved when a connection opens, and scrubbed from texts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from limbeck.errors import UsageError

__all__ = ["Scrubber", "is_reference", "resolve", "unset_variables"]

_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_LIKE_A_KEY = re.compile(r"\b(?:sk|gsk|hf|xai|pk|rk)[-_][\w*.…-]{6,}|(?i:(?<=bearer )\S+)")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SHORTEST = 4


def is_reference(value: str) -> bool:
    """Return whether the whole value is one reference to a variable of the environment."""
    return _REFERENCE.fullmatch(value) is not None


def unset_variables(value: str) -> tuple[str, ...]:
    """Return the variables that a value refers to and that the environment lacks."""
    return tuple(name for name in _REFERENCE.findall(value) if not os.environ.get(name))


def resolve(value: str, *, wanted_by: str) -> str:
    """Return the value with each `${env:NAME}` replaced by that variable.

    Raises:
        UsageError: a variable is unset or empty.
    """
    unset = unset_variables(value)
    if unset:
        raise UsageError(
            f"{wanted_by} needs the environment variable {unset[0]}; it is not set; "
            f"run: export {unset[0]}=..."
        )
    return _REFERENCE.sub(lambda found: os.environ[found[1]], value)


class Scrubber:
    """Takes secrets out of texts that others wrote, such as a server's error messages."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Keep the secrets to look for; those too short to be one are left out."""
        self._secrets = sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text with the secrets, and whatever looks like a key, replaced by ***."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _CREDENTIALS.sub("***", _LIKE_A_KEY.sub("***", text))
