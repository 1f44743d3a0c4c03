"""Reconstruct a volume with tomopy's gridrec. Run by the interpreter of an environment that has it.

``PYTHON gridrec_peer.py GIVEN.npz RESULT.npz METHOD ROUNDS REPEATS``: as `astra_peer.py`, without method and rounds.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import tomopy


def main() -> None:
    given_file, result_file, _, _, repeats = sys.argv[1:6]
    given = np.load(given_file)
    sinograms = np.ascontiguousarray(given["sinograms"], np.float32)
    theta = np.radians(given["angles_deg"]).astype(np.float32)
    seconds = []
    for _ in range(int(repeats)):
        began = time.perf_counter()
        found = tomopy.recon(
            sinograms,
            theta,
            center=float(sinograms.shape[-1] // 2),
            sinogram_order=True,
            algorithm="gridrec",
            filter_name="hamming",
            ncore=len(os.sched_getaffinity(0)),
        )
        seconds.append(time.perf_counter() - began)
    np.savez(result_file, slices=np.asarray(found, np.float32), seconds=np.array(seconds))


if __name__ == "__main__":
    main()
