import re
import shutil
import subprocess

import pytest

from streamptycho.ptychography.cuda_source import kernel_plan, kernel_source
from streamptycho.ptychography.visits import UpdateRule
from tests.nvrtc import compiled

HOPPER = 227 * 1024, 228 * 1024
CONSUMER = 99 * 1024, 100 * 1024
NVCC = shutil.which("nvcc")
KERNELS = ("convert_probe", "visit_group", "change_object", "change_probe")
CASES = [
    pytest.param(128, 4, UpdateRule(), "sm_90", HOPPER, id="128x128, 4 modes, H100"),
    pytest.param(64, 2, UpdateRule(upsampling=2), "sm_90", HOPPER, id="64x64, 2 modes, upsampled, H100"),
    pytest.param(256, 2, UpdateRule(upsampling=2, find_shifts=True), "sm_90", HOPPER, id="256x256, in device memory"),
    pytest.param(96, 3, UpdateRule(), "sm_80", (163 * 1024, 164 * 1024), id="96x96, 3 modes, A100"),
    pytest.param(30, 1, UpdateRule(), "sm_120", CONSUMER, id="30x30, Blackwell"),
]


def source(n, modes, rule, shared):
    return kernel_source(kernel_plan(n, modes, *shared), rule)


@pytest.mark.parametrize(("n", "modes", "rule", "processor", "shared"), CASES)
def test_kernels_compile_as_they_do_at_run_time(n, modes, rule, processor, shared):
    """CuPy compiles with NVRTC, which needs no GPU for that."""
    binary = compiled(source(n, modes, rule, shared), processor)
    assert all(name.encode() in binary for name in KERNELS)


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize(("n", "modes", "rule", "processor", "shared"), CASES[:2])
def test_nothing_spills_to_memory_and_the_blocks_fit(n, modes, rule, processor, shared, tmp_path):
    file = tmp_path / "kernels.cu"
    file.write_text(source(n, modes, rule, shared))
    command = [
        NVCC,
        "-std=c++17",
        f"-arch={processor}",
        "-cubin",
        "-Xptxas",
        "-v",
        file,
        "-o",
        tmp_path / "kernels.bin",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    report = done.stderr[done.stderr.index("'visit_group'") :]
    assert "0 bytes spill stores" in report.splitlines()[2]
    plan = kernel_plan(n, modes, *shared)
    registers = int(re.search(r"Used (\d+) registers", report)[1])
    assert registers * plan.threads * plan.blocks_per_processor <= 65_536
