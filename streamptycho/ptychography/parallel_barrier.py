"""A barrier for threads that run compiled code: none goes on before all have come."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from llvmlite import ir
from numba import njit
from numba.core import types

from streamptycho.ptychography.lanes import intrinsic

BARRIER_WORDS = 24
_ARRIVED, _ROUND, _BROKEN = 0, 8, 16
_SPINS_BEFORE_YIELD = 2_000

_yield_processor = types.ExternalFunction("sched_yield", types.int32())


def _address(context, builder, kind, array, index):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def _add(_typing, words, index, value):
    """Add to a word that other threads use too; return what it was."""

    def generate(context, builder, signature, arguments):
        where = _address(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("add", where, arguments[2], "seq_cst")

    return types.int64(words, types.intp, types.int64), generate


@intrinsic
def _read(_typing, words, index):
    """Return a word that other threads write."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_address(context, builder, signature.args[0], *arguments), "seq_cst", align=8)

    return types.int64(words, types.intp), generate


@intrinsic
def _write(_typing, words, index, value):
    """Write a word that other threads read."""

    def generate(context, builder, signature, arguments):
        where = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store_atomic(arguments[2], where, "seq_cst", align=8)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(words, types.intp, types.int64), generate


@njit(nogil=True)
def wait_for_all(words, threads):
    """Return True when `threads` threads have called this, False when the barrier was broken.

    `words` is (BARRIER_WORDS,) int64, 0 at first. Waiting costs no sleep while the others are about to come, and gives
    the processor away when they are not.
    """
    if threads == 1:
        return True
    turn = _read(words, _ROUND)
    if _add(words, _ARRIVED, 1) == threads - 1:
        _write(words, _ARRIVED, 0)
        _add(words, _ROUND, 1)
        return _read(words, _BROKEN) == 0
    spins = 0
    while _read(words, _ROUND) == turn:
        if _read(words, _BROKEN) != 0:
            return False
        spins += 1
        if spins > _SPINS_BEFORE_YIELD:
            _yield_processor()
    return _read(words, _BROKEN) == 0


@njit("void(int64[::1])", cache=True, nogil=True)
def break_barrier(words):
    """Let all who wait go, and nobody wait from now on."""
    _write(words, _BROKEN, 1)
