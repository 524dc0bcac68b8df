"""Generated inner loops of MaxSim. Import inside functions only: it loads numba.

A lane is a query token: vectors run over the tokens of the query, so that nothing is ever added up
across a vector. A tile of rows (tokens of a document) is held in registers while the loop runs over
the dimensions; each number of a row is read once and multiplied with all lanes. LLVM cuts the
vectors where a processor has shorter ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core.cgutils import get_or_insert_function
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

__all__ = ["HAS_DOT_BYTES", "PANEL", "ROWS", "STEP", "byte_tile", "float_tile"]

_stated = config.CPU_FEATURES  # type: ignore[attr-defined]
_host = get_host_cpu_features() if _stated is None else _stated  # type: ignore[no-untyped-call]
_FEATURES = frozenset(_host.split(","))

HAS_DOT_BYTES = {"+avx512vnni", "+avx512vl"} <= _FEATURES
"""Whether the processor multiplies and adds four bytes in one instruction (AVX512-VNNI)."""

STEP = 8
"""The number of lanes of a query is brought to a multiple of this."""

PANEL, ROWS = (32, 8) if "+avx512f" in _FEATURES else (16, 6)
"""Lanes worked on together at most, and rows of a tile: as many sums as registers hold."""

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()

_Multiply = Callable[["_Emitter", ir.Value, ir.Value, ir.Value], ir.Value]
"""Writes total + number of a row x vector of the panel, and returns it."""


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


class _Emitter:
    """Writes one tile: a loop over the columns, in each of which all rows meet all lanes."""

    def __init__(self, builder: ir.IRBuilder, n_lanes: int, element: ir.Type) -> None:
        self.builder = builder
        self.fetches = element == _F32  # bytes are unpacked into a cache
        width = 8 if n_lanes % 16 else 16  # with both at once, Zen 4 takes a third longer
        self.kinds = [ir.VectorType(element, width)] * (n_lanes // width)
        self.n_lanes = n_lanes

    def vectors(self, base: ir.Value, offset: ir.Value) -> list[ir.Value]:
        """Return the vectors of one line of lanes."""
        b, loaded, done = self.builder, [], 0
        for kind in self.kinds:
            place = b.gep(base, [b.add(offset, _constant(done))])
            loaded.append(b.load(b.bitcast(place, kind.as_pointer())))
            loaded[-1].align = 4
            done += kind.count
        return loaded

    def store(self, base: ir.Value, rows: Sequence[Sequence[ir.Value]]) -> None:
        """Store the vectors of all rows, one after the other."""
        b, done = self.builder, 0
        for vector in (vector for row in rows for vector in row):
            place = b.bitcast(b.gep(base, [_constant(done)]), vector.type.as_pointer())
            b.store(vector, place).align = 4
            done += vector.type.count

    def splat(self, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """Return a vector that holds a value in every place."""
        b, undefined = self.builder, ir.Constant(kind, ir.Undefined)
        one = b.insert_element(undefined, value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
        return b.shuffle_vector(one, undefined, zeros)

    def call(self, name: str, *values: ir.Value) -> ir.Value:
        """Return the result of an LLVM intrinsic whose operands have the type of its result."""
        kind = values[0].type
        module, function = self.builder.module, ir.FunctionType(kind, [kind] * len(values))
        named = get_or_insert_function(module, function, name)  # type: ignore[no-untyped-call]
        return self.builder.call(named, values)

    def fetch(self, place: ir.Value) -> None:
        """Ask for the cache line of a place, which may lie beyond the array."""
        b, bytes_ = self.builder, ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.VoidType(), [bytes_, _I32, _I32, _I32])
        named = get_or_insert_function(b.module, function, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
        read, near, data = (ir.Constant(_I32, number) for number in (0, 3, 1))
        b.call(named, [b.bitcast(place, bytes_), read, near, data])

    def sums(
        self, panel: ir.Value, rows: ir.Value, n_columns: ir.Value, multiply: _Multiply
    ) -> list[list[ir.Value]]:
        """Return the inner products of the rows with all lanes; there is one column at least."""
        b = self.builder
        before, head = b.block, b.append_basic_block("column")
        done = b.append_basic_block("done")
        b.branch(head)
        b.position_at_end(head)
        column = b.phi(_I64)
        held = [[b.phi(kind) for kind in self.kinds] for _ in range(ROWS)]
        query = self.vectors(panel, b.mul(column, _constant(self.n_lanes)))
        starts = [b.add(b.mul(_constant(row), n_columns), column) for row in range(ROWS)]
        numbers = [b.load(b.gep(rows, [start])) for start in starts]
        if self.fetches:  # of the rows behind these, as much as there is of these in a column
            self.fetch(b.gep(rows, [b.mul(_constant(ROWS), b.add(n_columns, column))]))
        made = [
            [multiply(self, *each) for each in zip(repeat(number), query, totals)]
            for number, totals in zip(numbers, held, strict=True)
        ]
        following = b.add(column, _constant(1))
        column.add_incoming(_constant(0), before)
        column.add_incoming(following, head)
        for phi, value in (
            (p, v) for ps, vs in zip(held, made, strict=True) for p, v in zip(ps, vs, strict=True)
        ):
            phi.add_incoming(ir.Constant(phi.type, None), before)
            phi.add_incoming(value, head)
        b.cbranch(b.icmp_signed("<", following, n_columns), head, done)
        b.position_at_end(done)
        return made


def _fma(emitter: _Emitter, number: ir.Value, vector: ir.Value, total: ir.Value) -> ir.Value:
    """Return total + number x vector, rounded once."""
    kind = vector.type
    return emitter.call(f"llvm.fma.v{kind.count}f32", emitter.splat(number, kind), vector, total)


def _dot_bytes(emitter: _Emitter, number: ir.Value, vector: ir.Value, total: ir.Value) -> ir.Value:
    """Return total and, lane by lane, four unsigned bytes times the query's four signed ones."""
    kind = vector.type
    name = f"llvm.x86.avx512.vpdpbusd.{32 * kind.count}"
    return emitter.call(name, total, emitter.splat(number, kind), vector)


