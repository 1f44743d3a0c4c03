"""Short Fourier transforms, and a transposition, of rows of lanes: the innermost steps of `compiled_fft`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from streamptycho.ptychography.lanes import LANES, Emitter, intrinsic


class _Complex:
    """Complex lanes while instructions are written."""

    def __init__(self, emit: Emitter, real: Any, imaginary: Any) -> None:
        self.emit, self.real, self.imaginary = emit, real, imaginary

    def __add__(self, other: _Complex) -> _Complex:
        add = self.emit.add
        return _Complex(self.emit, add(self.real, other.real), add(self.imaginary, other.imaginary))

    def __sub__(self, other: _Complex) -> _Complex:
        sub = self.emit.sub
        return _Complex(self.emit, sub(self.real, other.real), sub(self.imaginary, other.imaginary))

    def __mul__(self, other: _Complex) -> _Complex:
        mul, add, sub = self.emit.mul, self.emit.add, self.emit.sub
        return _Complex(
            self.emit,
            sub(mul(self.real, other.real), mul(self.imaginary, other.imaginary)),
            add(mul(self.real, other.imaginary), mul(self.imaginary, other.real)),
        )

    def scaled(self, factor: float) -> _Complex:
        """Return this times a real constant."""
        lanes = self.emit.constant(factor)
        return _Complex(self.emit, self.emit.mul(self.real, lanes), self.emit.mul(self.imaginary, lanes))

    def minus_i_times(self, other: _Complex) -> _Complex:
        """Return self - i x other."""
        emit = self.emit
        return _Complex(emit, emit.add(self.real, other.imaginary), emit.sub(self.imaginary, other.real))

    def plus_i_times(self, other: _Complex) -> _Complex:
        """Return self + i x other."""
        emit = self.emit
        return _Complex(emit, emit.sub(self.real, other.imaginary), emit.add(self.imaginary, other.real))


def _short_transform(x: list[_Complex]) -> list[_Complex]:
    """Return the discrete Fourier transform of 2, 3, 4, 5 or 8 values."""
    if len(x) == 2:
        return [x[0] + x[1], x[0] - x[1]]
    if len(x) == 3:
        both = x[1] + x[2]
        middle, side = x[0] - both.scaled(0.5), (x[1] - x[2]).scaled(np.sqrt(0.75))
        return [x[0] + both, middle.minus_i_times(side), middle.plus_i_times(side)]
    if len(x) == 5:
        (c1, s1), (c2, s2) = ((np.cos(angle), np.sin(angle)) for angle in (0.4 * np.pi, 0.8 * np.pi))
        near, far, near_odd, far_odd = x[1] + x[4], x[2] + x[3], x[1] - x[4], x[2] - x[3]
        first, second = x[0] + near.scaled(c1) + far.scaled(c2), x[0] + near.scaled(c2) + far.scaled(c1)
        first_odd = near_odd.scaled(s1) + far_odd.scaled(s2)
        second_odd = near_odd.scaled(s2) - far_odd.scaled(s1)
        return [
            x[0] + near + far,
            first.minus_i_times(first_odd),
            second.minus_i_times(second_odd),
            second.plus_i_times(second_odd),
            first.plus_i_times(first_odd),
        ]
    half = len(x) // 2
    even, odd = _short_transform(x[0::2]), _short_transform(x[1::2])
    if half == 4:
        odd[1] = odd[1].minus_i_times(odd[1]).scaled(np.sqrt(0.5))
        odd[3] = odd[3].plus_i_times(odd[3]).scaled(-np.sqrt(0.5))
    result = [even[0] + odd[0]] * len(x)
    for k in range(half):
        if k == half // 2:
            result[k], result[k + half] = even[k].minus_i_times(odd[k]), even[k].plus_i_times(odd[k])
        else:
            result[k], result[k + half] = even[k] + odd[k], even[k] - odd[k]
    return result


def butterfly(radix: int, *, turned: bool) -> Any:
    """Return compiled code for one short transform of rows of lanes.

    It reads `radix` rows that are `step` elements apart, real lanes at `first`, imaginary ones `imaginary` on, and
    writes rows likewise. Unless it is not `turned`, results get the phase factors from `turn` on.
    """

    @intrinsic
    def short_transform(_typing, source, first, step, imaginary, target, to_first, to_step, to_imaginary, turns, turn):
        place = types.intp
        signature = types.void(source, place, place, place, target, place, place, place, turns, place)

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder)
            source, target, turns = (emit.data(signature.args[k], arguments[k]) for k in (0, 4, 8))
            _, first, step, imaginary, _, to_first, to_step, to_imaginary, _, turn = arguments

            def row(start, stride, k):
                return builder.add(start, builder.mul(stride, stride.type(k)))

            def turned_by(k):
                real, imaginary = (
                    emit.splat(builder.load(builder.gep(turns, [builder.add(turn, turn.type(2 * k - 2 + part))])))
                    for part in (0, 1)
                )
                return _Complex(emit, real, imaginary)

            values = []
            for k in range(radix):
                place = row(first, step, k)
                values.append(
                    _Complex(emit, emit.load(source, place), emit.load(source, builder.add(place, imaginary)))
                )
            for k, value in enumerate(_short_transform(values)):
                result = value * turned_by(k) if turned and k else value
                place = row(to_first, to_step, k)
                emit.store(result.real, target, place)
                emit.store(result.imaginary, target, builder.add(place, to_imaginary))
            return context.get_dummy_value()

        return signature, generate

    return short_transform


@intrinsic
def transpose(_typing, source, first, pitch, target, to_first, to_pitch):
    """Write `LANES` rows of lanes as columns."""

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder)
        source, target = emit.data(signature.args[0], arguments[0]), emit.data(signature.args[3], arguments[3])
        _, first, pitch, _, to_first, to_pitch = arguments
        rows = [emit.load(source, builder.add(first, builder.mul(pitch, pitch.type(k)))) for k in range(LANES)]
        half = LANES // 2
        while half:
            low = [k + (LANES - half if k & half else 0) for k in range(LANES)]
            high = [k + (LANES if k & half else half) for k in range(LANES)]
            for k in (k for k in range(LANES) if not k & half):
                a, b = rows[k], rows[k + half]
                rows[k], rows[k + half] = emit.shuffle(a, b, low), emit.shuffle(a, b, high)
            half //= 2
        for k, row in enumerate(rows):
            emit.store(row, target, builder.add(to_first, builder.mul(to_pitch, to_pitch.type(k))))
        return context.get_dummy_value()

    place = types.intp
    return types.void(source, place, place, target, place, place), generate
