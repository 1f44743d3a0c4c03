"""Realistic input: simulated photon counts of the shipped beamlines, as arrays and as the bytes of the detector."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

from streamptycho.config import Config, load
from streamptycho.detectors import encoder
from streamptycho.detectors.encode_stream2 import CLOCK_HZ
from streamptycho.messages import Array
from streamptycho.simulation import Instrument
from streamptycho.simulation.capture import Capture

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DISTINCT_FRAMES = 16
EPOCH_S = 1_700_000_000.0
POSITIONS_EVERY_S = 0.1
FULL = 8.0
_MARK = 0x0123456789ABCDEF


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series as a detector sends it: `images` are messages of which each is a tuple of parts.

    `counts` (K, H, W) are the distinct frames, which repeat; `rows` the bytes of the PandABox, after `rows_header`: as
    a real one does, it sends ten times a second what it captured, piece k when `frames_before[k]` frames were taken.
    """

    config: Config
    counts: Array
    start: tuple[bytes, ...]
    images: list[tuple[bytes, ...]]
    end: tuple[bytes, ...]
    rows_header: bytes
    rows: list[bytes]
    frames_before: list[int]

    @property
    def image_bytes(self) -> float:
        """Mean size of a message."""
        return float(np.mean([sum(map(len, parts)) for parts in self.images]))


def eiger_series(n_frames: int, *, protocol: str = "dectris_stream2") -> Series:
    """Return a series of an EIGER2 500K, 512 x 1028 pixels of 16 bit, at the exposure published for 3 kHz.

    Scattered background of 0.1 counts a pixel and dead pixels are added: 10 % of the pixels count something, and
    frames compress to about 87 kB as measured ones do.
    """
    config, counts = _eiger_counts()
    detector = config.detector.model_copy(update={"protocol": protocol})
    return _series(config.model_copy(update={"detector": detector}), counts, n_frames, 2874)


def selun_series(n_frames: int, *, background: float = 0.01) -> Series:
    """Return a series of 96 x 96 pixels of 8 bit at the exposure published for 110 kHz, with scattered counts a pixel.

    Almost all pixels are empty and a frame takes 1 kB. With a background of `FULL` hardly any is, and it takes 5.3 kB.
    """
    config, counts = _selun_counts(background)
    return _series(config, counts, n_frames, 110e3)


