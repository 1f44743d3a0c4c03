"""Where the page says that results lie: the folder of the run, or what the configuration says."""

from pathlib import Path

import pytest

from streamptycho.cli import commands
from streamptycho.stages import services


@pytest.mark.parametrize(("monitor", "said"), [("{}", None), ("{results: /beamline/visit/7}", "/beamline/visit/7")])
def test_the_monitor_is_told_where_results_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: str, said: str | None
) -> None:
    given = []
    monkeypatch.setattr(services, "run_service", lambda name, config, options: given.append(config) or 0)
    (tmp_path / "x.yaml").write_text(f"scan_id: s\nmonitor: {monitor}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        commands.service("monitor", Path("x.yaml"), Path("run"), speed="max")
    assert given[0].monitor.results == (said or str(tmp_path / "run"))
