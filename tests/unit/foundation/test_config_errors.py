"""A mistake in the YAML is named, with the way out."""

import pytest

from streamptycho.config import Config, ConfigError, SimulationConfig, dump, load, parse


def test_a_configuration_survives_yaml():
    config = Config(simulation=SimulationConfig())
    assert parse(dump(config)) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("detector: {regoin: {}}", ["detector.regoin", "Did you mean 'region'", "endpoint"]),
        ("simulation: {beam: {diametre_m: 1}}", ["simulation.beam.diametre_m", "diameter_m"]),
        ("detectr: {}", ["detectr", "Did you mean 'detector'"]),
        ("pairing: {by: rows}", ["pairing.by", "'row' or 'time'", "rows"]),
        ("detector: {energy_ev: -3}", ["detector.energy_ev", "greater than 0", "-3"]),
        ("detector: {energy_ev: .nan}", ["detector.energy_ev"]),
        ("projections: {cut_by: count}", ["cut_by: count needs frames"]),
        ("reconstruction: {sweeps: 3, min_sweeps: 9}", ["min_sweeps (9) is over sweeps (3)"]),
        ("pairing: {by: time}\npositions: {time: null}", ["pairing.by: time needs positions.time"]),
        ("positions: {x: {column: A, scale: 0}}", ["positions.x.scale", "all values would be the same"]),
        ("positions: {y: {column: A}}", ["positions: y needs scale", "1.0e-6 for micrometres"]),
        ("detector: {endpoint: ''}", ["detector.endpoint", "tcp://HOST:PORT"]),
        ("detector: {endpoint: 'http://foo'}", ["detector.endpoint", "tcp://HOST:PORT"]),
        ("detector: {endpoint: 'tcp://foo'}", ["detector.endpoint", "tcp://HOST:PORT"]),
        ("detector: {more_endpoints: ['tcp://foo'], receivers: 2}", ["detector:", "tcp://HOST:PORT"]),
        ("detector: {more_endpoints: ['tcp://foo:1']}", ["detector:", "2 endpoints need receivers: 2"]),
        ("detector: {receivers: 0}", ["detector.receivers", "greater than or equal to 1"]),
        ("reconstruction: {seed: -1}", ["reconstruction.seed", "greater than or equal to 0"]),
        ("simulation: {seed: -1}", ["simulation.seed", "greater than or equal to 0"]),
        ("[" * 5000 + "]" * 5000, ["nested too deeply"]),
        ("[1, 2]", ["mapping"]),
        ("a: [", ["not YAML"]),
    ],
)
def test_a_mistake_names_its_path_and_what_is_allowed(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    for word in words:
        assert word in str(caught.value)


def test_every_mistake_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        parse("detector: {regoin: {}}\npairing: {by: rows}\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.yaml")


def test_an_empty_file_gives_the_defaults():
    assert parse("") == Config()
