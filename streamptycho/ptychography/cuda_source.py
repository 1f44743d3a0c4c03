"""How the kernels for frame visits are compiled for one size of probe.

What one visit costs at least, for 4 modes of 128 x 128, positions between pixels (16 transforms): 21 Mflop, which an
H100 (67 Tflop/s) does 3.2 million times a second; 16 MiB through shared memory (two passes along each axis, each reads
and writes the field once; 132 processors, 128 bytes a clock: 1.9 million a second); 4.5 MiB through the second-level
cache and memory (modes that wait for the modulus 1 MiB, shifted probe 1 MiB, its spectrum and its change 1 MiB, object
patch and its change 1.2 MiB, counts 32 KiB): about 0.8 million a second. 2 modes of 64 x 64 are a tenth of the
arithmetic and an eighth of the traffic. Modes that stayed on the chip would save memory traffic and cost processors, of
which each holds one field of 128 x 128 at a time. So: a thread block for each frame, the field that is transformed in
shared memory, what waits in the second-level cache, and nothing but counts and the object necessarily beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from streamptycho.ptychography.visits import UpdateRule

_FILES = ("fourier.cuh", "frame_visit.cu")
_RADICES = (16, 8, 5, 4, 3, 2)
_LEAST_N = 16
_LARGEST_N = 1024
_REGISTERS = 65_536
_REGISTERS_PER_THREAD = 64
_RESERVED_PER_BLOCK = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPlan:
    """How blocks of threads visit frames.

    Attributes
    ----------
    n
        Probe pixels along an edge.
    modes
        Of the probe.
    radices
        Of the passes of a transform.
    threads
        Of a block.
    field_in_shared
        Whether a field lies in shared memory, or in device memory, where it is too large.
    shared_bytes
        Shared memory of a block.
    blocks_per_processor
        That fit on one multiprocessor at the same time.
    """

    n: int
    modes: int
    radices: tuple[int, ...]
    threads: int
    field_in_shared: bool
    shared_bytes: int
    blocks_per_processor: int


def kernel_plan(n: int, modes: int, shared_per_block: int, shared_per_processor: int) -> KernelPlan | None:
    """Return the plan for a device with so many bytes of shared memory, None for sizes that the kernels do not take."""
    radices = _factors(n) if _LEAST_N <= n <= _LARGEST_N else None
    if radices is None:
        return None
    threads = 128 if n <= 32 else 256 if n <= 64 else 512
    always, field = 24 * n + 4 * threads, 8 * n * (n + 1) + 4 * n * n
    inside = always + field <= shared_per_block
    shared_bytes = always + field * inside
    blocks = min(
        shared_per_processor // (shared_bytes + _RESERVED_PER_BLOCK), _REGISTERS // (threads * _REGISTERS_PER_THREAD)
    )
    return KernelPlan(
        n=n,
        modes=modes,
        radices=radices,
        threads=threads,
        field_in_shared=inside,
        shared_bytes=shared_bytes,
        blocks_per_processor=max(1, blocks),
    )


def kernel_source(plan: KernelPlan, rule: UpdateRule) -> str:
    """Return the CUDA C++ (17) source of the kernels."""
    given = {
        "N": plan.n,
        "MODES": plan.modes,
        "RADICES": ", ".join(str(radix) for radix in plan.radices),
        "THREADS": plan.threads,
        "FIELD_IN_SHARED": int(plan.field_in_shared),
        "BLOCKS_PER_PROCESSOR": plan.blocks_per_processor,
        "UPSAMPLING": rule.upsampling,
        "FIND_SHIFTS": int(rule.find_shifts),
    }
    folder = files("streamptycho.ptychography") / "cuda"
    parts = [f"#define {name} {value}\n" for name, value in given.items()]
    return "".join(parts + [(folder / name).read_text(encoding="utf-8") for name in _FILES])


def _factors(n: int) -> tuple[int, ...] | None:
    """Return the fewest radices of a length, large ones first."""
    if n == 1:
        return ()
    found = [(radix, *rest) for radix in _RADICES if n % radix == 0 and (rest := _factors(n // radix)) is not None]
    ordered = [tuple(sorted(radices, reverse=True)) for radices in found]
    return min(ordered, key=lambda radices: (len(radices), max(radices)), default=None)
