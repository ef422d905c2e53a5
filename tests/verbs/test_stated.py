"""Wrong input from Python is refused in one line that says what Python accepts."""

from __future__ import annotations

import signal

import numpy as np
import pandas as pd
import pytest
import torch
from tests.verbs.test_in_memory import FAST, in_memory
from torch import nn
from transformers import AutoModelForCausalLM, TrainingArguments

import palimpsest as pal
from palimpsest.data.read.examples import read_rows
from palimpsest.errors import DataError, Interrupted, ModelError, PlanError
from palimpsest.integrations.trainer import ObjectiveTrainer

PIXELS = 4


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * PIXELS**2, 5))


def classifier(**stated: object) -> pal.Model:
    return pal.Model.of(net(), **{"num_outputs": 5, "image_size": PIXELS, **stated})


@pytest.fixture(scope="module")
def parts(clinic):
    model = in_memory(clinic / "model")
    return model.module, model.tokenizer


WRONG = {
    "mean": ({"image_mean": 0.5}, "image_mean is 0.5; accepted: one number per channel"),
    "no mean": ({"image_mean": None}, "image_mean is None; accepted"),
    "text": ({"image_std": "abc"}, "image_std is 'abc'; accepted"),
    "truth": ({"image_std": (True, True, True)}, "accepted: one number per channel"),
    "nan": ({"image_std": (1, 1, float("nan"))}, "accepted: one number per channel"),
    "zero": ({"image_std": (0, 0, 0)}, "accepted: numbers above 0"),
    "channels": ({"image_std": (1, 1)}, "has 3 numbers and image_std 2"),
    "size": ({"image_size": 0.5}, "image_size is 0.5; accepted"),
    "true size": ({"image_size": True}, "image_size is True; accepted"),
    "outputs": ({"num_outputs": "5"}, "num_outputs is '5'; accepted"),
    "length": ({"max_length": -1}, "max_length is -1; accepted: the most tokens"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_said_of_a_module_is_checked(name):
    stated, said = WRONG[name]
    with pytest.raises(ModelError) as caught:
        classifier(**stated)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple])
def test_numbers_come_in_any_kind_of_list(kind):
    assert classifier(image_mean=kind([0.25, 0.5, 0.75])).facts.image_mean == (0.25, 0.5, 0.75)


def test_what_takes_the_place_of_something_else_is_refused(parts):
    module, tokenizer = parts
    for given in ((tokenizer, module), (module, module)):
        with pytest.raises(ModelError, match=r"accepted: pal.Model.of\(module, tokenizer\)"):
            pal.Model.of(*given)


def test_a_tokenizer_is_asked_for_as_python_gives_it(parts, clinic):
    bare = pal.Model.of(parts[0])
    for call in (
        lambda: pal.learn(bare, clinic / "learn.jsonl", plan=FAST),
        lambda: pal.measure(bare, clinic / "learn.jsonl"),
    ):
        with pytest.raises(ModelError, match=r"has no tokenizer; give it, too: pal.Model.of\(module, tokenizer\)$"):
            call()
    assert pal.measure(bare, [{"input_ids": [1, 2, 3]}], token_ids=True, metrics=["ma"]).scores["ma"].n == 1


@pytest.mark.parametrize("plan", ["x", 3, {"options": [1]}, {"training": 3}, {"trainin": {}}])
def test_a_plan_of_a_trainer_is_checked(plan, clinic, tmp_path):
    module = AutoModelForCausalLM.from_pretrained(clinic / "model")
    sets = {"forget": clinic / "forget.jsonl", "retain": clinic / "retain.jsonl"}
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(PlanError, match=r"^plan"):
        ObjectiveTrainer(module, args, method="grad_diff", sets=sets, plan=plan)


def test_a_trainer_sends_a_module_of_ones_own_to_the_verbs(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    rows = [{"image": np.zeros((PIXELS, PIXELS, 3), np.uint8), "label": 0}]
    with pytest.raises(PlanError, match=r"a Sequential does not say what it takes; accepted: .*pal\.Model\.of"):
        ObjectiveTrainer(net(), args, method="grad_diff", sets={"forget": rows, "retain": rows})


def test_a_frame_is_told_of_arguments_of_python():
    with pytest.raises(DataError) as caught:
        read_rows(pd.DataFrame({"question": ["a"], "answer": ["b"]}), name="learn")
    assert "then say columns={'prompt': 'question', 'completion': 'answer'};" in str(caught.value)
    assert "--" not in str(caught.value)
    rows = read_rows(pd.DataFrame({"text": ["a"], "subjct": ["b"]}))
    assert "columns={'subject': 'subjct'}" in rows.notes[0]


def test_columns_are_told_how_to_become_rows():
    with pytest.raises(DataError, match=r"of columns give datasets\.Dataset\.from_dict\(columns\)"):
        read_rows({"prompt": ["a"], "completion": ["b"]}, name="learn")


def test_an_image_may_be_a_tensor():
    pixels = torch.arange(PIXELS**2 * 3, dtype=torch.uint8).reshape(PIXELS, PIXELS, 3)
    kinds = [read_rows([{"image": image, "label": 1}]).examples for image in (pixels, pixels.numpy())]
    assert kinds[0] == kinds[1]
    with pytest.raises(DataError, match=r"tensor of float32, 3 x 4 x 4; accepted: uint8, height x width x channels"):
        read_rows([{"image": torch.rand(3, PIXELS, PIXELS), "label": 1}])


def test_lora_needs_a_layer_under_the_head(parts, clinic):
    vocabulary = len(parts[1])

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.cell = nn.Embedding(vocabulary, 8), nn.GRU(8, 8, batch_first=True)
            self.head = nn.Linear(8, vocabulary)

        def forward(self, tokens):
            return self.head(self.cell(self.embedding(tokens))[0])

    model = pal.Model.of(Recurrent(), parts[1], num_outputs=vocabulary)
    with pytest.raises(
        ModelError, match=r"no linear layer lies under the head of the model; accepted: scope\.kind=all"
    ):
        pal.learn(model, clinic / "learn.jsonl", plan={**FAST, "scope": {"kind": "lora"}})


def test_an_interruption_in_memory_names_no_folder(parts, clinic):
    def strike(stage: str, *_: object) -> None:
        if stage == "training":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        pal.learn(pal.Model.of(*parts), clinic / "learn.jsonl", plan=FAST, progress=strike)
    assert "; nothing of it is kept: give an output to be able to go on" in str(caught.value)
    assert "partial" not in str(caught.value)
