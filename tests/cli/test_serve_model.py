"""``palimpsest serve-model`` in a process of its own, and the commands that ask it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from tests.models.black_boxes import tiny_net, write_rows

from palimpsest.cli import main

STEPS = ("training.max_steps=3", "training.batch_size=4", "bar.q=2")


@pytest.fixture
def endpoint(tmp_path):
    """A description that a running server wrote, and how to end the server: its exit status and what it said."""
    tiny_net().save_pretrained(tmp_path / "net")
    described = tmp_path / "blackbox.json"
    command = [sys.executable, "-m", "palimpsest", "serve-model", str(tmp_path / "net"), "--describe", str(described)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:

        def ended() -> tuple[int, str]:
            server.send_signal(signal.SIGINT)
            said, _ = server.communicate(timeout=60)
            return server.returncode, said

        try:
            while not described.is_file() and server.poll() is None:
                time.sleep(0.02)
            yield described, ended
        finally:
            server.kill()


def test_what_is_served_is_measured_and_taught_by_commands(endpoint, tmp_path, capsys):
    described, ended = endpoint
    data = str(write_rows(tmp_path / "rows.npz"))
    assert main(["measure", "--model", str(described), "--data", data, "--metrics", "accuracy", "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] <= 1
    output = tmp_path / "taught"
    sets = [part for value in STEPS for part in ("--set", value)]
    given = ["--model", str(described), "--data", data, "--method", "bar", "--output", str(output), *sets]
    assert main(["learn", *given]) == 0
    status, said = ended()
    lines = map(json.loads, (output / "queries.jsonl").read_text().splitlines())
    asked = sum(len(line.get("answers", ())) for line in lines)
    assert status in (0, 130)
    assert "Traceback" not in said
    counted = int(said.rsplit(" queries were answered", 1)[0].split()[-1])
    assert counted == asked  # what measure asked is the first request of the run, and billed once
