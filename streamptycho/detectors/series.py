"""From series headers and images to messages: what both streams of DECTRIS have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from streamptycho.config import DetectorConfig
from streamptycho.detectors import DetectorMessage, compression, region
from streamptycho.detectors.compression import Buffer, CompressionError, Encoding, TruncatedPayloadError
from streamptycho.detectors.fields import FrameError, check_size
from streamptycho.detectors.mask import load_mask, mask_for
from streamptycho.geometry import Geometry, GeometryError
from streamptycho.messages import Anomaly, Array, FrameBlock, Reason, SeriesEnd, SeriesStart
from streamptycho.naming import UniqueNames

Unit = Literal["frames", "rows", "messages", "pixels"]

_TO_JOIN = "to join in mid-scan set detector.energy_ev, detector.distance_m and detector.pixel_m"
SATURATION_REPORT_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeader:
    """What the header of a series says. Lengths in metres, `center_px` (row, column), `masked` (H, W) bool."""

    series: str
    n_frames: int | None = None
    energy_ev: float | None = None
    distance_m: float | None = None
    pixel_m: float | None = None
    shape: tuple[int, int] | None = None
    center_px: tuple[float, float] | None = None
    masked: Array | None = None
    saturation: int | None = None
    epoch_s: float | None = None
    labels: dict[str, Any] = field(default_factory=dict)

    def mask_of(self, shape: tuple[int, int]) -> Array | None:
        """Return the mask if it is one for frames of this shape, or for pixels that the detector binned to it."""
        return None if self.masked is None else mask_for(self.masked, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One frame as it came: still compressed. `transposed` payloads hold columns one after the other."""

    index: int
    start_s: float
    stop_s: float
    payload: Buffer
    encoding: Encoding
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    transposed: bool = False

    def rows(self, wanted: slice | None = None) -> Array:
        """Return these rows of the frame.

        Raises
        ------
        CompressionError
            If the payload does not hold the frame.
        """
        if self.transposed:
            whole = compression.decompress(self.payload, self.encoding, self.dtype, self.shape[::-1]).T
            return np.ascontiguousarray(whole[wanted or slice(None)])
        return compression.decompress(self.payload, self.encoding, self.dtype, self.shape, wanted)


