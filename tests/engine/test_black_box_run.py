"""Runs against a real server on this machine: killed and gone on with, budgets, credentials, what is noticed."""

from __future__ import annotations

import json

import pytest
from tests.contract.letters import letters
from tests.models.black_boxes import (
    STANDS,
    scripted,
    stand,
    tiny_net,
    tiny_texts,
    write_box,
    write_labelled,
    write_rows,
    write_texts,
)

import palimpsest as pal
from palimpsest.engine.serving import ServedModel, description_of, serving, write_description
from palimpsest.errors import EndpointError, ModelError, PlanError
from palimpsest.models.black_box_file import facts_from
from palimpsest.models.load import load
from palimpsest.models.query_ledger import QueryLedger

PLAN = {"training": {"max_steps": 6, "batch_size": 4, "checkpoint_steps": 2}, "options": {"q": 2}}
SGD = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0}
PLANS = {  # by which a prompt is found that is kept
    "prompt_tuning": {"training": PLAN["training"] | {"learning_rate": 1.0}, "options": {"q": 4}},
    "spul": {
        "training": {"max_steps": 8, "batch_size": 2, "checkpoint_steps": 2, **SGD},
        "options": {"q": 4, "length": 2},
    },
    "guard": {},
}
SECRET = "t0p-s3cret-value"
RUNS = {"bar": "image_classifier", "prompt_tuning": "causal_lm", "spul": "causal_lm", "guard": "causal_lm"}
"""Method -> the kind of black box that it is for."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Method -> folder of a tiny model."""
    found = {}
    for method, kind in RUNS.items():
        found[method] = tmp_path_factory.mktemp(method)
        stand(kind).model().save_pretrained(found[method])
        if kind == "causal_lm":
            letters().save_pretrained(found[method])
    return found


def changed(method, box, folder, output, **more):
    """A run of a method with rows of its own."""
    if method == "bar":
        return learned(box, write_rows(folder / "rows.npz"), output, **more)
    given = {"method": method, "output": output, "plan": PLANS[method], **more}
    if method == "prompt_tuning":
        return pal.learn(str(box), str(write_texts(folder / "t.jsonl")), **given)
    forget, retain = (str(write_texts(folder / f"{tag}.jsonl", tag=tag)) for tag in "fk")
    return pal.unlearn(str(box), forget, retain=retain, **given)


def learned(box, data, output, **more):
    return pal.learn(str(box), str(data), method="bar", output=output, plan=PLAN, **more)


class Killed(BaseException):
    """As if the process had gone."""


@pytest.mark.parametrize("method", RUNS)
def test_killed_at_any_request_it_pays_what_is_needed_and_ends_with_the_same_digest(
    method, served, tmp_path, monkeypatch
):
    """Killed after the server answered and before the answer was written: the worst moment there is."""
    answer, found = QueryLedger.answer, {}
    for kills in ((), (0, 1, 3, 2) if method != "guard" else (0, 1)):
        model = ServedModel(load(served[method]))
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
                    changed(method, box, tmp_path, output)
            monkeypatch.setattr(QueryLedger, "answer", answer)
            changed(method, box, tmp_path, output)
            found[kills] = (model.queries, parts_of(output))
    (needed, *plain), (paid, *resumed) = found.values()
    assert paid == needed
    assert plain == resumed != [{}]


def parts_of(folder):
    return {path.name + path.parent.name: path.read_bytes() for path in sorted(folder.glob("parts/*/*.safetensors"))}


def test_a_budget_that_is_too_small_is_refused_before_anything_is_asked(tmp_path):
    seen, data = [], write_rows(tmp_path / "rows.npz")
    with scripted([], tiny_net(), seen) as url:
        box = write_box(tmp_path / "box.json", url, budget=30, price_per_query=0.5)
        said = r"asks up to \d+ queries and the budget of .* is 30; nothing was asked.*bar\.q"
        with pytest.raises(PlanError, match=said):
            learned(box, data, tmp_path / "out")
    assert not seen
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_a_description_without_a_tokenizer_asks_nobody_for_one(tmp_path, monkeypatch):
    """Its name is no name of the Hub."""
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: pytest.fail("was looked up"))
    box = write_box(tmp_path / "box.json", "http://127.0.0.1:1/", "causal_lm", tokenizer="")
    with pytest.raises(ModelError, match="name a folder that has one in its field tokenizer"):
        pal.measure(str(box), str(write_texts(tmp_path / "t.jsonl")))


def test_the_cost_is_told_before_the_first_query(tmp_path):
    seen, said, data = [], [], write_rows(tmp_path / "rows.npz")

    def progress(stage, done, total, note=""):
        said.append((len(seen), note))

    with scripted([], tiny_net(), seen) as url:
        box = write_box(tmp_path / "box.json", url, budget=10, price_per_query=0.5)
        with pytest.raises(PlanError, match=r"up to 12 queries and the budget.*; give a larger budget or fewer rows$"):
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


