"""Vectors of eight single-precision numbers for compiled code: what one instruction of the processor works on.

The compiler turns loops into vector instructions only where it can prove that arrays do not overlap, which it cannot
for transforms. Code written in these vectors needs no proof. A processor with shorter vectors uses several.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.extending import models, overload, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)
_FUSED = ("contract",)

intrinsic: Any = extending.intrinsic


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _VECTOR)


class Emitter:
    """Writes vector instructions into the function that is being compiled."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context, self.builder = context, builder

    def data(self, kind: Any, array: Any) -> Any:
        """Return the address of the first element of a contiguous array."""
        return self._context.make_array(kind)(self._context, self.builder, array).data

    def load(self, data: Any, offset: Any) -> Any:
        """Return the lanes that start at an element."""
        return self.builder.load(self._address(data, offset), align=4)

    def store(self, value: Any, data: Any, offset: Any) -> None:
        """Write lanes from an element on."""
        self.builder.store(value, self._address(data, offset), align=4)

    def splat(self, number: Any) -> Any:
        """Return lanes that all hold one number."""
        first = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, _INDEX(0))
        return self.shuffle(first, first, [0] * LANES)

    def constant(self, number: float) -> Any:
        """Return lanes that all hold a number known now."""
        return self.splat(ir.FloatType()(number))

    def shuffle(self, a: Any, b: Any, order: Iterable[int]) -> Any:
        """Return lanes taken by number from two vectors laid end to end."""
        numbers = list(order)
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INDEX, len(numbers)), numbers))

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b."""
        return self.builder.fadd(a, b, flags=_FUSED)

    def sub(self, a: Any, b: Any) -> Any:
        """Return a - b."""
        return self.builder.fsub(a, b, flags=_FUSED)

    def mul(self, a: Any, b: Any) -> Any:
        """Return a x b."""
        return self.builder.fmul(a, b, flags=_FUSED)

    def _address(self, data: Any, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [offset]), _VECTOR.as_pointer())


@intrinsic
def load(_typing, array, offset):
    """Return the lanes of a contiguous float32 array that start at an element."""

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder)
        return emit.load(emit.data(signature.args[0], arguments[0]), arguments[1])

    return lanes(array, types.intp), generate


@intrinsic
def store(_typing, value, array, offset):
    """Write lanes to a contiguous float32 array from an element on."""

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder)
        emit.store(arguments[0], emit.data(signature.args[1], arguments[1]), arguments[2])
        return context.get_dummy_value()

    return types.void(lanes, array, types.intp), generate


def _row_address(context, builder, kind, array, row, column):
    view = context.make_array(kind)(context, builder, array)
    stride = builder.extract_value(view.strides, 0)
    bytes_in = builder.add(builder.mul(row, stride), builder.mul(column, column.type(8)))
    pairs = ir.VectorType(ir.FloatType(), 2 * LANES)
    start = builder.bitcast(view.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [bytes_in]), pairs.as_pointer())


@intrinsic
def load_complex(_typing, image, row, column):
    """Return real and imaginary lanes of a complex64 image whose rows are contiguous."""
    result = types.UniTuple(lanes, 2)

    def generate(context, builder, signature, arguments):
        pairs = builder.load(_row_address(context, builder, signature.args[0], *arguments), align=8)
        emit = Emitter(context, builder)
        real = emit.shuffle(pairs, pairs, range(0, 2 * LANES, 2))
        imaginary = emit.shuffle(pairs, pairs, range(1, 2 * LANES, 2))
        return context.make_tuple(builder, result, (real, imaginary))

    return result(image, types.intp, types.intp), generate


@intrinsic
def store_complex(_typing, real, imaginary, image, row, column):
    """Write real and imaginary lanes to a complex64 image whose rows are contiguous."""

    def generate(context, builder, signature, arguments):
        order = [k + part for k in range(LANES) for part in (0, LANES)]
        pairs = Emitter(context, builder).shuffle(arguments[0], arguments[1], order)
        builder.store(pairs, _row_address(context, builder, signature.args[2], *arguments[2:]), align=8)
        return context.get_dummy_value()

    return types.void(lanes, lanes, image, types.intp, types.intp), generate


@intrinsic
def splat(_typing, number):
    """Return lanes that all hold one float32."""

    def generate(context, builder, _signature, arguments):
        return Emitter(context, builder).splat(arguments[0])

    return lanes(types.float32), generate


@intrinsic
def square_root(_typing, a):
    """Return the square root of every lane."""

    def generate(_context, builder, _signature, arguments):
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
        return builder.call(function, arguments)

    return lanes(lanes), generate


@intrinsic
def larger(_typing, a, b):
    """Return the larger of every pair of lanes."""

    def generate(_context, builder, _signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return lanes(lanes, lanes), generate


@intrinsic
def where_not_negative(_typing, condition, value):
    """Return the lanes of `value` where `condition` is 0 or more, and 0 elsewhere."""

    def generate(_context, builder, _signature, arguments):
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">=", arguments[0], zero), arguments[1], zero)

    return lanes(lanes, lanes), generate


def _from_counts(dtype: str) -> Any:
    """Return compiled code that loads lanes of counts from an address, -1 or less where nothing was measured."""
    bits = {"uint8": 8, "uint16": 16, "uint32": 32, "float32": 0}[dtype]

    @intrinsic
    def load_counts(_typing, address, offset):
        def generate(_context, builder, _signature, arguments):
            number = ir.IntType(bits) if bits else ir.FloatType()
            data = builder.inttoptr(arguments[0], number.as_pointer())
            start = builder.gep(data, [arguments[1]])
            kind = ir.VectorType(number, LANES)
            counts = builder.load(builder.bitcast(start, kind.as_pointer()), align=max(bits // 8, 1))
            none = ir.Constant(_VECTOR, [-1.0] * LANES)
            if bits:
                highest = ir.Constant(kind, [2**bits - 1] * LANES)
                known, values = builder.icmp_unsigned("!=", counts, highest), builder.uitofp(counts, _VECTOR)
            else:
                known, values = builder.fcmp_ordered("<", counts, ir.Constant(kind, [float("inf")] * LANES)), counts
            return builder.select(known, values, none)

        return lanes(types.int64, types.intp), generate

    return load_counts


load_uint8, load_uint16, load_uint32, load_float32 = (
    _from_counts(dtype) for dtype in ("uint8", "uint16", "uint32", "float32")
)


def _binary(instruction: str) -> Any:
    @intrinsic
    def calculate(_typing, a, b):
        def generate(_context, builder, _signature, arguments):
            return getattr(builder, instruction)(*arguments, flags=_FUSED)

        return lanes(lanes, lanes), generate

    return calculate


def _define(symbol: Any, instruction: str) -> None:
    calculate = _binary(instruction)

    @overload(symbol, inline="always")
    def operate(a, b):
        if isinstance(a, _LanesType) and isinstance(b, _LanesType):
            return lambda a, b: calculate(a, b)
        return None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_symbol, _instruction)
