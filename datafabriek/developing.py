"""Dagster's UI and daemon as one group of processes that ends as a whole: what `datafabriek dev` starts."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.instance import close_abandoned_runs, environment, open_instance, prepare_instance

HOST = "127.0.0.1"
"""The UI has no login, so it listens on this machine alone (put a reverse proxy in front for others)."""

GRACE_S = 20.0
_PR_SET_PDEATHSIG = 1


class DevError(FactoryError):
    """A UI that cannot start: the message says why."""


def serve(settings: Settings, port: int) -> int:
    """Run `dagster dev` on 127.0.0.1 until it ends or this process is told to end; return its exit code.

    Raises:
        DevError: the port is taken, or not for this user.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "taken" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
            raise DevError(f"port {port} on {HOST} is {why}: choose another with --port") from None
    settings.paths.create()
    from assets.models.runner import manifest

    manifest(settings)
    folder = prepare_instance(settings)
    with open_instance(settings) as instance:
        close_abandoned_runs(instance)
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "--host", HOST, "--port", str(port)]
    command += ["--workspace", str(folder / "workspace.yaml"), "--log-level", "warning"]
    group = subprocess.Popen(
        command, env=os.environ | environment(settings), start_new_session=True, preexec_fn=_end_with_parent
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return group.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end_group(group)


def end_group(group: subprocess.Popen[bytes]) -> None:
    """End a process and all it started: asked first, then told."""
    deadline = time.monotonic() + GRACE_S
    _signal(group.pid, signal.SIGINT)
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(group.pid, signal.SIGKILL)
    group.wait()


def _alive(group: subprocess.Popen[bytes]) -> bool:
    group.poll()
    try:
        os.killpg(group.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _end_with_parent() -> None:
    """In the child: be interrupted when the parent dies, even by SIGKILL (Linux), also when started with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
