"""Processes follow one another, and sockets come from systemd: no connection is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

from harness.program import GUARD_S, clean_environment
from harness.server import Server, read_answer


def _workers(server: Server) -> set[int]:
    command = ["ps", "-o", "pid=", "--ppid", str(server.process.pid)]
    return {int(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()}


def test_reload_loses_no_connection(tree):
    """While SIGHUP replaces the workers, every request is answered, and a connection that was open before it too."""
    with Server(tree.mirror, "--workers", "2") as server:
        before = _workers(server)
        failed: list[object] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    if server.get("/simple/demo-app/").status != 200:
                        failed.append("status")
                except (OSError, IndexError, ValueError) as exc:
                    failed.append(exc)

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        with server.connect() as silent, server.connect() as used:
            used.sendall(b"GET /simple/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(used).status == 200
            server.process.send_signal(signal.SIGHUP)
            server.heard("serve.signalled", signal="SIGHUP")
            for connection in (silent, used):
                connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost: x\r\n\r\n")
                assert read_answer(connection).status == 200
        server.wait_until(lambda: not before & _workers(server))
        done.set()
        for asker in askers:
            asker.join()
        assert failed == []
        assert not before & _workers(server)
        assert len(_workers(server)) == 2
        assert server.events("worker.ended") == []


def test_inherited_socket(tree):
    """A socket that systemd opened is used: what connected before the start is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        waiting = socket.create_connection(listening.getsockname(), timeout=GUARD_S)
        waiting.sendall(b"GET /-/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        program = (
            "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv.pop(1)), 3);"
            " from mirror.cli import main; sys.exit(main())"
        )
        command = [sys.executable, "-c", program, str(listening.fileno()), "serve", "--root", str(tree.mirror.root)]
        process = subprocess.Popen(
            command,
            pass_fds=[listening.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(tree.mirror.home, LISTEN_FDS="1"),
        )
        try:
            with waiting:
                assert read_answer(waiting).text == "alive\n"
        finally:
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(timeout=GUARD_S) == 0
