"""What a credential command or the notify-command of one index could read of the others' secrets: nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.program import Mirror
from mirror.config import load_config
from mirror.upstream.credentials.program_env import program_environment
from simulator import ThreadedSimulator, build_wheel

PROXY = "http://user:hidden@proxy.example:3128"
PLAIN = "http://proxy.example:3128"
SECRETS = {
    "OF_BASIC": "hidden",
    "OF_BASIC_USER": "hidden",
    "OF_BEARER": "hidden",
    "OF_COMMAND_USER": "someone",
    "OF_URL": "http://127.0.0.1:1/hidden/",
    "MIRROR_OTHER_USERNAME": "hidden",
    "MIRROR_A_B_PASSWORD": "hidden",
    "CHAINGUARD_PYTHON_IDENTITY_ID": "hidden",
    "CHAINGUARD_PYTHON_TOKEN": "hidden",
    "FTP_PROXY": PROXY,
    "all_proxy": PROXY,
    "NOTIFY_SOCKET": "/hidden",
}
KEPT = {"PATH": "/bin", "SLACK_TOKEN": "its own", "MIRROR_ROOT": "/r", "no_proxy": "a@b", "HTTPS_PROXY": PLAIN}

INDEXES = """
[[index]]
name = "main"
url = "https://main.example/simple/"
%s
[index.auth]
kind = "command"
username-env = "OF_COMMAND_USER"
command = ["get-token"]
[[index]]
name = "basic"
url = "https://basic.example/simple/"
auth = { kind = "basic", username-env = "OF_BASIC_USER", password-env = "OF_BASIC" }
[[index]]
name = "bearer"
url-env = "OF_URL"
auth = { kind = "bearer", token-env = "OF_BEARER" }
"""


def configured(tmp_path: Path, extra: str = ""):
    path = tmp_path / "mirror.toml"
    path.write_text(f'[mirror]\nroot = "{tmp_path}/mirror"\n{INDEXES % extra}')
    return load_config(path, env=SECRETS).indexes


def test_no_secret_of_ours(tmp_path):
    """What any key, pair or proxy names is not there; all else is."""
    assert program_environment(configured(tmp_path), {**SECRETS, **KEPT}) == {
        name: value for name, value in KEPT.items() if name != "no_proxy"
    }


@pytest.mark.parametrize(
    ("extra", "given", "kept"),
    [
        ("", {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}, {"HTTPS_PROXY"}),
        ("", {"https_proxy": PROXY, "HTTPS_PROXY": PROXY}, {"https_proxy", "HTTPS_PROXY"}),
        ("", {"https_proxy": PLAIN, "HTTPS_PROXY": PROXY}, {"https_proxy"}),
        ("", {"ALL_PROXY": PROXY, "HTTP_PROXY": PROXY}, {"ALL_PROXY"}),
        ("", {"ALL_PROXY": PROXY, "HTTPS_PROXY": PLAIN}, {"HTTPS_PROXY"}),
        ("", {"HTTPS_PROXY": PROXY, "NO_PROXY": ".example"}, {"NO_PROXY"}),
        ('proxy = "http://other.example:1"', {"HTTPS_PROXY": PROXY}, set()),
    ],
    ids=["https", "both forms", "lower case wins", "all", "all is not used", "exempt", "a proxy of its own"],
)
def test_proxy_of_its_own_index(tmp_path, extra, given, kept):
    """A credential command keeps the proxy that its index is reached by, and no other with user info."""
    indexes = configured(tmp_path, extra)
    assert set(program_environment(indexes, given, own=indexes[0])) == kept


@pytest.mark.usefixtures("unmeasured")
def test_programs_that_run(tmp_path: Path, threaded_simulator: Callable[..., ThreadedSimulator]) -> None:
    """The command and the notify-command of a real cycle print an environment that has no secret of another index."""
    first, second = threaded_simulator(username="user", password="pass"), threaded_simulator(username="u", password="p")
    for index, name in ((first, "one"), (second, "two")):
        index.state.publish(name, *build_wheel(name, "1.0"))
    script = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w')); print('pass')"
    mirror = Mirror(tmp_path)
    command = json.dumps([sys.executable, "-c", script, str(tmp_path / "of-command")])
    notify = json.dumps([sys.executable, "-c", script, str(tmp_path / "of-notify")])
    mirror.config.write_text(
        f'[mirror]\nroot = "{mirror.root}"\n[limits]\ndisk-reserve = 0\n[service]\nnotify-command = {notify}\n'
        f'[[index]]\nname = "a"\nurl = "{first.url}"\nauth = {{ kind = "command", username = "user", command = {command} }}\n'
        f'[[index]]\nname = "b"\nurl = "{second.url}"\nauth = {{ kind = "basic", username-env = "B_U", password-env = "B_P" }}\n'
    )
    secrets = {"B_U": "u", "B_P": "p", "MIRROR_X_PASSWORD": "hidden", "ftp_proxy": PROXY}
    mirror.sync_well(**secrets, KEPT_OVER="yes")
    for name in ("of-command", "of-notify"):
        found = json.loads((tmp_path / name).read_text())
        assert not set(found) & set(secrets)
        assert found["KEPT_OVER"] == "yes"


def test_shown_configuration_hides_arguments(tmp_path: Path) -> None:
    """``config show`` prints a command's program, and how many arguments it does not show."""
    mirror = Mirror(tmp_path)
    mirror.config.write_text(
        f'[mirror]\nroot = "{mirror.root}"\n[service]\nnotify-command = ["/etc/notify", "hidden"]\n[[index]]\nname = "a"\n'
        'url = "https://a.example/simple/"\n'
        'auth = { kind = "command", command = ["get-token", "--key", "hidden", "--more"] }\n'
        '[[index]]\nname = "b"\nurl = "https://b.example/simple/"\nauth = { kind = "command", command = ["alone"] }\n'
    )
    done = mirror.run("config", "show", "--config", mirror.config)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "command" in line and "kind" not in line]
    assert lines == [
        'notify-command = ["/etc/notify"]  # 1 argument hidden',
        'command = ["get-token"]  # 3 arguments hidden',
        'command = ["alone"]',
    ]
