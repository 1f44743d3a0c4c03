"""Undoing the bit shuffle with vectors: 32 groups of eight elements in every step, on processors of any vector size.

References
----------
H. S. Warren, Hacker's Delight, 2nd ed., section 7-3 (transposing bits by exchanging blocks of them).
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

STEP_GROUPS = 32

_TOOLS: Any = cgutils
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_LANE_BYTES = 16
_WORDS, _BYTES = ir.VectorType(_I64, STEP_GROUPS // 8), ir.VectorType(_I8, STEP_GROUPS)
_LANE, _ELEMENTS = ir.VectorType(_I8, _LANE_BYTES), ir.VectorType(ir.IntType(16), _LANE_BYTES)
_EXCHANGES = ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F))


def _numbers(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(order)), order)


def _interleaving(unit: int, half: int) -> Any:
    """Return the order that takes units of the lower (0) or upper (1) half of each lane of two vectors in turn."""
    order: list[int] = []
    for lane in range(0, STEP_GROUPS, _LANE_BYTES):
        begin = lane + half * _LANE_BYTES // 2
        for at in range(begin, begin + _LANE_BYTES // 2, unit):
            order += [*range(at, at + unit), *range(STEP_GROUPS + at, STEP_GROUPS + at + unit)]
    return _numbers(order)


def _all_constant(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * _WORDS.count)


def _transposed_bits(builder: Any, rows: list[Any]) -> list[Any]:
    """Return eight vectors of which byte j of number k is element k of group j, from those of which it is bit k."""
    for shift, kept in _EXCHANGES:
        by, mask = _all_constant(shift), _all_constant(kept)
        for first in (k for k in range(8) if not k & shift):
            upper, lower = rows[first], rows[first + shift]
            differing = builder.and_(builder.xor(builder.lshr(upper, by), lower), mask)
            rows[first] = builder.xor(upper, builder.shl(differing, by))
            rows[first + shift] = builder.xor(lower, differing)
    return rows


def _in_order(builder: Any, elements: list[Any]) -> list[Any]:
    """Return vectors of which both lanes hold elements in order, those of the first lane before those of the second."""
    rows = [builder.bitcast(row, _BYTES) for row in elements]
    for unit in (1, 2, 4):
        halves = [_interleaving(unit, half) for half in (0, 1)]
        joined: list[Any] = []
        for first in range(0, len(rows), 2 * unit):
            for k in range(first, first + unit):
                joined += [builder.shuffle_vector(rows[k], rows[k + unit], order) for order in halves]
        rows = joined
    return rows


def _pointer(builder: Any, at: Any, kind: Any) -> Any:
    return builder.inttoptr(at, kind.as_pointer())


def _rows_at(builder: Any, address: Any, groups: Any) -> list[Any]:
    """Return eight rows of bits from an address on, `groups` bytes apart, for 32 groups."""
    starts = [builder.add(address, builder.mul(groups, ir.Constant(_I64, bit))) for bit in range(8)]
    return [builder.load(_pointer(builder, start, _WORDS), align=1) for start in starts]


def _halves(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the bytes of 32 groups from eight rows of bits: 16 vectors, and where the first byte of each belongs."""
    found = []
    for place, vector in enumerate(_in_order(builder, _transposed_bits(builder, list(rows)))):
        for lane in range(STEP_GROUPS // _LANE_BYTES):
            first = lane * _LANE_BYTES
            half = builder.shuffle_vector(vector, vector, _numbers([*range(first, first + _LANE_BYTES)]))
            found.append((_LANE_BYTES * place + 8 * _LANE_BYTES * lane, half))
    return found


def _transpose(context: Any, address: Any, groups: Any, steps: Any, out: Any) -> tuple[Any, Any]:
    """Write the bytes of `steps` times 32 groups at `out`, from eight rows of bits, `groups` bytes apart."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, groups, steps, out = values
        with _TOOLS.for_range(builder, steps) as loop:
            at = builder.add(address, builder.mul(loop.index, ir.Constant(_I64, STEP_GROUPS)))
            to = builder.add(out, builder.mul(loop.index, ir.Constant(_I64, 8 * STEP_GROUPS)))
            for place, half in _halves(builder, _rows_at(builder, at, groups)):
                begin = builder.add(to, ir.Constant(_I64, place))
                builder.store(half, _pointer(builder, begin, _LANE), align=1)
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


def _transpose_u16(context: Any, address: Any, groups: Any, steps: Any, out: Any) -> tuple[Any, Any]:
    """Write the u16 of `steps` times 32 groups at `out`, from sixteen rows of bits, `groups` bytes apart."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, groups, steps, out = values
        eight_rows = builder.mul(groups, ir.Constant(_I64, 8))

        def store(to: Any, place: int, elements: Any) -> None:
            begin = builder.add(to, ir.Constant(_I64, 2 * place))
            builder.store(elements, _pointer(builder, begin, _ELEMENTS), align=1)

        with _TOOLS.for_range(builder, steps) as loop:
            at = builder.add(address, builder.mul(loop.index, ir.Constant(_I64, STEP_GROUPS)))
            to = builder.add(out, builder.mul(loop.index, ir.Constant(_I64, 16 * STEP_GROUPS)))
            low = _halves(builder, _rows_at(builder, at, groups))
            upper_rows = _rows_at(builder, builder.add(at, eight_rows), groups)
            together = functools.reduce(builder.or_, upper_rows)
            # Counts above 255 are rare.
            whole = builder.bitcast(together, ir.IntType(8 * STEP_GROUPS))
            large = builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))
            with builder.if_else(large, likely=False) as (some, none):
                with some:
                    for (place, low_half), (_, half) in zip(low, _halves(builder, upper_rows), strict=True):
                        upper = builder.shl(builder.zext(half, _ELEMENTS), ir.Constant(_ELEMENTS, [8] * _LANE_BYTES))
                        store(to, place, builder.or_(builder.zext(low_half, _ELEMENTS), upper))
                with none:
                    for place, half in low:
                        store(to, place, builder.zext(half, _ELEMENTS))
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


transpose: Any = intrinsic(_transpose)
transpose_u16: Any = intrinsic(_transpose_u16)