def _tile(n_lanes: int, element: ir.Type, multiply: _Multiply) -> Any:
    @intrinsic
    def tile(typingctx, lanes, at, rows, first, n_columns, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001
        signature = types.void(lanes, types.int64, rows, types.int64, types.int64, sums)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            lanes, at, rows, first, n_columns, sums = (
                context.make_array(kind)(context, builder, value).data
                if isinstance(kind, types.Array)
                else value
                for kind, value in zip(signature.args, args, strict=True)
            )
            emitter = _Emitter(builder, n_lanes, element)
            panel = builder.gep(lanes, [at])
            start = builder.gep(rows, [builder.mul(first, n_columns)])
            emitter.store(sums, emitter.sums(panel, start, n_columns, multiply))
            return context.get_dummy_value()

        return signature, codegen

    return tile


def float_tile(n_lanes: int) -> Any:
    """Return a function for compiled code, `tile(lanes, at, rows, first, n_columns, sums)`.

    It stores in `sums`, float32 of shape (ROWS, n_lanes), the inner products of the rows from
    `first` on, float32 of shape (n, n_columns), with the panel that begins at `lanes[at]`, float32
    of shape (n_columns, n_lanes). All arrays are given in one line.
    """
    return _tile(n_lanes, _F32, _fma)


def byte_tile(n_lanes: int) -> Any:
    """Return the same for bytes: a column is four dimensions in one 32-bit number.

    Rows hold unsigned bytes, the panel signed ones, and the sums are int32. Needs `HAS_DOT_BYTES`.
    """
    return _tile(n_lanes, _I32, _dot_bytes)