@pytest.mark.parametrize("method", RUNS)
def test_a_credential_is_in_no_file_and_in_nothing_that_is_said(method, served, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("BOX_TOKEN", SECRET)
    said, model = [], ServedModel(load(served[method]))
    with serving(model, token=SECRET) as port:
        box = tmp_path / "box.json"
        write_description(box, description_of(model, port, "BOX_TOKEN"))
        result = changed(method, box, tmp_path, tmp_path / "out", progress=lambda *told: said.append(told))
        data = next(path for name in ("rows.npz", "t.jsonl", "f.jsonl") if (path := tmp_path / name).exists())
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


@pytest.mark.parametrize(
    ("kind", "method", "said"),
    [
        ("image_classifier", "finetune", r"'finetune' needs gradients and model .* accepted: bar"),
        ("causal_lm", "finetune", r"'finetune' needs gradients and model .* accepted: prompt_tuning"),
        ("causal_lm", "bar", "'bar' works on images alone and model .* accepted: prompt_tuning"),
        ("text_classifier", "finetune", "'finetune' needs gradients and model .* accepted: measure, which needs no"),
        ("text_classifier", "bar", "'bar' works on images alone and model .* accepted: measure, which needs no method"),
    ],
)
def test_a_method_that_is_for_something_else_is_refused_unasked(kind, method, said, tmp_path):
    box = write_box(tmp_path / "box.json", "http://127.0.0.1:1/", kind=kind)
    written = {"image_classifier": write_rows, "causal_lm": write_texts, "text_classifier": write_labelled}[kind]
    name = "rows.npz" if kind == "image_classifier" else "rows.jsonl"
    with pytest.raises(PlanError, match=said):
        pal.learn(str(box), str(written(tmp_path / name)), method=method, output=tmp_path / "out")


def test_a_classifier_of_texts_is_measured_as_it_is_locally(tmp_path):
    data, model = write_labelled(tmp_path / "rows.jsonl"), tiny_texts()
    model.save_pretrained(tmp_path / "net")
    letters().save_pretrained(tmp_path / "net")
    names = ["accuracy", "prob", "nll", "entropy"]
    local = pal.measure(str(tmp_path / "net"), str(data), metrics=names).scores
    with scripted([], model, kind="text_classifier") as url:
        found = pal.measure(
            str(write_box(tmp_path / "box.json", url, kind="text_classifier")), str(data), metrics=names
        )
    assert {name: found.scores[name].value for name in names} == pytest.approx(
        {name: local[name].value for name in names}, rel=1e-5
    )


@pytest.mark.parametrize("one", STANDS, ids=lambda one: one.kind)
def test_what_serve_model_describes_is_a_description(one):
    """Each served model says of itself what its kind needs to know, and answers what its kind asks."""
    model = ServedModel(one.loaded(one.model()))
    facts = facts_from(description_of(model, 1), "box")
    assert (facts.kind, model.box.name) == (one.kind, one.kind)
    body = json.dumps(facts.box.content(facts.box.probes(facts))).encode()
    assert len(facts.box.read(json.loads(model.answer(body, "k")), facts.box.probes(facts), facts)) == 16
    model.answer(body, "k")
    assert model.queries == 16
    for wrong in (b"{}", b"[]", b'{"tokens": [[9999]]}', b'{"tokens": [[]]}', b'{"shape": [1], "inputs": 3}', b"x"):
        with pytest.raises(ValueError, match="."):
            model.answer(wrong, None)


def test_answers_of_a_served_language_model_are_not_shown(tmp_path):
    box = write_box(tmp_path / "box.json", "http://127.0.0.1:1/", kind="causal_lm")
    with pytest.raises(PlanError, match="each token of them would be a question; leave --show out"):
        pal.measure(str(box), str(write_texts(tmp_path / "rows.jsonl")), show=1)


def test_metrics_that_look_at_all_words_say_that_they_do_not_apply(tmp_path):
    with scripted([], stand("causal_lm").model(), kind="causal_lm") as url:
        box = write_box(tmp_path / "box.json", url, kind="causal_lm")
        found = pal.measure(str(box), str(write_texts(tmp_path / "r.jsonl")), metrics=["nll", "entropy", "el"]).scores
    assert found["nll"].n == 6
    assert "of a black box, which can only be asked" in found["entropy"].why
    assert "greedy continuations" in next(score.why for name, score in found.items() if name.startswith("el"))


@pytest.mark.parametrize("body", [b'{"tokens": [[1e400, 2]]}', b"[" * 100_000, b"[]", b'{"tokens": [[-1]]}', b"x"])
def test_what_is_no_request_is_refused_and_not_counted(served, body):
    model = ServedModel(load(served["spul"]))
    with pytest.raises(ValueError, match="documented|token ids|Expecting"):
        model.answer(body, None)
    assert model.queries == 0
