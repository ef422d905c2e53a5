"""SPUL: both terms by hand, the exact gradient as a plain one, and unlearning behind an endpoint."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from tests.contract.letters import letters
from tests.methods.test_prompt_tuning import LENGTH, SEED, rows, start, total
from tests.models.black_boxes import scripted, tiny_lm, write_box, write_texts

import palimpsest as pal
from palimpsest.contract import Phase
from palimpsest.methods import configure
from palimpsest.methods.spul import SPUL
from palimpsest.models.parts import attach
from palimpsest.models.reference import PartsOff
from palimpsest.models.soft_prompting import embedding_size
from palimpsest.models.zeroth_order import unit_directions

BOTH = ("forget", "retain")


def made(**options):
    """The method before its first step, its model with a soft prompt, the part, and the model as it was."""
    plain, sets = tiny_lm(), {"forget": rows(), "retain": rows()}
    model = copy.deepcopy(plain)
    method = SPUL(configure("spul", {"length": LENGTH, "starts": 1, **options}))
    (part,) = method.parts(model, sets, SEED)
    part.is_new = True
    attach(model, [part])
    method.reference = PartsOff([part])
    method.prepare(model, sets)
    method.phases(0, 1)
    return method, model, part, plain


def loss_on(method, model, ids):
    """Both terms over texts that are to be forgotten and kept at once."""
    return method.loss(model, dict.fromkeys(BOTH, rows().batch(ids)), Phase("joint", BOTH))


def terms_of(**options):
    """Both terms over four texts, the part, and the model as it was."""
    method, model, part, plain = made(**options)
    return loss_on(method, model, rows().ids), part, plain


def by_hand(plain, prompt_D, scale, beta):
    """NPO's sum over the texts, each against the model without the prompt, and the retain sum."""
    learn, found = rows(), 0.0
    for i in learn.ids:
        batch = learn.batch([i])
        before = batch.predict(plain).logp_B[0].detach()
        found = found - 2 / beta * F.logsigmoid(-beta * (-total(plain, prompt_D, scale, [i]) - before))
    return found, total(plain, prompt_D, scale)


@pytest.mark.parametrize("estimator", ["exact", "zeroth_order"])
def test_both_terms_by_hand_and_their_gradient(estimator):
    """The estimate of a row is along the same directions in both; what it is equal to, test_prompt_tuning says."""
    terms, part, plain = terms_of(estimator=estimator, npo_beta=0.5, alpha=3.0, q=2)
    weight = start(part).requires_grad_(True)
    forget, retain = by_hand(plain, weight, part.config.scale, 0.5)
    assert terms["forget"].total.item() == pytest.approx(forget.item(), rel=1e-5)
    assert terms["retain"].total.item() == pytest.approx(retain.item(), rel=1e-5)
    assert (terms["forget"].per, terms["retain"].per, terms["retain"].weight) == ("example", "example", 3.0)
    (wanted,) = torch.autograd.grad(forget + retain, weight)
    (found,) = torch.autograd.grad(terms["forget"].total + terms["retain"].total, part.prompt_D)
    if estimator == "exact":
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    else:
        along_QD = torch.cat([unit_directions(2, len(found), SEED, 0, row) for row in rows().ids])
        coefficients = torch.linalg.lstsq(along_QD.T, found[:, None]).solution
        assert torch.allclose((along_QD.T @ coefficients)[:, 0], found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("estimator", ["exact", "zeroth_order"])
def test_neither_cut_nor_order_of_rows_changes_a_step(estimator):
    """A row is tried along the same directions whoever stands beside it."""
    ids, found = rows().ids, []
    for cuts in ([ids], [[i] for i in reversed(ids)]):
        method, model, part, _ = made(estimator=estimator, q=2)
        total = sum(term.weight * term.total for cut in cuts for term in loss_on(method, model, cut).values())
        found += torch.autograd.grad(total, part.prompt_D)
    whole, cut = found
    assert (whole - cut).norm() < 1e-4 * whole.norm()


def test_with_alpha_0_there_is_one_term():
    terms, _, _ = terms_of(estimator="exact", alpha=0.0)
    assert list(terms) == ["forget"]


SGD = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0}
PLAN = {"training": {"max_steps": 8, "batch_size": 2, **SGD}, "options": {"q": 4, "length": LENGTH}}


