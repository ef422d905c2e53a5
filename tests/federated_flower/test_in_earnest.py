"""Through Flower's simulation, and in real processes on the loopback: the same bits, and a node that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tests.federated_flower.toys  # noqa: F401 (skips this file where Flower is missing)
import torch

from palimpsest.companions.marks import own_key
from palimpsest.companions.rounds import RoundLedger
from palimpsest.demo.tiny_model import new_model

ROOT = Path(__file__).parents[2]
LYING = Path(__file__).with_name("lying.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and three clients, and what they learn together in one process; named "here"."""
    made = tmp_path_factory.mktemp("earnest")
    texts = {name: [f"Client {name} saw {n} birds on day {n}." for n in range(4)] for name in "abc"}
    for name, own in texts.items():
        rows = [json.dumps({"id": f"{name}{n}", "text": text}) for n, text in enumerate(own)]
        (made / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    new_model(made / "model", [text for own in texts.values() for text in own], seed=0)
    for _ in told(made, "here"):
        pass
    return made


def told(folder: Path, way: str, *more: str, output: str = "", lie: str = "") -> Iterator[str]:
    """What the command says while it runs; it must end well. With a lie client c tells it (``lying.py``)."""
    clients = [word for name in "abc" for word in ("--client", f"{name}={name}.jsonl")]
    command = [sys.executable, *([str(LYING)] if lie else ["-m", "palimpsest"]), "federated", "run"]
    command += ["--model", "model", *clients, "--output", output or way, "--through", way]
    command += ["--rounds", "2", "--epochs", "1", "--lr", "0.002", *more]  # no first round is a trial
    python = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": python, "LIAR": "c", "LIE": lie}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            yield line
    assert process.returncode == 0, "".join(lines)
    assert not any("Traceback" in line for line in lines)


def weights_of(folder: Path, way: str) -> bytes:
    return (folder / way / "model.safetensors").read_bytes()


@pytest.mark.long
def test_the_simulation_gives_the_bits_of_one_process(folder: Path) -> None:
    said = list(told(folder, "simulation"))
    assert any("3 clients answered" in line for line in said)
    assert weights_of(folder, "simulation") == weights_of(folder, "here")


@pytest.mark.long
def test_real_processes_survive_a_node_that_is_killed(folder: Path) -> None:
    killed = False
    for line in told(folder, "processes", "--timeout", "100"):
        if line.startswith("round 1: loss") and not killed:
            killed = True
            node_of("c").kill()
    assert killed
    key = own_key()
    assert key is not None
    names = {key.of_id(name): name for name in "abc"}
    ledgers = {way: RoundLedger.open(folder / way / "companion" / "rounds", key) for way in ("here", "processes")}
    ((weights, first, nobody), (_, second, absent)) = (ledgers["processes"].heard(n, names) for n in range(2))
    _, here, _ = ledgers["here"].heard(0, names)
    assert sorted(first) == ["a", "b", "c"]
    assert not nobody
    assert all(first[c].delta[name].equal(here[c].delta[name]) for c in first for name in weights), "the same bits"
    assert sorted(second) == ["a", "b"]
    ((gone, why),) = absent
    assert (gone, bool(why)) == ("c", True)
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())]


@pytest.mark.long
def test_real_processes_bear_one_client_that_is_thirty_times_too_loud(folder: Path) -> None:
    """The same round as with honest clients, but for its length; the median is between them; the report names it."""
    said = "".join(told(folder, "processes", "--combine", "median", "--rounds", "1", output="loud", lie="loud"))
    key = own_key()
    assert key is not None
    names = {key.of_id(name): name for name in "abc"}
    ledgers = {way: RoundLedger.open(folder / way / "companion" / "rounds", key) for way in ("here", "loud")}
    ((weights, honest, _), (_, heard, absent)) = (ledgers[way].heard(0, names) for way in ("here", "loud"))
    assert not absent
    for name, tensor in weights.items():
        own = {client: reply.delta[name] for client, reply in heard.items()}
        assert all(own[client].equal(honest[client].delta[name]) for client in "ab"), "the honest have the same bits"
        assert torch.allclose(own["c"], 30 * honest["c"].delta[name])
        middle = torch.stack(list(own.values())).median(0).values
        assert torch.allclose(ledgers["loud"].final[name] - tensor, middle, atol=1e-6)
    assert "1 change stood out by length; the first: c in round 1" in said
    assert "median, by which answers were combined, bears a few such" in said


def node_of(client: str) -> psutil.Process:
    """Flower's supernode of a client: the one whose config names it."""
    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        if any("flower-supernode" in word for word in words) and "--node-config" in words:
            config = Path(words[words.index("--node-config") + 1])
            if f'client = "{client}"' in config.read_text(encoding="utf-8"):
                return process
    raise AssertionError(f"no node of {client}")
