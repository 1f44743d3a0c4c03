"""How large the steps of a visit are.

References
----------
Robbins and Monro 1951, doi 10.1214/aoms/1177729586: steps that shrink with visits average their noise out.
"""

from __future__ import annotations

import numpy as np

from streamptycho.config import ReconstructionConfig
from streamptycho.messages import Array

_WHOLE_UNTIL = 20
_LEAST_AVERAGING = 0.1
_MOST_REFINED = 5
_LEAST_REFINING = 0.02


class StepLaw:
    """Whole steps, but small ones at the end, and in a scan that grows for what was visited often.

    In the last sweeps over all frames, `refine_sweeps` of them, steps on object and probe go towards 0: that takes out
    the noise which the last visits left. A scan that grows has no end to wait for. There the step on the object shrinks
    with the visits of the frame, that on the probe with the mean visits of all frames: whatever is looked at has little
    of this noise, and new frames are used in full.

    Parameters
    ----------
    config
        Steps and sweeps.
    """

    def __init__(self, config: ReconstructionConfig) -> None:
        self._config = config
        refine = config.refine_sweeps
        self._refine = min(_MOST_REFINED, config.sweeps // 6) if refine is None else refine

    def refines(self, sweeps: float) -> bool:
        """Whether the last sweeps have begun after so many."""
        return self._share(sweeps) < 1.0

    def steps(self, numbers: Array, sweeps: float, mean_visits: float, *, growing: bool) -> tuple[Array, Array]:
        """Return the steps on object and probe, (K,) each.

        Parameters
        ----------
        numbers
            Which visit of its frame each is, from 1, (K,).
        sweeps
            Done so far.
        mean_visits
            Of all frames so far.
        growing
            Frames came while others were visited.
        """
        config, share = self._config, np.full(len(numbers), self._share(sweeps))
        on_object, on_probe = config.object_step * share, config.probe_step * share
        if growing:
            on_object *= _averaging(numbers)
            on_probe *= _averaging(np.full(len(numbers), mean_visits))
        return on_object, np.where(numbers <= config.probe_delay_sweeps, 0.0, on_probe)

    def _share(self, sweeps: float) -> float:
        left = self._config.sweeps - sweeps
        return 1.0 if self._refine == 0 or left >= self._refine else max(_LEAST_REFINING, left / self._refine)


def _averaging(visits: Array) -> Array:
    return np.clip((_WHOLE_UNTIL / np.maximum(visits, 1)) ** 2, _LEAST_AVERAGING, 1.0)
