"""What docker/compose.yaml starts is what the program has."""

from pathlib import Path

import pytest
import typer.main
import yaml

from streamptycho.cli.commands import app
from streamptycho.config import load
from streamptycho.stages.services import SERVICES

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
CONTAINERS = load(ROOT / "configs" / "containers.yaml")


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_container_runs_a_command_that_exists(name):
    command = COMPOSE["services"][name]["command"]
    group = typer.main.get_command(app)
    context = group.make_context("streamptycho", list(command), resilient_parsing=True)
    subcommand = group.get_command(context, command[0])
    parsed = subcommand.make_context(command[0], list(command[1:]))
    assert parsed.params["name"] == name in SERVICES
    assert parsed.params["config_file"].name == "containers.yaml"


def test_containers_find_each_other_by_name_at_fixed_ports():
    pipeline = CONTAINERS.pipeline
    ports = []
    for name in ("record", "ingest", "reconstruct", "tomography"):
        address = getattr(pipeline, name)
        assert address.host == name in COMPOSE["services"]
        ports += [address.port, address.status_port]
    assert len(set(ports)) == 8
    assert 0 not in ports


def test_only_the_page_is_published_and_only_on_this_host():
    published = {name: item["ports"] for name, item in COMPOSE["services"].items() if "ports" in item}
    assert published == {"monitor": [f"127.0.0.1:{CONTAINERS.monitor.port}:{CONTAINERS.monitor.port}"]}


def test_the_instrument_is_the_simulated_one_of_the_demo_profile():
    assert COMPOSE["services"]["simulate"]["profiles"] == ["demo"]
    assert CONTAINERS.detector.endpoint.startswith("tcp://simulate:")
    assert CONTAINERS.positions.host == "simulate"


def test_the_image_is_built_from_files_that_exist():
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    targets = [line.split(" AS ")[1] for line in lines if line.startswith("FROM")]
    assert targets == ["cpu", "gpu"]
    for line in lines:
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    assert COMPOSE["services"]["record"]["build"]["target"] in targets