class SeriesAssembler:
    """Turns headers, images and ends into messages: geometry, region, mask, saturation, losses.

    With the region centred on the first frames, these are held (compressed) until the centre is known. It then
    stays for all series that follow, so that projections fit onto each other.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._masked = None if config.mask is None else load_mask(config.mask, config.max_frame_pixels)
        self._header: SeriesHeader | None = None
        self._cutters: dict[tuple[int, int], region.Cutter] = {}
        self._centers: dict[tuple[int, int], tuple[float, float]] = {}
        self._finder: region.CenterFinder | None = None
        self._held: list[tuple[Image, int]] = []
        self._saturated_px = 0
        self._saturation_told_ns: int | None = None
        self._names = UniqueNames()

    @property
    def series(self) -> str | None:
        """Identity of the series that images now belong to."""
        return self._header.series if self._header else None

    def begin(self, header: SeriesHeader, received_ns: int) -> Iterator[DetectorMessage]:
        """Leave the series before and begin this one."""
        yield from self.flush()
        header = self._with_configured_mask(header)
        self._header = header
        self._cutters = {}
        self._finder = None
        self._saturation_told_ns = None
        yield SeriesStart(
            series=header.series,
            n_frames=header.n_frames,
            geometry=self._geometry(header),
            epoch_s=header.epoch_s,
            received_ns=received_ns,
            labels=header.labels,
        )
        for masked, origin in ((header.masked, "header of the series"), (self._masked, "configuration")):
            if masked is not None and header.shape is not None and mask_for(masked, header.shape) is None:
                text = f"the pixel mask of the {origin} is for {_size(masked.shape)} pixels, frames have "
                yield self.anomaly(Reason.CORRUPT, f"{text}{_size(header.shape)}: it is not used", "messages")

    @property
    def needs_header(self) -> bool:
        """Whether the configuration leaves something open that only a header says."""
        config = self._config
        return not (config.energy_ev and config.distance_m and config.pixel_m)

    def unique(self, name: str) -> str:
        """Return the name, or one made from it if a series was called so before: detectors restart their count."""
        return self._names.unique(name)

    def image(self, image: Image, received_ns: int) -> Iterator[DetectorMessage]:
        """Take an image of the current series."""
        header = self._header
        if header is None:
            yield self.stray("unknown", image.index)
            return
        try:
            self._check(image.shape, header)
            center = self._center(image.shape, header)
            if center is not None:
                yield from self._frame(image, header, center, received_ns)
                return
            self._observe(image, header)
        except FrameError as error:
            yield self.anomaly(error.reason, f"frame {image.index}: {error}")
            return
        self._held.append((image, received_ns))
        if len(self._held) >= min(region.FRAMES_FOR_CENTER, header.n_frames or region.FRAMES_FOR_CENTER):
            yield from self._release()

    def images(self, images: Iterable[Image], received_ns: int) -> Iterator[DetectorMessage]:
        """Take images that came together, and yield their frames in as few blocks as there can be."""
        together: list[FrameBlock] = []
        for image in images:
            for message in self.image(image, received_ns):
                if isinstance(message, FrameBlock):
                    if together and not _alike(together[-1], message):
                        yield _joined(together)
                        together = []
                    together.append(message)
                else:
                    yield message
        if together:
            yield _joined(together)

    def cutter_for(self, shape: tuple[int, int]) -> region.Cutter | None:
        """Return what cuts the square out of images of this shape, None where `image` has to see each of them."""
        header = self._header
        if header is None or self._held:
            return None
        try:
            self._check(shape, header)
            center = self._center(shape, header)
            return None if center is None else self._cutter(shape, header, center)
        except FrameError:
            return None

    def saturated(self, pixels: int, received_ns: int) -> Iterator[Anomaly]:
        """Count saturated pixels of one frame, and tell of them from time to time."""
        if pixels:
            self._saturated_px += pixels
            told = self._saturation_told_ns
            if told is None or not 0 <= received_ns - told < SATURATION_REPORT_NS:
                self._saturation_told_ns = received_ns
                yield self._saturation()

    def end(self, series: str) -> Iterator[DetectorMessage]:
        """Take the end of a series, known or not."""
        if series == self.series:
            yield from self.flush()
        yield SeriesEnd(series=series)

    def flush(self) -> Iterator[DetectorMessage]:
        """Yield what is held: frames that wait for the centre, saturated pixels that were not told yet."""
        yield from self._release()
        if self._saturated_px:
            yield self._saturation()

    def stray(self, series: str, index: int) -> Anomaly:
        """Return the loss of a frame that does not belong to the current series."""
        current = f"series {self.series} is running"
        if self.series is None:
            current = f"no header was seen: {_TO_JOIN}"
        return self.anomaly(Reason.STRAY, f"frame {index} of series {series[:80]}, but {current}")

    def anomaly(self, reason: Reason, detail: str, unit: Unit = "frames", count: int = 1) -> Anomaly:
        """Return a loss of the current series."""
        return Anomaly(source="detector", reason=reason, count=count, unit=unit, series=self.series, detail=detail)

    def _with_configured_mask(self, header: SeriesHeader) -> SeriesHeader:
        """Return the header with the pixels masked that the stream or the configuration masks."""
        shape = header.shape or (self._masked.shape if self._masked is not None else None)
        mine = None if self._masked is None or shape is None else mask_for(self._masked, shape)
        if mine is None or shape is None:
            return header
        theirs = header.mask_of(shape)
        return replace(header, masked=mine if theirs is None else mine | theirs)

    def _check(self, shape: tuple[int, int], header: SeriesHeader) -> None:
        height, width = shape
        check_size(shape, self._config.max_frame_pixels)
        if self._config.region.size_px is None and header.shape is not None and shape != header.shape:
            raise FrameError(
                Reason.CORRUPT,
                f"{height} x {width} pixels in a series of {header.shape[0]} x {header.shape[1]}: "
                "set detector.region.size_px if the size may change",
            )

    def _frame(
        self, image: Image, header: SeriesHeader, center: tuple[float, float], received_ns: int
    ) -> Iterator[DetectorMessage]:
        cutter = self._cutter(image.shape, header, center)
        counts, saturated = cutter.cut(_decoded(image, cutter.rows))
        yield FrameBlock(
            series=header.series,
            index=np.array([image.index], np.int64),
            exposure_start_s=np.array([image.start_s]),
            exposure_stop_s=np.array([image.stop_s]),
            counts=counts[np.newaxis],
        )
        yield from self.saturated(saturated, received_ns)

    def _saturation(self) -> Anomaly:
        count, self._saturated_px = self._saturated_px, 0
        return self.anomaly(Reason.SATURATED, "counts above the limit of the detector", "pixels", count)

    def _cutter(self, shape: tuple[int, int], header: SeriesHeader, center: tuple[float, float]) -> region.Cutter:
        cutter = self._cutters.get(shape)
        if cutter is None:
            settings = self._config.region
            try:
                square = region.square_at(center, region.side_px(settings, shape), settings.binning)
                cutter = region.Cutter(square, shape, header.mask_of(shape), header.saturation)
            except region.RegionError as error:
                raise FrameError(Reason.OUT_OF_RANGE, str(error)) from None
            self._cutters = {shape: cutter}
        return cutter

    def _center(self, shape: tuple[int, int], header: SeriesHeader) -> tuple[float, float] | None:
        """Return where the square is centred, None while the first frames have to say it."""
        wanted = self._config.region.center_px
        if wanted == "middle":
            return region.middle_of(shape)
        if not isinstance(wanted, str):
            return wanted
        said = header.center_px
        if wanted == "header" and said and 0 < said[0] < shape[0] and 0 < said[1] < shape[1]:
            return said
        return self._centers.get(shape)

    def _observe(self, image: Image, header: SeriesHeader) -> None:
        counts = _decoded(image)
        if self._finder is None or self._finder.shape != image.shape:
            self._finder = region.CenterFinder(image.shape, header.mask_of(image.shape))
        self._finder.add(counts, region.valid_limit(counts.dtype, header.saturation))

    def _release(self) -> Iterator[DetectorMessage]:
        held, self._held = self._held, []
        finder, self._finder = self._finder, None
        header = self._header
        if not held or header is None or finder is None:
            return
        center = finder.center_px()
        if center is None:
            center = region.middle_of(finder.shape)
            text = "no counts in the first frames: the region is centred on the middle of the detector"
            yield self.anomaly(Reason.NO_BEAM, text, "messages")
        self._centers = {finder.shape: center}
        for image, received_ns in held:
            where = center if image.shape == finder.shape else region.middle_of(image.shape)
            try:
                yield from self._frame(image, header, where, received_ns)
            except FrameError as error:
                yield self.anomaly(error.reason, f"frame {image.index}: {error}")

    def _geometry(self, header: SeriesHeader) -> Geometry | None:
        config = self._config
        energy_ev = config.energy_ev or header.energy_ev
        distance_m = config.distance_m or header.distance_m
        pixel_m = config.pixel_m or header.pixel_m
        size = config.region.size_px
        shape = header.shape or ((size, size) if size else None)
        if not (energy_ev and distance_m and pixel_m and shape):
            return None
        try:
            n = region.side_px(config.region, shape) // config.region.binning
            return Geometry(energy_ev, distance_m, pixel_m * config.region.binning, (n, n))
        except (GeometryError, region.RegionError):
            return None


def _decoded(image: Image, rows: slice | None = None) -> Array:
    try:
        return image.rows(rows)
    except TruncatedPayloadError as error:
        raise FrameError(Reason.TRUNCATED, str(error)) from None
    except CompressionError as error:
        raise FrameError(Reason.CORRUPT, str(error)) from None


def _alike(one: FrameBlock, other: FrameBlock) -> bool:
    same = one.counts.shape[1:] == other.counts.shape[1:] and one.counts.dtype == other.counts.dtype
    return same and one.series == other.series


def _joined(blocks: list[FrameBlock]) -> FrameBlock:
    if len(blocks) == 1:
        return blocks[0]
    return FrameBlock(
        series=blocks[0].series,
        index=np.concatenate([block.index for block in blocks]),
        exposure_start_s=np.concatenate([block.exposure_start_s for block in blocks]),
        exposure_stop_s=np.concatenate([block.exposure_stop_s for block in blocks]),
        counts=np.concatenate([block.counts for block in blocks]),
    )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
