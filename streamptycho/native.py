"""What compiled loops need and Numba has no words for: memory at an address, and C functions by their address.

Whoever calls these answers for the ranges: nothing here is checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Codegen = tuple[Any, Any]

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def _load_u64(context: Any, address: Any) -> Codegen:
    """Return the 8 bytes at an address (int64) as uint64, aligned or not."""

    def generate(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], _I64.as_pointer()), align=1)

    return types.uint64(types.int64), generate


def _store_u64(context: Any, address: Any, word: Any) -> Codegen:
    """Write 8 bytes at an address (int64), aligned or not."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[1], builder.inttoptr(values[0], _I64.as_pointer()), align=1)
        return target.get_dummy_value()

    return types.void(types.int64, types.uint64), generate


def _load_u8(context: Any, address: Any) -> Codegen:
    """Return the byte at an address (int64) as uint8."""

    def generate(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], _I8.as_pointer()), align=1)

    return types.uint8(types.int64), generate


def _load_u16(context: Any, address: Any) -> Codegen:
    """Return the 2 bytes at an address (int64) as uint16, little-endian, aligned or not."""

    def generate(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(builder.inttoptr(values[0], ir.IntType(16).as_pointer()), align=1)

    return types.uint16(types.int64), generate


def _store_u8(context: Any, address: Any, byte: Any) -> Codegen:
    """Write one byte at an address (int64)."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[1], builder.inttoptr(values[0], _I8.as_pointer()), align=1)
        return target.get_dummy_value()

    return types.void(types.int64, types.uint8), generate


def _copy_bytes(context: Any, to: Any, source: Any, count: Any) -> Codegen:
    """Copy `count` bytes between addresses (int64) whose ranges do not overlap."""

    def generate(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _I8.as_pointer()
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _I64])
        where = [builder.inttoptr(value, pointer) for value in values[:2]]
        builder.call(memcpy, [*where, values[2], ir.Constant(ir.IntType(1), 0)])
        return target.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _call_int(context: Any, function: Any, first: Any, second: Any, third: Any) -> Codegen:
    """Call `int function(...)` with three int64 or pointers; C functions of fewer arguments ignore the rest."""

    def generate(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_I32, [_I64, _I64, _I64]).as_pointer()
        return builder.call(builder.inttoptr(values[0], kind), values[1:])

    return types.int32(types.int64, types.int64, types.int64, types.int64), generate


def _call_long(context: Any, function: Any, first: Any) -> Codegen:
    """Call `size_t function(first)` or one that returns a pointer, as int64."""

    def generate(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_I64, [_I64]).as_pointer()
        return builder.call(builder.inttoptr(values[0], kind), values[1:])

    return types.int64(types.int64, types.int64), generate


load_u64: Any = intrinsic(_load_u64)
store_u64: Any = intrinsic(_store_u64)
load_u8: Any = intrinsic(_load_u8)
load_u16: Any = intrinsic(_load_u16)
store_u8: Any = intrinsic(_store_u8)
copy_bytes: Any = intrinsic(_copy_bytes)
call_int: Any = intrinsic(_call_int)
call_long: Any = intrinsic(_call_long)
