"""Millions of hostile messages: `python -m benchmarks.hostile --messages 1000000`, or a few as a measurement.

Each protocol is tried in a process of its own, so that a crash of it is a figure and not the end. A message must be
decoded, or counted with a reason, or belong to something that is; after every few hundred a good series must decode
exactly.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import hostile_bytes as bytes_of
from benchmarks.row import Effort, NotMeasurable, Row, WrongResult
from streamptycho import detectors, positions
from streamptycho.config import Config, DetectorConfig, PositionsConfig, RegionConfig
from streamptycho.messages import (
    Anomaly,
    FrameBlock,
    Message,
    PositionBlock,
    ProjectionEnd,
    RawRecord,
    RecordKind,
    RecordSource,
    ServiceStatus,
)
from streamptycho.positions import ColumnMissingError
from streamptycho.stages.ingest import IngestStage

PROTOCOLS = ("dectris_stream2", "dectris_stream1", "open", "pandabox", "panda_json", "dectris_stream2-blocks", "ingest")
BLOCK_MESSAGES = 48
BETWEEN_GOOD = 200
QUICK_MESSAGES, MESSAGES = 2_000, 50_000
SLOW = {"dectris_stream2-blocks": 10_000, "ingest": 10_000}
WARM_UP = 2_000
LARGEST_GROWTH_MB = 200.0
# What is kept on purpose is bounded, and may fill up in the second half: series that wait, late ones, names.
KEPT_OBJECTS = 10_000
KEPT_OBJECTS_PER_MESSAGE = 0.1
SEED = 1


@dataclass(slots=True)
class Outcome:
    """What became of the messages of one protocol."""

    protocol: str
    messages: int = 0
    errors: list[str] = field(default_factory=list)
    without_answer: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    decoded: int = 0
    good_series: int = 0
    good_lost: int = 0
    seconds: float = 0.0
    good_seconds: float = 0.0
    slowest_s: float = 0.0
    start_mb: float = 0.0
    peak_mb: float = 0.0
    objects_kept: int = 0


class Detector:
    """Feeds a frame decoder; a message without an answer may be answered together with the next.

    Parts of Stream V1 that come alone are parts of a message, and need no answer of their own.
    """

    def __init__(self, protocol: str) -> None:
        region = RegionConfig(size_px=24, center_px="middle")
        config = DetectorConfig(
            protocol=protocol, region=region, energy_ev=6200, distance_m=2, pixel_m=75e-6, max_frame_pixels=20_000_000
        )
        self._protocol, self._config = protocol, config
        self._decoder = detectors.decoder(config)
        self._heard: list[Message] = []

    def feed(self, parts: list[bytes]) -> list[Message]:
        return list(self._decoder.feed(parts, 1))

    def good(self, number: int) -> bool:
        heard = [m for parts in bytes_of.good_series(self._protocol, number) for m in self._decoder.feed(parts, 1)]
        heard += self._decoder.flush()
        frames = {
            int(k): counts
            for m in heard
            if isinstance(m, FrameBlock)
            for k, counts in zip(m.index, m.counts, strict=True)
        }
        wanted = bytes_of.COUNTS[:, :, 4:28]
        last = range(bytes_of.GOOD_FRAMES)
        return all(k in frames and np.array_equal(frames[k], wanted[k]) for k in last)


class Blocks(Detector):
    """Feeds a decoder many messages at once, hostile ones between good ones.

    What it says must be what the decoder says that gets them one by one.
    """

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self._whole = detectors.decoder(self._config)
        if not isinstance(self._whole, detectors.BlockDecoder):
            raise NotMeasurable(f"{protocol} takes no blocks")
        self._pending: list[bytes] = []
        self._good = [parts[0] for parts in bytes_of.good_series(protocol, 0)]

    def feed(self, parts: list[bytes]) -> list[Message]:
        good = self._good[len(self._pending) % len(self._good)]
        self._pending += [*parts, good]
        heard = [*super().feed(parts), *super().feed([good])]
        self._heard += heard
        if len(self._pending) >= BLOCK_MESSAGES:
            self._compare()
        return heard

    def good(self, number: int) -> bool:
        self._compare()
        return True

    def _compare(self) -> None:
        ends = np.cumsum([len(message) for message in self._pending])
        spans = np.column_stack([np.concatenate([[0], ends[:-1]]), ends]).astype(np.int64)
        data = np.frombuffer(b"".join(self._pending), np.uint8)
        at_once = list(self._whole.feed_block(data, spans, np.ones(len(spans), np.int64)))
        one_by_one, self._heard, self._pending = self._heard, [], []
        if _frames(at_once) != _frames(one_by_one) or _losses(at_once) != _losses(one_by_one):
            raise AssertionError(f"in a block: {_losses(at_once)}, one by one: {_losses(one_by_one)}")


class Ingest:
    """Feeds a whole ingest with hostile messages of both instruments. Its books must balance."""

    def __init__(self) -> None:
        tree = {
            "detector": {"region": {"size_px": 24}, "energy_ev": 6200, "distance_m": 2, "pixel_m": 75e-6},
            "positions": {"time": None},
            "pairing": {"match": "order", "positions_timeout_s": 0.5},
        }
        tree["pairing"] |= {"max_waiting_frames": 5_000, "max_waiting_rows": 200_000}
        self._stage = IngestStage(Config.model_validate(tree))
        self._positions = [make for _, make in bytes_of.makers("pandabox")]
        self._rng = np.random.default_rng(5)
        self._records = 0

    def feed(self, parts: list[bytes]) -> list[Message]:
        heard = self._take("detector", "data", parts)
        make = self._positions[int(self._rng.integers(0, len(self._positions)))]
        heard += self._take("positions", "connected", [])
        try:
            heard += self._take("positions", "data", [b"OK\n", *make(self._rng)])
        except ColumnMissingError as error:
            heard.append(Anomaly(source="positions", reason="column missing", detail=str(error)))  # type: ignore[arg-type]
        for message in heard:
            if isinstance(message, ProjectionEnd):
                lost = sum(message.dropped.values())
                if message.frames_sent != message.frames_paired + lost:
                    raise AssertionError(f"{message.frames_sent} frames, {message.frames_paired} paired, {lost} lost")
        return heard or [ServiceStatus(service="ingest", state="running")]

    def good(self, number: int) -> bool:
        """Send a good series and a good acquisition; frames of it must come through the decoder."""
        before = self._stage.status(0).counters.get("frames_received", 0)
        for parts in bytes_of.good_series("dectris_stream2", number):
            self._take("detector", "data", parts)
        self._take("positions", "connected", [])
        self._take("positions", "data", [b"OK\n" + b"".join(bytes_of.good_acquisition(2 * number))])
        return self._stage.status(0).counters["frames_received"] >= before + bytes_of.GOOD_FRAMES

    def _take(self, source: RecordSource, kind: RecordKind, parts: list[bytes]) -> list[Message]:
        self._records += 1
        now_ns = 10**18 + self._records * 2_000_000
        record = RawRecord(source=source, kind=kind, sequence=self._records, received_ns=now_ns, parts=tuple(parts))
        return list(self._stage.handle(record, now_ns))


def _frames(messages: Iterable[Message]) -> list[tuple[str, int, bytes]]:
    return [
        (m.series, int(k), counts.tobytes())
        for m in messages
        if isinstance(m, FrameBlock)
        for k, counts in zip(m.index, m.counts, strict=True)
    ]


def _losses(messages: Iterable[Message]) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for m in messages:
        if isinstance(m, Anomaly):
            total[str(m.reason), m.unit] += m.count
    return total


class Positions:
    """Feeds a position decoder. What hurts TCP is a connection of its own, as it may spoil what follows it."""

    def __init__(self, protocol: str) -> None:
        configs = [PositionsConfig(protocol=protocol, time=None, scaled=scaled) for scaled in (True, False)]
        self._decoders = [positions.decoder(config) for config in configs]
        self._greeting = b"OK\n" if self._decoders[0].transport == "tcp" else b""
        self._turn = 0

    def feed(self, parts: list[bytes]) -> list[Message]:
        self._turn += 1
        decoder = self._decoders[self._turn % 2 if self._greeting else 0]
        decoder.connected()
        heard: list[Message] = []
        try:
            for part in parts:
                heard += decoder.feed(self._greeting + part, 1)
        except ColumnMissingError as error:
            heard.append(Anomaly(source="positions", reason="column missing", detail=str(error)))  # type: ignore[arg-type]
        if self._greeting:
            heard += [*decoder.disconnected(), *decoder.flush()]
        return heard

    def good(self, number: int) -> bool:
        decoder = self._decoders[number % 2 if self._greeting else 0]
        decoder.connected()
        made = bytes_of.good_acquisition(number) if self._greeting else bytes_of.good_json(number)
        pieces = [self._greeting + b"".join(made)] if self._greeting else made
        heard = [m for piece in pieces for m in decoder.feed(piece, 1)]
        rows = [m.row for m in heard if isinstance(m, PositionBlock)]
        return bool(rows) and np.concatenate(rows).tolist() == list(range(bytes_of.GOOD_ROWS))


def attack(protocol: str, messages: int, seed: int) -> Outcome:
    """Feed so many hostile messages, and good series in between."""
    rng = np.random.default_rng([seed, PROTOCOLS.index(protocol)])
    name, _, how = protocol.partition("-")
    target: Positions | Detector | Ingest
    if name == "ingest":
        target, name = Ingest(), "dectris_stream2"
    elif name.startswith("panda"):
        target = Positions(name)
    else:
        target = Blocks(name) if how else Detector(name)
    shares, kinds = zip(*bytes_of.makers(name), strict=True)
    choice = np.cumsum(np.array(shares) / sum(shares))
    outcome = Outcome(protocol)
    silent, may_come_apart = False, protocol == "dectris_stream1"
    reasons: Counter[str] = Counter()
    for number in range(messages):
        parts = kinds[min(int(np.searchsorted(choice, rng.random())), len(kinds) - 1)](rng)
        began = time.perf_counter()
        try:
            heard = target.feed(parts)
        except Exception as error:  # noqa: BLE001 - any error is what this looks for
            heard = []
            if len(outcome.errors) < 20:
                outcome.errors.append(f"{type(error).__name__}: {error}: {[part[:200].hex() for part in parts]}"[:2000])
        took_s = time.perf_counter() - began
        outcome.seconds += took_s
        outcome.slowest_s = max(outcome.slowest_s, took_s)
        outcome.messages += 1
        reasons.update(str(m.reason) for m in heard if isinstance(m, Anomaly))
        outcome.decoded += any(not isinstance(m, Anomaly) for m in heard)
        if heard or len(parts) > 1 or not may_come_apart:
            outcome.without_answer += silent and not heard
            silent = not heard
        if (number + 1) % BETWEEN_GOOD == 0:
            began = time.perf_counter()
            outcome.good_series += 1
            outcome.good_lost += not target.good(outcome.good_series)
            outcome.good_seconds += time.perf_counter() - began
            silent = False
        if number == min(WARM_UP, messages // 2):
            outcome.start_mb = _peak_mb()
        if number == messages // 2:
            outcome.objects_kept = -_live_objects()
    outcome.objects_kept += _live_objects()
    outcome.peak_mb, outcome.reasons = _peak_mb(), dict(reasons.most_common())
    return outcome


def in_own_process(protocol: str, messages: int, seed: int = SEED) -> Outcome:
    """Attack in another process.

    Raises
    ------
    WrongResult
        If that process dies.
    """
    command = [sys.executable, "-m", "benchmarks.hostile", "--inside", protocol]
    command += ["--messages", str(messages), "--seed", str(seed)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongResult(f"{protocol}: the process ended with {done.returncode}: {done.stderr[-500:]}")
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def faults_of(outcome: Outcome) -> list[str]:
    """Return what is wrong, in words."""
    grown_mb = outcome.peak_mb - outcome.start_mb
    found = [f"{len(outcome.errors)} or more errors, the first: {outcome.errors[0]}"] if outcome.errors else []
    found += [f"{outcome.without_answer} messages without an answer"] if outcome.without_answer else []
    found += [f"{outcome.good_lost} of {outcome.good_series} good series lost"] if outcome.good_lost else []
    found += [f"memory grew by {grown_mb:.0f} MB"] if grown_mb > LARGEST_GROWTH_MB else []
    half = outcome.messages / 2
    if outcome.objects_kept > KEPT_OBJECTS + KEPT_OBJECTS_PER_MESSAGE * half:
        found += [f"{outcome.objects_kept} objects of {half:.0f} messages were kept: memory grows with the messages"]
    return [f"{outcome.protocol}: {text}" for text in found]


def survival(effort: Effort) -> Iterator[Row]:
    """Hostile messages of every protocol, in the decoders."""
    for protocol in PROTOCOLS:
        outcome = in_own_process(protocol, QUICK_MESSAGES if effort.quick else SLOW.get(protocol, MESSAGES))
        if faults := faults_of(outcome):
            raise WrongResult("; ".join(faults))
        good = 3 if protocol.startswith("panda") else bytes_of.GOOD_FRAMES + 2
        per_s = outcome.messages / outcome.seconds
        good_per_s = good * outcome.good_series / outcome.good_seconds
        yield Row(
            name=f"hostile messages, {protocol}",
            figure=per_s,
            unit="messages/s",
            spread=0.0,
            rounds=1,
            reference="good messages of the same process, made and decoded",
            reference_figure=good_per_s,
            ratio=per_s / good_per_s,
            meaning="no error, every message answered, good series between them exact; the largest are of 16M pixels",
            details={
                "messages": outcome.messages,
                "decoded": outcome.decoded,
                "peak_mb": outcome.peak_mb,
                "grown_mb": outcome.peak_mb - outcome.start_mb,
                "objects_kept": outcome.objects_kept,
                "slowest_s": outcome.slowest_s,
                **{f"counted {reason}": count for reason, count in outcome.reasons.items()},
            },
        )


def _live_objects() -> int:
    """Return how many pieces of memory Python's objects take, which noise does not reach as it does megabytes."""
    gc.collect()
    return sys.getallocatedblocks()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="of every protocol")
    parser.add_argument("--only", choices=PROTOCOLS, action="append")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--inside", choices=PROTOCOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(asdict(attack(options.inside, options.messages, options.seed))))
        return 0
    wrong = False
    for protocol in options.only or PROTOCOLS:
        try:
            outcome = in_own_process(protocol, options.messages, options.seed)
        except WrongResult as error:
            print(error)
            wrong = True
            continue
        faults = faults_of(outcome)
        wrong = wrong or bool(faults)
        print(json.dumps({**asdict(outcome), "errors": len(outcome.errors)}), flush=True)
        print("\n".join(faults or [f"{protocol}: {outcome.messages} messages survived"]), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
