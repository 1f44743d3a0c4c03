"""All measurements, by name and in the order of the data."""

from __future__ import annotations

from benchmarks import (
    decode,
    decode_stream1,
    epie,
    epie_memory,
    few_projections,
    hostile,
    incremental,
    ingest,
    ingest_faults,
    ingest_services,
    large_volumes,
    latency,
    pairing,
    pxct_miniature,
    quality,
    stream_log,
    tomography,
    tomography_peers,
    wire,
)
from benchmarks.machine import gpu_name
from benchmarks.row import Case

CASES = (
    Case("decode-whole", decode.eiger_whole),
    Case("decode-region", decode.eiger_region),
    Case("decode-u8", decode.selun_whole),
    Case("decode-u8-full", decode.selun_full),
    Case("decode-16m", decode.large_shared),
    Case("decode-stream1", decode_stream1.eiger_whole),
    Case("ingest-region", ingest.eiger),
    Case("ingest-u8", ingest.selun),
    Case("ingest-u8-full", ingest.selun_full),
    Case("ingest-16m", ingest.large),
    Case("ingest-paced-region", ingest.eiger_paced),
    Case("ingest-paced-u8", ingest.selun_paced),
    Case("ingest-paced-u8-full", ingest.selun_full_paced),
    Case("ingest-services-region", ingest_services.eiger_services),
    Case("ingest-services-u8", ingest_services.selun_services),
    Case("ingest-connections-region", ingest.eiger_connections),
    Case("ingest-connections-u8", ingest.selun_connections),
    Case("ingest-faults", ingest_faults.exact, slow=True),
    Case("hostile", hostile.survival, slow=True),
    Case("pair-row", pairing.by_row),
    Case("pair-time", pairing.by_time),
    Case("log-large", stream_log.large_records),
    Case("log-small", stream_log.small_records),
    Case("wire", wire.batch),
    Case("epie-64-1", epie.updates(64, 1)),
    Case("epie-64-4", epie.updates(64, 4)),
    Case("epie-128-1", epie.updates(128, 1)),
    Case("epie-128-4", epie.updates(128, 4)),
    Case("epie-error-64", epie.time_to_error(64)),
    Case("epie-threads-64", epie.threads_to_error(64)),
    Case("epie-threads-128", epie.threads_to_error(128), slow=True),
    Case("epie-error-128", epie.time_to_error(128), slow=True),
    Case("epie-growth", epie.growth, slow=True),
    Case("epie-memory", epie_memory.bytes_per_frame),
    *(
        Case(f"quality-{name}-{method.lower()}", contest.measured(method, batch), slow=True)
        for name, contest in (
            ("1e6", quality.paper_contest(1e6)),
            ("1e5", quality.paper_contest(1e5)),
            ("positions", quality.paper_contest(1e6, position_error_m=quality.POSITION_ERROR_M)),
            ("110khz", quality.fast_contest(likelihood_steps=10)),
            ("110khz-sweeps", quality.fast_contest(likelihood_steps=0)),
        )
        for method, batch in (("LSQML", 64), ("rPIE", 16))
    ),
    Case("incremental-held", incremental.at_last_frame(1, 1.5), slow=True),
    Case("incremental-late", incremental.at_last_frame(1, 0.25), slow=True),
    Case("latency", latency.end_of_scan),
    Case("tomography-128", tomography.volume(128)),
    Case("tomography-256", tomography.volume(256), slow=True),
    Case("tomography-512", large_volumes.volume(512), slow=True),
    Case("tomography-1024", large_volumes.volume(1024), slow=True),
    Case("tomography-growth", large_volumes.growth, slow=True),
    Case("tomography-astra", tomography_peers.beside_astra, slow=True),
    Case("tomography-gridrec", tomography_peers.beside_gridrec, slow=True),
    Case("tomography-few", few_projections.bone, slow=True),
    Case("pxct-miniature", pxct_miniature.accuracy, slow=True),
)


def available() -> list[Case]:
    """Return the measurements of this machine: those of the GPU where CuPy sees one."""
    if gpu_name() is None:
        return list(CASES)
    on_gpu = [
        Case(f"epie-{side}-{modes}-gpu", epie.updates(side, modes, "gpu")) for side in (64, 128) for modes in (1, 4)
    ]
    return [*CASES, *on_gpu]
