"""Reconstruct a scan with pty-chi. Run by the interpreter of an environment that has it, not by the project's own.

``PYTHON ptychi_peer.py SCAN.npz RESULT.npz METHOD SWEEPS BATCH``: the scan holds `counts` (N, n, n), `yx_px` (N, 2),
`probe` (modes, n, n) and `shape` (2,); the result `object`, `probe`, `origin_px`, `yx_px` and `seconds`.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import ptychi.api as api
from ptychi.api.task import PtychographyTask


def options(method: str) -> api.options.base.TaskOptions:
    """Return the options of a method with the steps that converge best on these data, everything else as shipped."""
    if method == "LSQML":
        chosen = api.LSQMLOptions()
        chosen.reconstructor_options.noise_model = api.NoiseModels.GAUSSIAN
    elif method == "rPIE":
        chosen = api.RPIEOptions()
        chosen.object_options.alpha = chosen.probe_options.alpha = 0.1
        # with whole steps of overlapping frames at a time it diverges on a fly scan
        chosen.object_options.step_size = chosen.probe_options.step_size = 0.1
    elif method == "ePIE":
        chosen = api.EPIEOptions()
        chosen.object_options.alpha = chosen.probe_options.alpha = 0.5
    else:
        raise SystemExit(f"method must be LSQML, rPIE or ePIE, got {method}")
    return chosen


def main() -> None:
    scan_file, result_file, method, sweeps, batch = sys.argv[1:6]
    correct = len(sys.argv) > 6 and sys.argv[6] == "positions"
    scan = np.load(scan_file)
    rows, columns = (int(size) for size in scan["shape"])
    origin = np.array([rows // 2, columns // 2], np.float32)
    task_options = options(method)
    reconstructor = task_options.reconstructor_options
    reconstructor.num_epochs = int(sweeps)
    reconstructor.batch_size = int(batch)
    reconstructor.default_device = api.Devices.CPU
    reconstructor.random_seed = 0
    task_options.object_options.determine_position_origin_coords_by = api.ObjectPosOriginCoordsMethods.SPECIFIED
    task_options.object_options.position_origin_coords = origin
    task_options.probe_position_options.optimizable = correct
    began = time.perf_counter()
    with PtychographyTask(
        task_options,
        diffraction_data=scan["counts"].astype(np.float32),
        object_data=np.ones((1, rows, columns), np.complex64),
        probe_data=scan["probe"][None].astype(np.complex64),
        probe_position_y_px=scan["yx_px"][:, 0].astype(np.float32),
        probe_position_x_px=scan["yx_px"][:, 1].astype(np.float32),
    ) as task:
        task.run()
        seconds = time.perf_counter() - began
        np.savez(
            result_file,
            object=task.get_data_to_cpu("object", as_numpy=True)[0],
            probe=task.get_data_to_cpu("probe", as_numpy=True)[0],
            yx_px=task.get_data_to_cpu("probe_positions", as_numpy=True),
            origin_px=origin,
            seconds=seconds,
        )


if __name__ == "__main__":
    main()
