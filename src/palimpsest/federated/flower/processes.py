"""A server and a node for every client, each a process of its own, on the loopback of this machine.

    flower-superlink   carries messages          (Flower's)
    flower-supernode   one for each client       (Flower's; its client app is ``apps.client``)
    flwr run           hands the app in          (``apps.server`` makes the call in a process of its own)

The same three commands on several machines are a federation whose rows do not leave their owners: docs/federated.md.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palimpsest.engine.output import Output
from palimpsest.engine.progress import Progress
from palimpsest.engine.unfinished import told_how_far
from palimpsest.errors import RunError
from palimpsest.federated.flower.ending import end_families, ended_with_us
from palimpsest.federated.flower.flower_job import TOLD, FlowerJob
from palimpsest.printed import as_line
from palimpsest.report.schema import RunResult

APPS = '''"""The two apps of palimpsest under the names by which Flower finds them: it looks for assignments."""

from palimpsest.federated.flower import apps

client = apps.client
server = apps.server
'''
HERE = "127.0.0.1"
STARTS_IN = 600.0
"""Seconds in which Flower's server must take the run."""
LOOK_AT_SERVER = 0.2
"""Seconds between two looks at how far it is."""


def in_processes(job: FlowerJob, local: str, rows: Mapping[str, str], progress: Progress) -> RunResult:
    """Make a call with every client in a process of its own; it is taken up again like any other.

    Args:
        job: the call; its file is placed here.
        local: plan of the local work, as JSON.
        rows: client -> file of its rows.
        progress: told what the server tells.

    Raises:
        PalimpsestError: what the call raised; or Flower did not start.
    """
    with tempfile.TemporaryDirectory(prefix="palimpsest-flower-") as made:
        folder = Path(made)
        job = job._replace(place=folder / "job.json")
        job.write()
        write_app(folder / "app", {"job": str(job.place), "local": local, "layout": job.how["layout"]}, job)
        with told_how_far(Output(Path(job.output)).partial), _running(folder, rows) as processes:
            _hand_in(folder, processes)
            _followed(job, processes, progress)
    return RunResult.of_run(Path(job.output))


def write_app(folder: Path, config: Mapping[str, Any], job: FlowerJob) -> None:
    """A Flower app that is ours: ``flwr run FOLDER`` hands it to a server.

    Args:
        folder: of the app.
        config: of the run.
        job: whether its clients add their answers up in secret.
    """
    import tomli_w

    (folder / "palimpsest_app").mkdir(parents=True)
    (folder / "palimpsest_app" / "__init__.py").write_text('"""Apps of palimpsest."""\n', encoding="utf-8")
    (folder / "palimpsest_app" / "apps.py").write_text(APPS, encoding="utf-8")
    components = {"serverapp": "palimpsest_app.apps:server", "clientapp": "palimpsest_app.apps:client"}
    said = {**config, "secret": bool(job.how["combining"].get("secret", False))}
    app = {"publisher": "palimpsest", "components": components, "config": said}
    project = {"name": "palimpsest-app", "version": "0.1.0", "description": "A federation.", "dependencies": []}
    build = {"requires": ["hatchling"], "build-backend": "hatchling.build"}
    text = tomli_w.dumps({"project": project, "build-system": build, "tool": {"flwr": {"app": app}}})
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


@contextmanager
def _running(folder: Path, rows: Mapping[str, str]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The server and the nodes; all have ended behind the block."""
    import tomli_w

    port, *ports = free_ports(1 + len(rows))
    home = folder / "home"
    home.mkdir()
    here = {"address": f"{HERE}:{port}", "insecure": True}
    (home / "config.toml").write_text(tomli_w.dumps({"superlink": {"default": "here", "here": here}}), encoding="utf-8")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        server = ["flower-superlink", "--insecure", "--host", HERE, "--port", str(port)]
        processes[""] = _started(folder, "server", [*server, "--disable-runtime-dependency-installation"])
        for number, (client, file) in enumerate(rows.items()):
            config = folder / f"node-{number}.toml"
            said = {"client": client, "rows": absolute(file), "work": str(folder / f"work-{number}")}
            config.write_text(tomli_w.dumps(said), encoding="utf-8")
            node = ["flower-supernode", "--insecure", "--superlink", f"{HERE}:{port}", "--host", HERE]
            node += ["--port", str(ports[number]), "--node-config", str(config)]
            processes[client] = _started(folder, f"node-{number}", node)
        with ended_with_us(process.pid for process in processes.values()):
            yield processes
    finally:
        end_families(process.pid for process in processes.values())
        for process in processes.values():
            process.wait()


def absolute(source: str) -> str:
    """A place that is there, as it is found from anywhere; a Hub name as it is."""
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source


def free_ports(number: int) -> list[int]:
    """Ports of the loopback on which nobody listens now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind((HERE, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _started(folder: Path, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """One of Flower's programs, beside this Python, with its own home; what it says goes into a file."""
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 (Flower's own program, and places that we made)
            flower_command(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(folder)
        )


def flower_command(command: Sequence[str]) -> list[str]:
    """A command of Flower as it is found beside this Python.

    Raises:
        RunError: it is not there.
    """
    beside = Path(sys.executable).parent
    found = shutil.which(command[0], path=str(beside)) or shutil.which(command[0])
    if found is None:
        raise RunError(f"{command[0]} is neither in {beside} nor on PATH; install the extra 'federated' there")
    return [found, *command[1:]]


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    package = str(Path(__file__).parents[3])  # the apps are this package, wherever it was imported from
    python = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": path, "PYTHONPATH": python, "FLWR_HOME": str(folder / "home")}


def _hand_in(folder: Path, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Give the app to the server, as soon as it takes it.

    Raises:
        RunError: it does not.
    """
    until = time.monotonic() + STARTS_IN
    command = flower_command(["flwr", "run", str(folder / "app"), "here"])
    while True:
        asked = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, check=False)  # noqa: S603
        if asked.returncode == 0:
            return
        _check_server(processes)
        if time.monotonic() > until:
            raise RunError(f"Flower's server did not take the run: {as_line(asked.stdout + asked.stderr, 400)}")
        time.sleep(LOOK_AT_SERVER)


def _check_server(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    if processes[""].poll() is not None:
        raise RunError(f"Flower's server ended by itself (exit code {processes[''].returncode})")


def _followed(job: FlowerJob, processes: Mapping[str, subprocess.Popen[bytes]], progress: Progress) -> None:
    """Hand on what the server tells, until the call has ended."""
    told = job.place.with_name(TOLD)
    heard = 0
    while True:
        over = job.outcome()
        lines = told.read_text(encoding="utf-8").split("\n")[:-1] if told.exists() else []
        for line in lines[heard:]:
            progress(*json.loads(line))
        heard = len(lines)
        if over:
            return
        _check_server(processes)
        time.sleep(LOOK_AT_SERVER)
