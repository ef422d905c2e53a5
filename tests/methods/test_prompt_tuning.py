"""Prompt tuning: a step is exactly the estimate, the exact gradient a plain loop; behind an endpoint it is the same."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tests.contract.letters import letters
from tests.models import small_texts
from tests.models.black_boxes import WORDS, scripted, tiny_lm, write_box, write_texts

import palimpsest as pal
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import FrozenError, ModelError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.methods import configure
from palimpsest.methods.prompt_tuning import PromptTuning
from palimpsest.models.parts import attach, new_parts_of
from palimpsest.models.scope import Scope, apply_scope
from palimpsest.models.soft_prompting import Learner
from palimpsest.models.zeroth_order import unit_directions

STEPS, RATE, LENGTH, SEED = 3, 0.5, 2, 7


def rows() -> TextSet:
    """4 texts of one length, 3 labels each."""
    drawn = torch.randint(0, WORDS, (4, 6), generator=torch.Generator().manual_seed(3)).tolist()
    return TextSet([TokenSequence(f"r{n}", tuple(row), (False,) * 3 + (True,) * 3) for n, row in enumerate(drawn)], 0)


def tuned(folder: Path, *, at_start: bool = False, **options):
    """The tiny model with a soft prompt after a few steps over all rows, or before them, and as it was."""
    plain, learn = tiny_lm(), rows()
    model, method = (
        copy.deepcopy(plain),
        PromptTuning(configure("prompt_tuning", {"length": LENGTH, "starts": 1, **options})),
    )
    made = method.parts(model, {"learn": learn}, SEED)
    for part in made:
        part.is_new = True
    model = apply_scope(attach(model, made), Scope(kind="parts"))
    method.prepare(model, {"learn": learn})
    values = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "learning_rate": RATE,
        "batch_size": 4,
        "max_steps": STEPS,
        "lr_scheduler_type": "constant",
    }
    if not at_start:
        run(Job(method, model, {"learn": learn}, Training(**{**PromptTuning.defaults, **values}), folder))
    return model, plain


def total(plain, prompt_D, scale, ids=None) -> torch.Tensor:
    """−Σ log p of the labels behind a prompt, without any part or method; rows in the order of ``ids``."""
    learn = rows()
    tokens = learn.batch(ids or learn.ids).input_ids_BT
    text = plain.get_input_embeddings()(tokens)
    prompt = (scale * prompt_D.reshape(LENGTH, -1)).expand(len(tokens), -1, -1)
    whole = torch.cat([prompt, text], 1)
    logits = plain(inputs_embeds=whole, attention_mask=torch.ones(whole.shape[:2], dtype=torch.long)).logits[:, LENGTH:]
    logp = logits[:, 2:5].reshape(-1, WORDS).log_softmax(-1)
    return -logp.gather(1, tokens[:, 3:].reshape(-1, 1)).sum()


def start(part) -> torch.Tensor:
    return torch.randn(part.prompt_D.shape, generator=torch.Generator().manual_seed(SEED))


def test_the_run_moves_by_exactly_the_estimate(tmp_path):
    model, plain = tuned(tmp_path, q=3, beta=0.5)
    (part,) = new_parts_of(model)
    at_D = start(part)
    with torch.no_grad():
        for step in range(STEPS):
            estimate = torch.zeros_like(at_D)
            for row in rows().ids:
                here = total(plain, at_D, part.config.scale, [row]).double()
                for u in unit_directions(3, len(at_D), SEED, step, row):
                    slope = (total(plain, at_D + 0.5 * u, part.config.scale, [row]).double() - here) / 0.5
                    estimate += (len(at_D) * slope * u / 3).float()
            at_D = at_D - RATE * estimate / 12
    assert torch.allclose(part.prompt_D, at_D, atol=1e-3 * float(at_D.abs().max()))
    assert (at_D - start(part)).abs().max() > 0.01
    for name, tensor in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), "the model stays as it is"


class Watched(PromptTuning):
    """Notes whose rows a step looks at."""

    orders: tuple[tuple[str, ...], ...] = ()

    def loss(self, model, batches, phase):
        Watched.orders = (*Watched.orders, batches["learn"].ids)
        return super().loss(model, batches, phase)


def test_with_the_exact_gradient_it_is_white_box_prompt_tuning_to_the_bit(tmp_path, monkeypatch):
    """A plain loop around the network with torch's own SGD, in which nothing of a part, a method or the loop occurs."""
    monkeypatch.setattr("tests.methods.test_prompt_tuning.PromptTuning", Watched)
    Watched.orders = ()
    model, plain = tuned(tmp_path, estimator="exact")
    (part,) = new_parts_of(model)
    plain.requires_grad_(False)
    weight = torch.nn.Parameter(start(part))
    optimizer = torch.optim.SGD([weight], lr=RATE, momentum=0.0)
    assert len(Watched.orders) == STEPS
    for order in Watched.orders:
        optimizer.zero_grad()
        (total(plain, weight, part.config.scale, order) / 12).backward()
        optimizer.step()
    assert torch.equal(part.prompt_D, weight)
    assert not torch.equal(part.prompt_D, start(part))


PLAN = {"training": {"max_steps": 3, "batch_size": 2}, "options": {"q": 2, "length": LENGTH}}


def prompt_in(folder):
    from safetensors.torch import load_file

    (file,) = folder.glob("parts/*/part.safetensors")
    return load_file(file)["prompt_D"]


