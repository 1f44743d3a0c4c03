"""CRC-32 by carry-less multiplication, where the processor has it: 64 bytes in every step.

References
----------
V. Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction, Intel white paper 323102,
2009.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

STEP_BYTES = 64

_TOOLS: Any = cgutils
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_PAIR = ir.VectorType(_I64, 2)
# x^(512+32), x^(512-32) and x^(128+32), x^(128-32) modulo the polynomial, bits reflected.
_BY_FOUR = (0x154442BD4, 0x1C6E41596)
_BY_ONE = (0x1751997D0, 0x0CCAA009E)


def available() -> bool:
    """Whether this processor multiplies without carry."""
    return bool(dict(llvm.get_host_cpu_features()).get("pclmul", False))


def _fold(context: Any, address: Any, steps: Any, crc: Any, out: Any) -> tuple[Any, Any]:
    """Fold `steps` > 0 times 64 bytes at an address to 16 bytes at `out`, which have the same checksum from 0 on."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, steps, crc, out = values
        multiply = _TOOLS.get_or_insert_function(
            builder.module, ir.FunctionType(_PAIR, [_PAIR, _PAIR, _I8]), "llvm.x86.pclmulqdq"
        )

        def folded(value: Any, by: tuple[int, int], following: Any) -> Any:
            constant = ir.Constant(_PAIR, list(by))
            low = builder.call(multiply, [value, constant, ir.Constant(_I8, 0x00)])
            high = builder.call(multiply, [value, constant, ir.Constant(_I8, 0x11)])
            return builder.xor(builder.xor(low, high), following)

        def loaded(step: Any, lane: int) -> Any:
            offset = builder.add(builder.mul(step, ir.Constant(_I64, STEP_BYTES)), ir.Constant(_I64, 16 * lane))
            return builder.load(builder.inttoptr(builder.add(address, offset), _PAIR.as_pointer()), align=1)

        lanes = [_TOOLS.alloca_once(builder, _PAIR) for _ in range(4)]
        zero = ir.Constant(_I64, 0)
        first = builder.insert_element(ir.Constant(_PAIR, [0, 0]), builder.zext(crc, _I64), ir.Constant(_I32, 0))
        for number, lane in enumerate(lanes):
            value = loaded(zero, number)
            builder.store(builder.xor(value, first) if number == 0 else value, lane)
        with _TOOLS.for_range(builder, steps, ir.Constant(_I64, 1)) as loop:
            for number, lane in enumerate(lanes):
                builder.store(folded(builder.load(lane), _BY_FOUR, loaded(loop.index, number)), lane)
        total = builder.load(lanes[0])
        for lane in lanes[1:]:
            total = folded(total, _BY_ONE, builder.load(lane))
        builder.store(total, builder.inttoptr(out, _PAIR.as_pointer()), align=1)
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint32, types.int64), generate


fold: Any = intrinsic(_fold)