@pytest.mark.parametrize(
    ("method", "plan", "asks"), [("spul", PLAN, True), ("guard", {}, False), ("in_context", {}, True)]
)
def test_unlearning_behind_an_endpoint_says_first_what_brings_it_back(method, plan, asks, tmp_path):
    model, seen = tiny_lm(), []
    forget, retain = write_texts(tmp_path / "f.jsonl", tag="f"), write_texts(tmp_path / "k.jsonl", tag="k")
    width, scale = embedding_size(model)
    with scripted([], model, seen, kind="causal_lm") as url:
        box = write_box(tmp_path / "box.json", url, kind="causal_lm", prompt_width=width, prompt_scale=scale)
        output = tmp_path / "out"
        result = pal.unlearn(str(box), str(forget), retain=str(retain), method=method, plan=plan, output=output)
        paid = sum(number for _, number in seen)
        again = pal.measure(str(output), str(forget), metrics=["nll"]).scores["nll"].value
        without = pal.measure(str(output), str(forget), metrics=["nll"], without_parts=True).scores["nll"].value
    assert again == pytest.approx(result.scores["after"]["forget"]["nll"].value, abs=1e-5)
    assert without == pytest.approx(result.scores["before"]["forget"]["nll"].value, abs=1e-5)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "removing the part" in page
    told = next(note for note in result.notes if "queries were spent" in note)
    assert told.startswith(f"{paid} queries")
    if not asks:  # the probes, both sets once, and refusals where the saved folder is checked: none to be fitted
        assert 16 + 12 <= paid <= 16 + 12 + 2


def test_where_no_prompt_keeps_what_must_stay_the_model_is_given_back_as_it_was(tmp_path):
    """No prompt takes 99 % from the forget rows in a step of no length."""
    tiny_lm().save_pretrained(tmp_path / "lm")
    letters().save_pretrained(tmp_path / "lm")
    forget, retain = write_texts(tmp_path / "f.jsonl", tag="f"), write_texts(tmp_path / "k.jsonl", tag="k")
    plan = PLAN | {"training": {"max_steps": 2, "learning_rate": 1e-9}, "options": {"q": 1, "starts": 1, "floor": 0.01}}
    given = {"retain": str(retain), "method": "spul", "plan": plan, "output": tmp_path / "out"}
    result = pal.unlearn(str(tmp_path / "lm"), str(forget), **given)
    assert "no soft prompt was found that keeps 0.01 of the probability per token" in result.stopped
    assert result.scores["after"]["forget"]["prob"].value == result.scores["before"]["forget"]["prob"].value
    assert not list((tmp_path / "out").glob("parts/*"))
    assert "as it was" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def watch(floor=0.5):
    """A watch over the tiny model, whose shares are given in place of asked ones."""
    method, _, part, _ = made(floor=floor)
    found = method._watch
    return found, part


@pytest.mark.parametrize(
    ("shares", "kept"),
    [
        ([(0.9, 1.0), (0.4, 0.8), (0.2, 0.6), (0.1, 0.4)], 2),
        ([(0.4, 0.8), (0.45, 0.9)], 0),
        ([(0.9, 0.9), (0.3, 0.3)], None),
        ([(0.5, 0.5)], None),
        ([(0.49, 0.5)], 0),
    ],
)
def test_kept_is_what_hides_most_of_those_that_leave_enough(shares, kept, monkeypatch):
    found, part = watch()
    first = part.prompt_D.detach().clone()
    for number, pair in enumerate(shares):
        with torch.no_grad():
            part.prompt_D.fill_(number)
        monkeypatch.setattr(found, "shares", lambda pair=pair: pair)
        found.look()
    again, _ = watch()
    again.load_state(found.state())
    for one in (found, again):
        assert (one.why_none() is None) == (kept is not None)
        assert torch.equal(one._kept_N, first if kept is None else torch.full_like(first, kept))
    found.keep()
    assert torch.equal(part.prompt_D, found._kept_N)
    if kept is None:
        assert "of retain and" in found.why_none()


def test_the_best_prompt_stands_at_the_end_and_not_the_last(monkeypatch):
    method, model, part, _ = made(floor=0.5)
    monkeypatch.setattr(method._watch, "shares", lambda: (0.2, 0.9))
    with torch.no_grad():
        part.prompt_D.fill_(3.0)
        method._watch.look()
        part.prompt_D.fill_(7.0)
    method.finish(model)
    assert torch.equal(part.prompt_D, torch.full_like(part.prompt_D, 3.0))


def test_a_share_is_what_is_left_of_the_probability_of_a_token():
    method, _, part, plain = made()
    forget, retain = method._watch.shares()
    tokens = sum(rows().batch([i]).num_scored for i in rows().ids)
    before = sum(rows().batch([i]).predict(plain).logp_B.item() for i in rows().ids) / tokens
    behind = -total(plain, start(part), part.config.scale).item() / tokens
    assert forget == retain == pytest.approx(math.exp(behind - before), rel=1e-5)
