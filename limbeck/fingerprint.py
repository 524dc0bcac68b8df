"""Fingerprints: the same content gives the same digest on every machine, never by repr."""

from __future__ import annotations

import dataclasses
import dis
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    MethodDescriptorType,
    ModuleType,
)
from typing import Any

from limbeck.errors import UsageError

__all__ = ["canonical_json", "digest", "fingerprint", "fingerprint_callable"]


def digest(*parts: bytes | str) -> str:
    """Return the hex BLAKE2b-128 digest of the parts, each with its length, so that none run on."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        # Lone surrogates, which JSON can carry, must not stop a load.
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()


def fingerprint(value: object) -> str:
    """Return the digest of a value made of plain data, dataclasses and fingerprinted objects.

    Raises:
        UsageError: the value holds an object that has no stable content.
    """
    return digest(canonical_json(value))


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, floats by shortest repr."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint_callable(function: Callable[..., Any]) -> str:
    """Return the digest of a function and of all it reads, or of a callable object's content.

    A function is its code, its defaults, what it closes over, and what it reads by global names:
    data, and functions of its own package, by the same rule. Functions of other packages, classes
    and modules count by their names, objects without plain content by their types.
    """
    own = getattr(function, "fingerprint", None)
    if isinstance(own, str):
        return own
    if isinstance(function, FunctionType):
        return _of_function(function)
    if callable(cached := getattr(function, "__wrapped__", None)):
        return fingerprint_callable(cached)
    if isinstance(function, (type, BuiltinFunctionType, MethodDescriptorType)):
        return digest(getattr(function, "__module__", None) or "", function.__qualname__)
    raise UsageError(
        f"a callable parameter must be a function or have a string attribute `fingerprint`; "
        f"got {type(function).__name__}; give the object that attribute"
    )


_under: ContextVar[tuple[FunctionType, ...]] = ContextVar("limbeck_under", default=())
"""The functions whose fingerprints are being made, each read by the one before it."""


def _of_function(function: FunctionType) -> str:
    under = _under.get()
    if function in under:
        return f"itself, {under.index(function)}"
    token = _under.set((*under, function))
    try:
        closed = [cell.cell_contents for cell in function.__closure__ or ()]
        defaults = [function.__defaults__, function.__kwdefaults__]
        return fingerprint([_code(function.__code__), closed, *defaults, _globals(function)])
    finally:
        _under.reset(token)


def _globals(function: FunctionType) -> dict[str, object]:
    """Return what a function reads by global names."""
    known = function.__globals__
    names = {name for name in _global_names(function.__code__) if name in known}
    return {name: _global(known[name], function) for name in names}


def _global_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            yield instruction.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _global_names(inner)


def _global(value: object, reader: FunctionType) -> object:
    if isinstance(value, ModuleType):
        return {"module": value.__name__}
    if isinstance(value, FunctionType) and _package(value) != _package(reader):
        return {"function": [value.__module__, value.__qualname__]}
    try:
        return _plain(value)
    except UsageError:
        return {"type": [type(value).__module__, type(value).__qualname__]}


def _package(function: FunctionType) -> str:
    return str(function.__module__).partition(".")[0]


def _code(code: CodeType) -> list[object]:
    constants = [_code(c) if isinstance(c, CodeType) else _plain(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _plain(value: object) -> object:
    """Return a value as what JSON can hold, with everything else named by its content."""
    own = getattr(value, "fingerprint", None)
    if isinstance(own, str) and not isinstance(value, type):
        return {"fingerprint": own}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    for kinds, plain in _FORMS:
        if isinstance(value, kinds):
            return plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__qualname__, **fields}
    if callable(value):
        return {"callable": fingerprint_callable(value)}
    raise UsageError(
        f"a fingerprint needs plain data; got {type(value).__qualname__}; "
        "give the object a string attribute `fingerprint`"
    )


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...] = (
    (float, lambda value: value if math.isfinite(value) else str(value)),
    ((EllipsisType, complex), str),
    (PurePath, PurePath.as_posix),
    (re.Pattern, lambda value: {"pattern": value.pattern, "flags": value.flags}),
    (bytes, lambda value: {"bytes": digest(value)}),
    (Mapping, lambda value: {str(key): _plain(item) for key, item in value.items()}),
    ((list, tuple), lambda value: [_plain(item) for item in value]),
    ((set, frozenset), lambda value: sorted(canonical_json(item) for item in value)),
)
