"""Filtered back-projection on a GPU."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from streamptycho.array import Backend, backend
from streamptycho.messages import Array
from streamptycho.tomography.backprojection import MAX_VOXELS, SLAB_ROWS, IncrementalBackProjection, filled
from streamptycho.tomography.filtering import FilterName, frequency_response, padded_width
from streamptycho.tomography.running_sum import Filtered

TILE_YX = (8, 32)
LAYERS = 8
THREADS = 256
SHARED_BYTES = 128 * 4 * 8
Span = tuple[int, int]


def kernel_source() -> str:
    """Return the CUDA C++ source of the kernel."""
    return (files("streamptycho.tomography") / "cuda" / "back_project.cu").read_text(encoding="utf-8")


class CudaBackProjection(IncrementalBackProjection):
    """What `IncrementalBackProjection` does, every part of the volume made anew when it is asked for.

    On a GPU that is faster than to keep sums and bring them up to date, and the order of arrival cannot matter at all.
    Filtered projections stay on the device, 4 Z X bytes each; a slab of the volume takes 256 X X bytes there.

    Parameters
    ----------
    shape, filter_name, max_voxels
        See `IncrementalBackProjection`.
    device
        Of the GPU.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        filter_name: FilterName = "hamming",
        *,
        device: Backend,
        max_voxels: int = MAX_VOXELS,
    ) -> None:
        super().__init__(shape, filter_name, max_voxels=max_voxels)
        xp = device.xp
        self._device = device
        padded = padded_width(shape[1])
        self._padded, self._response = padded, xp.asarray(frequency_response(padded, filter_name).astype(np.float32))
        self._kernel = xp.RawModule(code=kernel_source(), options=("-std=c++17",)).get_function("back_project")

    def orthoslices(self) -> tuple[Array, Array, Array]:
        """See `IncrementalBackProjection.orthoslices`."""
        rows, columns = self.shape
        everywhere: tuple[Span, Span, Span] = ((0, rows), (0, columns), (0, columns))
        target = self._target()
        found = []
        for axis in range(3):
            middle = everywhere[axis][1] // 2
            part = [span if at != axis else (middle, middle + 1) for at, span in enumerate(everywhere)]
            found.append(self._device.to_host(self._part(target, *part).squeeze(axis)))
        return found[0], found[1], found[2]

    def volume(self) -> Array:
        """See `IncrementalBackProjection.volume`."""
        rows, columns = self.shape
        return filled((rows, columns, columns), self.slabs())

    def slabs(self) -> Iterator[Array]:
        """See `IncrementalBackProjection.slabs`."""
        return (self._device.to_host(slab) for slab in self.slabs_on_device())

    def slabs_on_device(self) -> Iterator[Any]:
        """Return the same slabs as arrays of the device."""
        rows, columns = self.shape
        target = self._target()
        for first in range(0, rows, SLAB_ROWS):
            yield self._part(target, (first, min(first + SLAB_ROWS, rows)), (0, columns), (0, columns))

    def region(self, z: slice, y: slice, x: slice, keys: Iterable[Hashable] | None = None) -> Array:
        """See `IncrementalBackProjection.region`."""
        return self._device.to_host(self._part(self._target(keys), *self._spans(z, y, x)))

    def _filtered(self, line_integrals: Array) -> Any:
        xp, fft = self._device.xp, self._device.fft
        given = xp.asarray(np.asarray(line_integrals, np.float32))
        spectrum = fft.rfft(given, n=self._padded, axis=-1)
        spectrum *= self._response
        return xp.ascontiguousarray(fft.irfft(spectrum, n=self._padded, axis=-1)[:, : self.shape[1]], dtype=np.float32)

    def _part(
        self, weighted: tuple[Mapping[Hashable, tuple[float, Filtered]], float], z: Span, y: Span, x: Span
    ) -> Any:
        """Return the voxels of a box, first and last of each axis, as an array of the device."""
        xp = self._device.xp
        target, scale = weighted
        ordered = sorted(target.values(), key=lambda item: item[1].angle_deg)
        theta = np.radians([item.angle_deg for _, item in ordered])
        turns = np.stack([np.cos(theta), np.sin(theta), [scale * weight for weight, _ in ordered]], axis=1)
        addresses = np.array([_address(item.columns) for _, item in ordered], np.uint64)
        shape = tuple(last - first for first, last in (z, y, x))
        part = xp.zeros(shape, np.float32)
        if not ordered or not part.size:
            return part
        depth, height, width = shape
        grid = -(-width // TILE_YX[1]) * -(-height // TILE_YX[0]), -(-depth // LAYERS)
        sizes = (len(ordered), self.shape[1], z[0], y[0], x[0], depth, height, width)
        arguments = (xp.asarray(addresses), xp.asarray(turns), *(np.int32(size) for size in sizes), part)
        self._kernel(grid, (THREADS,), arguments, shared_mem=SHARED_BYTES)
        return part


def _address(array: Any) -> int:
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return int(interface["data"][0])


def back_projection(
    shape: tuple[int, int], filter_name: FilterName, *, max_voxels: int, device: str
) -> IncrementalBackProjection:
    """Return sums of projections (Z, X) on a device, "cpu" or "gpu".

    Raises
    ------
    DeviceError
        If there is no GPU to use.
    VolumeTooLargeError
        If the volume would have more than `max_voxels`.
    """
    if device == "cpu":
        return IncrementalBackProjection(shape, filter_name, max_voxels=max_voxels)
    return CudaBackProjection(shape, filter_name, device=backend(device), max_voxels=max_voxels)
