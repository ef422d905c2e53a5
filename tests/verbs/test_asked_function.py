"""Functions of Python in the place of an endpoint: the same numbers, the same refusals, the same budget."""

from __future__ import annotations

import pytest
import torch
from tests.contract.letters import letters
from tests.models.black_boxes import (
    STANDS,
    WORDS,
    scripted,
    stand,
    tiny_lm,
    write_box,
    write_labelled,
    write_rows,
    write_texts,
)

import palimpsest as pal
from palimpsest.errors import EndpointError, ModelError, PlanError
from palimpsest.models.black_boxes import box_named
from palimpsest.models.encoded_arrays import encoded

METRIC = {"image_classifier": "accuracy", "text_classifier": "accuracy", "causal_lm": "nll"}


def function_of(kind, model, calls=None):
    """What the stand answers, by a call, in tensors where there are numbers."""

    def answer(given, prompts=None):
        if calls is not None:
            calls.append((len(given), None if prompts is None else tuple(prompts.shape)))
        values = encoded(given.numpy()) if kind == "image_classifier" else {"tokens": given}
        if prompts is not None:
            values |= {"prompts": encoded(prompts.numpy()), "prompt_of": list(range(len(given)))}
        said = stand(kind).answer(model, values)
        if kind != "causal_lm":
            return torch.tensor(said["probs"])
        return said | {"logprobs": [torch.tensor(row) for row in said["logprobs"]]}

    return answer


def function_box(kind, model=None, calls=None, **more):
    """The stand as a ``pal.BlackBox``."""
    found = stand(kind)
    function = function_of(kind, model or found.model(), calls)
    if kind == "image_classifier":
        return pal.BlackBox(function, **found.fields, **more)
    said = {"kind": kind, "tokenizer": letters(), **found.fields}
    labels = said.pop("labels", None)
    return pal.BlackBox(function, labels=labels, texts=said, **more)


def rows_for(kind, folder):
    if kind == "image_classifier":
        return str(write_rows(folder / "rows.npz"))
    write = write_texts if kind == "causal_lm" else write_labelled
    return str(write(folder / "rows.jsonl"))


@pytest.mark.parametrize("kind", [one.kind for one in STANDS])
def test_a_function_is_measured_as_an_endpoint_is(kind, tmp_path):
    data, calls, metric = rows_for(kind, tmp_path), [], METRIC[kind]
    model = stand(kind).model()
    found = pal.measure(function_box(kind, model, calls), data, metrics=[metric]).scores[metric]
    with scripted([], model, kind=kind) as url:
        box = write_box(tmp_path / "box.json", url, kind)
        wanted = pal.measure(str(box), data, metrics=[metric]).scores[metric]
    assert found.value == pytest.approx(wanted.value, abs=1e-6)
    assert sum(number for number, _ in calls) == found.n == wanted.n


PLAN = {"training": {"max_steps": 2, "batch_size": 2}, "options": {"q": 2, "length": 2}}


def test_a_soft_prompt_is_learned_before_a_function_which_is_in_no_file(tmp_path):
    data, calls = rows_for("causal_lm", tmp_path), []
    box = function_box("causal_lm", calls=calls, price_per_query=0.01, budget=500)
    run = pal.learn(box, data, method="prompt_tuning", plan=PLAN, output=tmp_path / "out")
    assert f"{sum(number for number, _ in calls)} queries were spent" in " ".join(run.notes)
    assert {shape for _, shape in calls} > {None}
    with pytest.raises(ModelError, match="asks a function of Python that is in no file"):
        pal.measure(str(tmp_path / "out"), data)
    made = pal.learn(box, data, method="prompt_tuning", plan=PLAN).model.module
    made(input_ids=torch.tensor([[1, 2, 3]]))
    assert calls[-1] == (1, (1, 2, 8)), "in memory it asks the function, with its prompt"


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [(one.kind, wrong, said) for one in STANDS if one.kind != "image_classifier" for wrong, said in one.wrong]
    + [("causal_lm", lambda right: [1, 2], 'no object with "logprobs"')],
)
def test_what_is_no_answer_is_never_taken_for_one(kind, wrong, said):
    if "labels are" in said:
        pytest.skip("a function says no labels")
    found, box = stand(kind), box_named(kind)
    facts = box.Facts(kind=kind, function="f", **found.fields)
    questions = box.probes(facts)[:3]
    right = found.answer(found.model(), box.content(questions))
    made = wrong(right)
    if kind == "text_classifier":
        made = made.get("probs") if isinstance(made, dict) else made
        said = "no list of lists" if made is None else said
    with pytest.raises(EndpointError, match=said):
        box.read_of_function(made, questions, facts)


def test_a_budget_and_a_failure_are_one_line(tmp_path):
    data, calls = rows_for("causal_lm", tmp_path), []
    with pytest.raises(PlanError, match=r"asks up to \d+ queries and the budget of .* is 20; nothing was asked"):
        pal.learn(function_box("causal_lm", calls=calls, budget=20), data, method="prompt_tuning", plan=PLAN)
    assert not calls

    def broken(tokens):
        raise RuntimeError("no\nand more")

    box = pal.BlackBox(broken, texts={"kind": "causal_lm", "vocabulary": WORDS, "tokenizer": letters()})
    with pytest.raises(EndpointError, match=r"the function broken failed \(RuntimeError: no and more\)$"):
        pal.measure(box, data)


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("causal_lm", {"labels": ["a", "b"]}, "labels"),
        ("text_classifier", {"vocabulary": None}, "vocabulary cannot be used"),
        ("text_classifier", {"prompt_width": 8}, "prompt_width"),
        ("image_classifier", {"vocabulary": 7}, "vocabulary"),
        ("causal_lm", {"tokenizer": 5}, "tokenizer is a int; accepted: one of transformers, or a folder"),
        ("speech", {}, "unknown kind of black box 'speech'"),
    ],
)
def test_what_is_not_of_a_kind_is_refused(kind, more, said):
    fields = stand(kind).fields if kind in METRIC else {}
    with pytest.raises(ModelError, match=said):
        pal.BlackBox(len, texts={"kind": kind, **fields, **more})


@pytest.mark.parametrize("given", [None, "len", 5])
def test_what_cannot_be_called_is_no_black_box(given):
    with pytest.raises(ModelError, match=f"given a {type(given).__name__}; accepted: a function"):
        pal.BlackBox(given, **stand("image_classifier").fields)


def test_a_tokenizer_in_a_folder_is_read_there(tmp_path):
    letters().save_pretrained(tmp_path / "letters")
    model, data = tiny_lm(), rows_for("causal_lm", tmp_path)
    function = function_of("causal_lm", model)
    box = pal.BlackBox(function, texts={"kind": "causal_lm", "vocabulary": WORDS, "tokenizer": tmp_path / "letters"})
    found = pal.measure(box, data, metrics=["nll"]).scores["nll"].value
    wanted = pal.measure(function_box("causal_lm", model), data, metrics=["nll"]).scores["nll"].value
    assert found == pytest.approx(wanted)
