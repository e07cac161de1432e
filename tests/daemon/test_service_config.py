"""The table ``[service]`` of the configuration."""

from __future__ import annotations

import pytest

from mirror.config import ServiceConfig, effective_toml, load_config
from mirror.errors import ConfigError

INDEX = '[[index]]\nname = "a"\nurl = "https://a/simple/"\n'


def load(tmp_path, lines: str):
    (tmp_path / "mirror.toml").write_text(f'[mirror]\nroot = "/srv/m"\n[service]\n{lines}\n{INDEX}')
    return load_config(tmp_path / "mirror.toml", env={})


def test_loaded_and_written(tmp_path):
    """All keys load, a relative path starts at the file, and what is written down loads as the same."""
    lines = 'metrics-listen = "[::1]:9140"\nmetrics-file = "m.prom"\nnotify-command = ["a", "b c"]'
    config = load(tmp_path, lines)
    assert config.service == ServiceConfig(
        metrics_listen="[::1]:9140", metrics_file=tmp_path / "m.prom", notify_command=("a", "b c")
    )
    assert config.service.listen_address == ("::1", 9140)
    (tmp_path / "again.toml").write_text(effective_toml(config))
    assert load_config(tmp_path / "again.toml", env={}).service == config.service


REFUSED = {
    "no-port": ('metrics-listen = "localhost"', "service.metrics-listen: expected HOST:PORT"),
    "port-too-large": ('metrics-listen = "localhost:65536"', "service.metrics-listen: expected HOST:PORT"),
    "bare-ipv6": ('metrics-listen = "::1:9140"', "service.metrics-listen: expected HOST:PORT"),
    "no-host": ('metrics-listen = ":9140"', "service.metrics-listen: expected HOST:PORT"),
    "command-as-text": ('notify-command = "a b"', "service.notify-command: expected a list of texts"),
    "command-without-program": ('notify-command = ["", "b"]', "service.notify-command: expected a program first"),
    "unknown": ('metric-file = "a"', 'service.metric-file: unknown key; did you mean "metrics-file"?'),
}


@pytest.mark.parametrize(("lines", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, lines, problem):
    """A bad value is one line that names the key."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, lines)
    assert str(caught.value).startswith(problem)