def large_series(n_frames: int) -> Series:
    """Return a series of an EIGER2 16M, 4362 x 4148 pixels of 16 bit: the scattering of the 500K, side by side."""
    config, counts = _eiger_counts()
    rows, columns = 4362, 4148
    down, across = -(-rows // counts.shape[1]), -(-columns // counts.shape[2])
    wide = np.tile(counts[:2], (1, down, across))[:, :rows, :columns]
    return _series(config, np.ascontiguousarray(wide), n_frames, 130)


@functools.cache
def _eiger_counts() -> tuple[Config, Array]:
    config = load(CONFIGS / "i13-1_eiger_3khz.yaml")
    assert config.simulation is not None
    simulation = config.simulation.model_copy(update={"detector_shape": (512, 1028), "dead_pixels": 5e-4})
    return _counts(config.model_copy(update={"simulation": simulation}), background=0.1)


@functools.cache
def _selun_counts(background: float) -> tuple[Config, Array]:
    return _counts(load(CONFIGS / "i13-1_selun_110khz.yaml"), background)


def _counts(config: Config, background: float) -> tuple[Config, Array]:
    blocks: list[Array] = []
    for block in Instrument(config).frames(0):
        blocks.append(block)
        if sum(map(len, blocks)) >= DISTINCT_FRAMES:
            break
    counts = np.concatenate(blocks)[:DISTINCT_FRAMES]
    top = np.iinfo(counts.dtype).max
    scattered = np.random.default_rng(1).poisson(background, counts.shape)
    return config, np.where(counts == top, top, np.minimum(counts + scattered, top - 1)).astype(counts.dtype)


def _series(config: Config, counts: Array, n_frames: int, published_hz: float) -> Series:
    simulation = config.simulation
    assert simulation is not None
    period_s = 1 / simulation.rate_hz
    exposure_s = simulation.exposure_fraction * period_s
    top = np.iinfo(counts.dtype).max
    messages = encoder(
        config.detector.protocol,
        shape=counts.shape[1:],
        dtype=counts.dtype.name,
        energy_ev=simulation.energy_ev,
        distance_m=simulation.distance_m,
        detector_pixel_m=simulation.detector_pixel_m,
        mask=(counts == top).all(axis=0),
        exposure_s=exposure_s,
        period_s=period_s,
    )
    start = messages.start(series=1, n_frames=n_frames, epoch_s=EPOCH_S, labels={"scan_id": "benchmark"})
    images = _images(messages, config.detector.protocol, counts, n_frames, period_s, exposure_s)
    capture = Capture(config.positions)
    begin_s = period_s * np.arange(n_frames)
    xy_m = scan_xy_m(n_frames)
    size = round(POSITIONS_EVERY_S * published_hz)
    pieces = [slice(first, min(first + size, n_frames)) for first in range(0, n_frames, size)]
    gate_s = np.full(n_frames, exposure_s)
    return Series(
        config=config,
        counts=counts,
        start=tuple(start[0]),
        images=images,
        end=tuple(messages.end(series=1)[0]),
        rows_header=capture.encoder.header(arm_epoch_s=EPOCH_S),
        rows=[capture.rows(begin_s[p] + exposure_s / 2, xy_m[p], 0.0, gate_s[p]) for p in pieces],
        frames_before=[piece.stop for piece in pieces],
    )


def _images(
    messages: Any, protocol: str, counts: Array, n_frames: int, period_s: float, exposure_s: float
) -> list[tuple[bytes, ...]]:
    """Return the messages of all frames, frame k with counts k modulo the number of distinct ones."""

    def message(k: int, number: int, start_s: float, stop_s: float) -> tuple[bytes, ...]:
        (parts,) = messages.image(series=1, index=number, counts=counts[k], start_s=start_s, stop_s=stop_s)
        return tuple(parts)

    times_s = [(k * period_s, k * period_s + exposure_s) for k in range(n_frames)]
    if protocol != "dectris_stream2":
        return [message(k % len(counts), k, *times) for k, times in enumerate(times_s)]
    # Compressing the same counts again and again would take most of the time: only the numbers are encoded anew.
    marks = [_MARK, round(2e9 * CLOCK_HZ) - round(1e9 * CLOCK_HZ), round(1e9 * CLOCK_HZ), round(2e9 * CLOCK_HZ)]
    pieces = [_split(message(k, _MARK, 1e9, 2e9)[0], marks) for k in range(min(len(counts), n_frames))]
    made = []
    for k, (start_s, stop_s) in enumerate(times_s):
        start, stop = round(start_s * CLOCK_HZ), round(stop_s * CLOCK_HZ)
        first, *rest = pieces[k % len(pieces)]
        numbers = map(cbor2.dumps, (k, stop - start, start, stop))
        made.append((b"".join([first, *(part for pair in zip(numbers, rest, strict=True) for part in pair)]),))
    last = n_frames - 1
    if made[last] != message(last % len(counts), last, *times_s[last]):
        raise AssertionError("a message that was put together differs from an encoded one")
    return made


def _split(message: bytes, marks: list[int]) -> list[bytes]:
    pieces, rest = [], message
    for mark in marks:
        piece, found, rest = rest.partition(cbor2.dumps(mark))
        assert found, "the numbers of an image message are not where they were"
        pieces.append(piece)
    return [*pieces, rest]


def scan_xy_m(n_frames: int, step_m: float = 0.3e-6, line: int = 50) -> Array:
    """Return positions of a snake scan with a jitter of a tenth of its step, (N, 2)."""
    k = np.arange(n_frames)
    along = np.where((k // line) % 2 == 0, k % line, line - 1 - k % line)
    jitter = np.random.default_rng(2).normal(0, 0.1, (n_frames, 2))
    return np.asarray((np.stack([along, k // line], axis=1) + jitter) * step_m)
