"""Runs against a real server on this machine: killed and gone on with, budgets, credentials, what is noticed."""

from __future__ import annotations

import json

import pytest
from tests.models.black_boxes import scripted, tiny_net, write_box, write_rows

import palimpsest as pal
from palimpsest.engine.serving import ServedModel, description_of, serving, write_description
from palimpsest.errors import EndpointError, PlanError
from palimpsest.models.load import load
from palimpsest.models.query_ledger import QueryLedger

PLAN = {"training": {"max_steps": 6, "batch_size": 4, "checkpoint_steps": 2}, "options": {"q": 2}}
SECRET = "t0p-s3cret-value"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    tiny_net().save_pretrained(folder)
    return folder


def learned(box, data, output, **more):
    return pal.learn(str(box), str(data), method="bar", output=output, plan=PLAN, **more)


class Killed(BaseException):
    """As if the process had gone."""


def test_killed_at_any_request_it_pays_what_is_needed_and_ends_with_the_same_digest(served, tmp_path, monkeypatch):
    """Killed after the server answered and before the answer was written: the worst moment there is."""
    data, answer = write_rows(tmp_path / "rows.npz"), QueryLedger.answer
    found = {}
    for kills in ((), (0, 1, 3, 2)):
        model = ServedModel(load(served))
        with serving(model) as port:
            box = tmp_path / "box.json"
            write_description(box, description_of(model, port))
            output = tmp_path / f"out-{len(kills)}"
            for after in kills:
                left = [after]

                def dying(self, number, answers, left=left):
                    left[0] -= 1
                    if left[0] < 0:
                        raise Killed
                    answer(self, number, answers)

                monkeypatch.setattr(QueryLedger, "answer", dying)
                with pytest.raises(Killed):
                    learned(box, data, output)
            monkeypatch.setattr(QueryLedger, "answer", answer)
            learned(box, data, output)
            found[kills] = (model.queries, parts_of(output))
    (needed, *plain), (paid, *resumed) = found.values()
    assert paid == needed
    assert plain == resumed


def parts_of(folder):
    return {path.name + path.parent.name: path.read_bytes() for path in sorted(folder.glob("parts/*/*.safetensors"))}


def test_a_budget_that_is_too_small_is_refused_before_anything_is_asked(tmp_path):
    seen, data = [], write_rows(tmp_path / "rows.npz")
    with scripted([], tiny_net(), seen) as url:
        box = write_box(tmp_path / "box.json", url, budget=30, price_per_query=0.5)
        with pytest.raises(PlanError, match=r"asks up to \d+ queries and the budget of .* is 30; nothing was asked"):
            learned(box, data, tmp_path / "out")
    assert not seen
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_the_cost_is_told_before_the_first_query(tmp_path):
    seen, said, data = [], [], write_rows(tmp_path / "rows.npz")

    def progress(stage, done, total, note=""):
        said.append((len(seen), note))

    with scripted([], tiny_net(), seen) as url:
        box = write_box(tmp_path / "box.json", url, budget=10, price_per_query=0.5)
        with pytest.raises(PlanError, match="up to 12 queries and the budget"):
            pal.measure(str(box), str(data), metrics=["accuracy"], progress=progress)
        box = write_box(tmp_path / "box.json", url, budget=12, price_per_query=0.5)
        found = pal.measure(str(box), str(data), metrics=["accuracy"], progress=progress)
    assert (0, "at most 12 queries, 6.00 at 0.5 each") in said
    assert sum(number for _, number in seen) == found.scores["accuracy"].n == 12


def test_a_server_that_fails_leaves_what_was_paid_for(tmp_path):
    data, seen = write_rows(tmp_path / "rows.npz"), []
    bad = [None, None, None, (200, {}, b"{}")]
    with scripted(bad, tiny_net(), seen) as url:
        box = write_box(tmp_path / "box.json", url)
        with pytest.raises(EndpointError, match='no object with "probs"'):
            learned(box, data, tmp_path / "out")
        before = sum(number for _, number in seen)
        result = learned(box, data, tmp_path / "out")
    assert before > 0
    assert "of them without an answer" in " ".join(result.notes)
    keys = [headers["Idempotency-Key"] for headers, _ in seen]
    assert len(keys) - len(set(keys)) == 1, "only the request whose answer could not be used was asked again"


def test_a_credential_is_in_no_file_and_in_nothing_that_is_said(served, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("BOX_TOKEN", SECRET)
    data, said = write_rows(tmp_path / "rows.npz"), []
    model = ServedModel(load(served))
    with serving(model, token=SECRET) as port:
        box = tmp_path / "box.json"
        write_description(box, description_of(model, port, "BOX_TOKEN"))
        result = learned(box, data, tmp_path / "out", progress=lambda *told: said.append(told))
        monkeypatch.setenv("BOX_TOKEN", SECRET + "-wrong")
        with pytest.raises(EndpointError, match="is the credential in BOX_TOKEN right") as error:
            pal.measure(str(box), str(data))
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(everything) > 8
    assert not [content for content in everything if SECRET.encode() in content]
    assert SECRET not in f"{said} {result.model_dump_json()} {error.value} {capfd.readouterr()}"


def test_a_version_notices_that_the_model_behind_it_changed(tmp_path):
    import torch

    data, other = write_rows(tmp_path / "rows.npz"), tiny_net()
    with torch.no_grad():
        other.linear.weight.add_(torch.randn_like(other.linear.weight))
    with scripted([], tiny_net()) as url:
        box = write_box(tmp_path / "box.json", url)
        learned(box, data, tmp_path / "out")
        before = pal.measure(str(tmp_path / "out"), str(data)).scores["accuracy"].value
    config = tmp_path / "out" / "base" / "config.json"
    assert len(json.loads(config.read_text())["probe_answers"]) == 16
    assert before is not None
    with scripted([], other) as url:
        moved = json.loads(config.read_text())
        moved["asked"]["url"] = url
        config.write_text(json.dumps(moved))
        (tmp_path / "out" / "manifest.json").unlink()
        with pytest.raises(EndpointError, match="16 probes otherwise than when this version was made"):
            pal.measure(str(tmp_path / "out"), str(data))


def test_a_method_that_needs_gradients_is_refused(tmp_path):
    box = write_box(tmp_path / "box.json", "http://127.0.0.1:1/")
    with pytest.raises(PlanError, match=r"'finetune' needs gradients and model .* accepted: bar"):
        pal.learn(str(box), str(write_rows(tmp_path / "rows.npz")), output=tmp_path / "out")