def test_behind_an_endpoint_it_learns_what_it_learns_locally(tmp_path):
    """Same rows, same directions: the same prompt but for the rounding of answers."""
    data, model = write_texts(tmp_path / "rows.jsonl"), tiny_lm()
    model.save_pretrained(tmp_path / "lm")
    letters().save_pretrained(tmp_path / "lm")
    scale = float(model.get_input_embeddings().weight.detach().double().square().mean().sqrt())
    given = {"method": "prompt_tuning", "plan": PLAN}
    local = pal.learn(str(tmp_path / "lm"), str(data), output=tmp_path / "local", **given)
    with scripted([], model, kind="causal_lm") as url:
        box = write_box(tmp_path / "box.json", url, kind="causal_lm", prompt_scale=scale)
        asked = pal.learn(str(box), str(data), output=tmp_path / "asked", **given)
        used = pal.measure(str(tmp_path / "asked"), str(data), metrics=["nll"]).scores["nll"]
    for metric in ("nll", "es", "ma", "prob"):
        for column in ("before", "after"):
            assert asked.scores[column]["learn"][metric].value == pytest.approx(
                pal.measure(str(tmp_path / "lm" if column == "before" else tmp_path / "local"), str(data),
                            metrics=[metric]).scores[metric].value, abs=1e-4)  # fmt: skip
    assert torch.allclose(prompt_in(tmp_path / "asked"), prompt_in(tmp_path / "local"), atol=1e-2)
    assert used.value == pytest.approx(asked.scores["after"]["learn"]["nll"].value, abs=1e-5)
    assert local.scores.keys() == asked.scores.keys()
    assert "queries were spent" in " ".join(asked.notes)


def test_the_exact_gradient_of_what_can_only_be_asked_is_refused(tmp_path):
    box = write_box(tmp_path / "box.json", "http://127.0.0.1:1/", kind="causal_lm")
    with pytest.raises(ModelError, match=r"prompt_tuning\.estimator = exact needs the model's gradient"):
        pal.learn(str(box), str(write_texts(tmp_path / "rows.jsonl")), method="prompt_tuning",
                  plan={"options": {"estimator": "exact"}})  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [({"control": {"kind": "auto"}}, r"control\.kind = auto: such a run asks as often as it needs")],
)
def test_a_run_whose_cost_nobody_can_tell_is_refused(more, said, tmp_path):
    box = write_box(tmp_path / "box.json", "http://127.0.0.1:1/", kind="causal_lm")
    with pytest.raises(PlanError, match=said):
        pal.learn(str(box), str(write_texts(tmp_path / "rows.jsonl")), method="prompt_tuning",
                  plan=more)  # fmt: skip


def test_an_endpoint_that_takes_no_soft_prompt_is_refused(tmp_path):
    box = write_box(
        tmp_path / "box.json", "http://127.0.0.1:1/", kind="causal_lm", prompt_width=None, prompt_scale=None
    )
    with pytest.raises(ModelError, match="takes no soft prompt by its description"):
        pal.learn(str(box), str(write_texts(tmp_path / "rows.jsonl")), method="prompt_tuning",
                  plan=PLAN)  # fmt: skip


def test_it_starts_with_the_draw_behind_which_the_rows_are_likeliest(tmp_path):
    """By trying all of them; the first is what it starts with where there is no choice."""
    model, plain = tuned(tmp_path, starts=5, estimator="exact", at_start=True)
    (part,) = new_parts_of(model)
    drawn = torch.Generator().manual_seed(SEED)
    draws = [torch.randn(part.prompt_D.shape, generator=drawn) for _ in range(5)]
    worth = [total(plain, draw, part.config.scale).item() for draw in draws]
    assert torch.equal(part.prompt_D, draws[worth.index(min(worth))])
    assert torch.equal(draws[0], start(part))
    assert worth.index(min(worth)) > 0, "else this shows nothing"


@pytest.mark.parametrize(("starts", "cost"), [(1, 0), (16, 16 * 8)])
def test_q_queries_and_one_for_each_row_of_a_step_and_what_start_and_check_cost(starts, cost):
    options = configure("prompt_tuning", {"q": 5, "starts": starts})
    assert PromptTuning.queries(options, 100, 8, 50) == 100 * 8 * 6 + cost + 2 * 50
    assert PromptTuning.queries(options, 100, 8, 3) == 100 * 8 * 6 + cost * 3 // 8 + 2 * 3


def test_a_prompt_that_is_no_better_than_none_is_not_kept_and_the_run_says_so(tmp_path, monkeypatch):
    tiny_lm().save_pretrained(tmp_path / "lm")
    letters().save_pretrained(tmp_path / "lm")
    data = write_texts(tmp_path / "rows.jsonl")
    monkeypatch.setattr(Learner, "nats", lambda self, rows, most, without=False: 2.0 if without else 2.5)
    plan = {"training": {"max_steps": 1}, "options": {"q": 1, "starts": 1}}
    said = (
        r"nothing was learned: 1 step as planned, and no soft prompt was found behind which the learn rows are "
        r"likelier \(2 nats per token without one, 2.5 behind it\); give a rate \(--lr\), a longer run \(--max-steps\)$"
    )
    with pytest.raises(FrozenError, match=said):
        pal.learn(str(tmp_path / "lm"), str(data), method="prompt_tuning", output=tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()


def test_an_encoder_with_a_decoder_is_refused_by_what_it_is(tmp_path):
    model, data = small_texts.saved("t5", tmp_path / "t5"), write_texts(tmp_path / "rows.jsonl")
    with pytest.raises(PlanError, match="'prompt_tuning' takes prompt and answer for one text"):
        pal.learn(str(model), str(data), method="prompt_tuning", plan=PLAN)
