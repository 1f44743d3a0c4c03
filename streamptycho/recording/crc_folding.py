"""CRC-32 by carry-less multiplication, where the processor has it: 64 or 256 bytes in every step.

References
----------
V. Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction, Intel white paper 323102,
2009.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_TOOLS: Any = cgutils
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_POLYNOMIAL = 0x104C11DB7
_LANE_BYTES = 16
_VECTORS = 4


def _has(*features: str) -> bool:
    known = dict(llvm.get_host_cpu_features())
    return all(known.get(feature, False) for feature in features)


# Lanes of 16 bytes in one vector.
_LANES = 4 if _has("vpclmulqdq", "avx512f", "avx512bw") else 1
STEP_BYTES = _VECTORS * _LANES * _LANE_BYTES


def available() -> bool:
    """Whether this processor multiplies without carry."""
    return _has("pclmul")


def _power(exponent: int) -> int:
    """Return x^exponent modulo the polynomial of CRC-32, bits reflected, as folding takes it."""
    rest = 1
    for _ in range(exponent):
        rest <<= 1
        rest ^= _POLYNOMIAL if rest >> 32 else 0
    return int(f"{rest:032b}"[::-1], 2) << 1


def _folded(builder: Any, value: Any, distance_bytes: int, following: Any) -> Any:
    """Return a vector with the checksum of `value` and of `following`, which stands so many bytes further on."""
    kind = value.type
    lanes = kind.count // 2
    name = "llvm.x86.pclmulqdq" if lanes == 1 else f"llvm.x86.pclmulqdq.{128 * lanes}"
    multiply = _TOOLS.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind, _I8]), name)
    bits = 8 * distance_bytes
    by = ir.Constant(kind, [_power(bits + 32), _power(bits - 32)] * lanes)
    low = builder.call(multiply, [value, by, ir.Constant(_I8, 0x00)])
    high = builder.call(multiply, [value, by, ir.Constant(_I8, 0x11)])
    return builder.xor(builder.xor(low, high), following)


def _fold(context: Any, address: Any, steps: Any, crc: Any, out: Any) -> tuple[Any, Any]:
    """Fold `steps` > 0 times `STEP_BYTES` at an address to 16 bytes at `out`, with the same checksum from 0 on."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, steps, crc, out = values
        vector, lane = ir.VectorType(_I64, 2 * _LANES), ir.VectorType(_I64, 2)
        vector_bytes = _LANES * _LANE_BYTES

        def loaded(step: Any, number: int) -> Any:
            offset = builder.mul(step, ir.Constant(_I64, STEP_BYTES))
            at = builder.add(builder.add(address, offset), ir.Constant(_I64, vector_bytes * number))
            return builder.load(builder.inttoptr(at, vector.as_pointer()), align=1)

        sums = [_TOOLS.alloca_once(builder, vector) for _ in range(_VECTORS)]
        zero = ir.Constant(_I64, 0)
        nothing = ir.Constant(vector, [0] * vector.count)
        first = builder.insert_element(nothing, builder.zext(crc, _I64), ir.Constant(_I32, 0))
        for number, place in enumerate(sums):
            value = loaded(zero, number)
            builder.store(builder.xor(value, first) if number == 0 else value, place)
        with _TOOLS.for_range(builder, steps, ir.Constant(_I64, 1)) as loop:
            for number, place in enumerate(sums):
                following = loaded(loop.index, number)
                builder.store(_folded(builder, builder.load(place), STEP_BYTES, following), place)
        whole = builder.load(sums[0])
        for place in sums[1:]:
            whole = _folded(builder, whole, vector_bytes, builder.load(place))
        lanes = [
            builder.shuffle_vector(whole, whole, ir.Constant(ir.VectorType(_I32, 2), [2 * k, 2 * k + 1]))
            for k in range(_LANES)
        ]
        total = functools.reduce(lambda found, each: _folded(builder, found, _LANE_BYTES, each), lanes)
        builder.store(total, builder.inttoptr(out, lane.as_pointer()), align=1)
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint32, types.int64), generate


fold: Any = intrinsic(_fold)
