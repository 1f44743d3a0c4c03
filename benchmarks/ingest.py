"""Detector process, socket, log, decoding, pairing: what arrives as paired batches, against what the socket carries."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

from benchmarks.clock import by_turns, compared, spread
from benchmarks.frames import FULL, Series, eiger_series, large_series, selun_series
from benchmarks.ingest_path import FromPositions, decoding_alone, socket_alone, through_log, without_log
from benchmarks.row import Effort, Row, WrongResult
from benchmarks.sender import Sender, sending
from streamptycho.config import Config, RegionConfig
from streamptycho.detectors.compression import decompress as own_decompress
from streamptycho.messages import Array, DiffractionBatch, Message

BEHIND_S = 0.25


def eiger(effort: Effort) -> Iterator[Row]:
    series = eiger_series(600 if effort.quick else 12_000)
    yield from _rows(series, 128, effort, "ingest 512x1028 u16, 128x128 region", "3 kHz is asked for")


def selun(effort: Effort) -> Iterator[Row]:
    series = selun_series(12_000 if effort.quick else 150_000)
    meaning = "one frame per message, 110 kHz is the published rate"
    yield from _rows(series, None, effort, "ingest 96x96 u8", meaning)


def selun_full(effort: Effort) -> Iterator[Row]:
    series = selun_series(12_000 if effort.quick else 150_000, background=FULL)
    meaning = "one frame per message; 5.3 kB a frame, none of its pixels empty"
    yield from _rows(series, None, effort, "ingest 96x96 u8, full frames", meaning)


def large(effort: Effort) -> Iterator[Row]:
    series = large_series(20 if effort.quick else 60)
    yield from _rows(series, 1024, effort, "ingest 4362x4148 u16, 1024x1024 region", "130 Hz is the fastest EIGER2 16M")


def eiger_paced(effort: Effort) -> Iterator[Row]:
    yield _paced(eiger_series(3000 if effort.quick else 12_000), 128, 3000.0, effort, "512x1028 u16, 128x128 region")


def selun_paced(effort: Effort) -> Iterator[Row]:
    yield _paced(selun_series(110_000 if effort.quick else 330_000), None, 110e3, effort, "96x96 u8")


def selun_full_paced(effort: Effort) -> Iterator[Row]:
    series = selun_series(110_000 if effort.quick else 330_000, background=FULL)
    yield _paced(series, None, 110e3, effort, "96x96 u8, full frames")


def eiger_connections(effort: Effort) -> Iterator[Row]:
    yield _connections(eiger_series(600 if effort.quick else 3000), 128, effort, "ingest 512x1028 u16, 128x128 region")


def selun_connections(effort: Effort) -> Iterator[Row]:
    yield _connections(selun_series(12_000 if effort.quick else 60_000), None, effort, "ingest 96x96 u8")


def _connections(series: Series, side: int | None, effort: Effort, name: str) -> Row:
    """Measure the whole way over two connections beside the same over one."""
    frames, plan, messages = len(series.images), plan_of(series), len(series.images) + 2
    processor_s: dict[int, list[float]] = {1: [], 2: []}
    with _sender_of(series) as (one, folder), _sender_of(series, 2) as (two, _):

        def run(sender: Sender, connections: int) -> float:
            config = configured(series, side, connections)
            (folder / "run.log").unlink(missing_ok=True)
            sender.send_all()
            began_s = time.process_time()
            _check(through_log(sender, config, plan, messages, folder / "run.log"), frames, name)
            processor_s[connections].append((time.process_time() - began_s) / frames)
            return float(frames)

        samples = by_turns({"two": lambda: run(two, 2), "one": lambda: run(one, 1)}, effort)
    two_us, one_us = (1e6 * min(processor_s[connections]) for connections in (2, 1))
    meaning = (
        f"{two_us:.1f} us of processor a frame over two connections, {one_us:.1f} us over one; order restored, "
        "0 lost; sender and receivers share the cores"
    )
    facts = {"lost": 0.0, "processor_us_two": two_us, "processor_us_one": one_us}
    reference = ("one connection", samples["one"])
    return compared(f"{name}, 2 connections", "frames/s", samples["two"], reference, meaning, facts)


def _rows(series: Series, side: int | None, effort: Effort, name: str, meaning: str) -> Iterator[Row]:
    config, plan = configured(series, side), plan_of(series)
    frames, messages = len(series.images), len(series.images) + 2
    processor_s: list[float] = []
    with _sender_of(series) as (sender, folder):

        def alone() -> float:
            sender.send_all()
            socket_alone(sender, messages)
            return float(frames)

        def decoded() -> float:
            sender.send_all()
            decoding_alone(sender, config, messages)
            return float(frames)

        def written() -> float:
            sender.send_all()
            (folder / "plain").unlink(missing_ok=True)
            with (folder / "plain").open("wb", buffering=0) as file:
                socket_alone(sender, messages, file)
                os.fsync(file.fileno())
            return float(frames)

        def plain() -> float:
            sender.send_all()
            for _ in range(messages):
                _decode_plainly(sender.receive()[0], series.counts.shape[1:], side or min(series.counts.shape[1:]))
            return float(frames)

        def ours() -> float:
            (folder / "run.log").unlink(missing_ok=True)
            sender.send_all()
            began_s = time.process_time()
            _check(through_log(sender, config, plan, messages, folder / "run.log"), frames, name)
            processor_s.append(time.process_time() - began_s)
            return float(frames)

        def unlogged() -> float:
            sender.send_all()
            _check(without_log(sender, config, plan, messages), frames, name)
            return float(frames)

        tasks = {
            "ours": ours,
            "unlogged": unlogged,
            "alone": alone,
            "decoded": decoded,
            "written": written,
            "plain": plain,
        }
        samples = by_turns(tasks, effort)
    frame_us = 1e6 * statistics.median(processor_s[1:]) / frames
    facts = {"lost": 0.0, "processor_us_per_frame": frame_us, "message_bytes": series.image_bytes}
    lost = f"0 of {len(samples['ours'].rates) * frames} frames lost or twice; {frame_us:.1f} us of processor a frame"
    whole = f"{lost}, {1e6 / frame_us:,.0f} frames/s a core; log, sender and receiver share the cores; {meaning}"
    socket = ("socket alone: receive many, drop", samples["alone"])
    yield compared(name, "frames/s", samples["ours"], socket, whole, facts)
    disk = ("socket and a plain file, forced to the disk", samples["written"])
    yield compared(name, "frames/s", samples["ours"], disk, "theirs has no checksum, no decoding, no pairing", facts)
    peer = ("recv, cbor2, full decode, crop", samples["plain"])
    yield compared(name, "frames/s", samples["ours"], peer, "theirs is not recorded, not paired, not checked", facts)
    meaning = "what recording costs: socket, decoding and pairing in one thread, nothing is kept"
    bare = ("receive and decode alone", samples["decoded"])
    yield compared(f"{name}, without log", "frames/s", samples["unlogged"], bare, meaning)


def _paced(series: Series, side: int | None, rate_hz: float, effort: Effort, what: str) -> Row:
    """Measure what it takes to hold the rate of a detector."""
    config, plan = configured(series, side), plan_of(series)
    frames, messages = len(series.images), len(series.images) + 2
    name = f"ingest {what}, paced at {rate_hz / 1e3:.0f} kHz"
    beam_s = frames / rate_hz
    cores: dict[str, list[float]] = {"socket": [], "decoding": [], "unlogged": [], "ours": []}
    behind_s: list[float] = []
    with _sender_of(series) as (sender, folder):
        for _ in range(4 if effort.quick else 6):
            for way, costs in cores.items():
                (folder / "run.log").unlink(missing_ok=True)
                sender.send_all(rate_hz)
                began_s, processor_s = time.perf_counter(), time.process_time()
                if way == "ours":
                    _check(through_log(sender, config, plan, messages, folder / "run.log"), frames, name)
                    behind_s.append(time.perf_counter() - began_s - beam_s)
                elif way == "unlogged":
                    _check(without_log(sender, config, plan, messages), frames, name)
                elif way == "decoding":
                    decoding_alone(sender, config, messages)
                else:
                    socket_alone(sender, messages)
                costs.append((time.process_time() - processor_s) / beam_s)
    ours, floor = cores["ours"][1:], cores["decoding"][1:]
    socket, unlogged = (statistics.median(cores[way][1:]) for way in ("socket", "unlogged"))
    behind_s = behind_s[1:]
    held = sum(late_s < BEHIND_S for late_s in behind_s)
    text = f"held in {held} of {len(behind_s)} runs of {beam_s:.1f} s, last frame paired {min(behind_s):.2f} s late"
    return Row(
        name=name,
        figure=statistics.median(ours),
        unit="cores",
        better="less",
        spread=spread(ours),
        rounds=len(ours),
        reference="receive and decode alone at this rate",
        reference_figure=statistics.median(floor),
        ratio=statistics.median(a / b for a, b in zip(ours, floor, strict=True)),
        meaning=f"processor seconds per second of beam, recording and pairing ({unlogged:.2f} if not recorded, "
        f"{socket:.2f} for the socket alone); "
        f"{text}; 0 lost",
        details={
            "lost": 0.0,
            "held_runs": float(held),
            "best_figure": min(ours),
            "unlogged": unlogged,
            "behind_s": min(behind_s),
        },
    )


@contextmanager
def _sender_of(series: Series, connections: int = 1) -> Iterator[tuple[Sender, Path]]:
    messages = [series.start, *series.images, series.end]
    with tempfile.TemporaryDirectory() as folder, sending(messages, Path(folder), connections) as sender:
        yield sender, Path(folder)


def plan_of(series: Series) -> list[FromPositions]:
    """Return the positions of a series, which come behind their frames."""
    start = [FromPositions(0, "connected"), FromPositions(0, "data", series.rows_header)]
    pieces = zip(series.frames_before, series.rows, strict=True)
    return start + [FromPositions(frames, "data", rows) for frames, rows in pieces]


def _check(outputs: Iterable[Message], frames: int, name: str) -> None:
    paired = [out.index for out in outputs if isinstance(out, DiffractionBatch)]
    index = np.sort(np.concatenate([np.zeros(0, np.int64), *paired]))
    if not np.array_equal(index, np.arange(frames)):
        raise WrongResult(f"{name}: {len(index)} frames came out, {len(np.unique(index))} of {frames} different ones")


def _decode_plainly(image: bytes, shape: tuple[int, ...], side: int) -> Array | None:
    message = cbor2.loads(image)
    if hasattr(message, "value"):
        message = message.value
    if message["type"] != "image":
        return None
    algorithm, size, payload = next(iter(message["data"].values())).value[1].value.value
    frame = _decompressor()(payload, algorithm, size, shape)
    top, left = shape[0] // 2 - side // 2, shape[1] // 2 - side // 2
    return frame[top : top + side, left : left + side].copy()


def _decompressor() -> Callable[[Any, Any, int, tuple[int, ...]], Array]:
    try:
        from dectris.compression import decompress
    except ImportError:
        return lambda data, name, size, shape: own_decompress(data, name, np.dtype(f"u{size}"), (shape[0], shape[1]))
    return lambda data, name, size, shape: np.frombuffer(decompress(data, name, elem_size=size), f"u{size}").reshape(
        shape
    )


def configured(series: Series, side: int | None, connections: int = 1) -> Config:
    """Return the beamline of a series, of which a square is read and every frame has a row of its own."""
    region = RegionConfig(size_px=side, center_px="middle")
    detector = series.config.detector.model_copy(update={"region": region, "receivers": connections})
    pairing = series.config.pairing.model_copy(update={"by": "row"})
    return series.config.model_copy(update={"detector": detector, "pairing": pairing})
