"""Learning through a codebook: the loss by hand, what a step leaves, and a run from start to index."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest.companions.codes import Codes
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import own_key
from palimpsest.contract import Phase
from palimpsest.errors import ModelError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.methods import configure
from palimpsest.methods.code_learn import CodeLearn
from palimpsest.models.parts import attach
from palimpsest.models.parts.code_firing import fired
from palimpsest.models.parts.codebook import codebooks_of
from palimpsest.models.scope import Scope, apply_scope, state_digests
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack

ROWS = random_set("r", 6, 1)
SMALL = {"codes": 16, "chosen": 2, "revive_every": 2}


def prepared(model, **options):
    method = CodeLearn(configure("code_learn", {**SMALL, **options}))
    made = method.parts(model, {"learn": ROWS}, 0)
    for part in made:
        part.is_new = True
    apply_scope(attach(model, made), Scope())
    method.prepare(model, {"learn": ROWS})
    return method, model


class Stopped(Exception):
    """The process dies here."""


def learned(model, folder, steps=3, micro=None, dies_after=None):
    method, model = prepared(model)
    folder.mkdir(exist_ok=True)
    rules = RuleStack(method.rules(), setting=Setting(folder, 0))
    rules.prepare(model, {}, {})

    def told(step, planned, values):
        if step == dies_after:
            raise Stopped

    options = {"learning_rate": 1e-2, "max_steps": steps, "batch_size": 4, "checkpoint_steps": 3}
    training = Training(micro_batch_size=micro, **options)
    run(Job(method, model, {"learn": ROWS}, training, folder, rules=rules, progress=told))
    return method, model


def test_the_terms_are_sums_over_label_tokens(tiny_llama):
    method, model = prepared(tiny_llama, lambda_mse=2.0, lambda_1=0.5)
    batch = ROWS.batch(ROWS.ids)
    terms = method.loss(model, {"learn": batch}, Phase("joint", ("learn",)))
    (book,) = codebooks_of(model)
    off, size, row = 0.0, 0.0, 0
    with torch.no_grad():
        for example_id in ROWS.ids:
            one = ROWS.batch([example_id])
            seen = []
            hook = book.terms.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out[0]))
            model(**one.inputs())
            hook.remove()
            for t in range(1, one.input_ids_BT.shape[1]):
                if one.scored_BT[0, t]:
                    off, size, row = off + seen[0][t - 1, 0].item(), size + seen[0][t - 1, 1].item(), row + 1
    assert row == batch.num_scored
    assert terms["mse learn"].total.item() == pytest.approx(off, rel=1e-4)
    assert terms["size learn"].total.item() == pytest.approx(size, rel=1e-4)
    assert (terms["mse learn"].weight, terms["size learn"].weight) == (2.0, 0.5)


def test_off_it_is_the_model_alone(tiny_llama):
    """Without a codebook the task is all there is."""
    method = CodeLearn(configure("code_learn", {}))
    batch = ROWS.batch(ROWS.ids)
    terms = method.loss(tiny_llama, {"learn": batch}, Phase("joint", ("learn",)))
    assert set(terms) == {"learn"}
    assert terms["learn"].total.item() == pytest.approx(-batch.predict(tiny_llama).logp_S.sum().item())


def test_all_weights_and_the_book_move_and_codes_are_counted(tiny_llama, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    _, model = learned(tiny_llama, tmp_path)
    assert all(not torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    (book,) = codebooks_of(model)
    assert 0 < int(book.usage.sum()) < 4 * 12 * 2  # of the step after the last revival


def test_a_run_that_died_goes_on_to_the_same_bits(tiny_llama, tmp_path):
    """From the third step on, between two revivals; counts, codes and optimizer."""
    start = copy.deepcopy(tiny_llama)
    _, whole = learned(tiny_llama, tmp_path / "whole", steps=6)
    with pytest.raises(Stopped):
        learned(copy.deepcopy(start), tmp_path / "dies", steps=6, dies_after=5)
    _, again = learned(start, tmp_path / "dies", steps=6)
    assert state_digests(again) == state_digests(whole)


def test_micro_batches_revive_the_same_codes(tiny_llama, tmp_path):
    start = copy.deepcopy(tiny_llama)
    _, whole = learned(tiny_llama, tmp_path / "whole", steps=2)
    _, cut = learned(start, tmp_path / "cut", steps=2, micro=1)
    assert torch.allclose(codebooks_of(whole)[0].codes, codebooks_of(cut)[0].codes, atol=1e-3)


def test_the_index_knows_what_fires(tiny_llama, tmp_path):
    method, model = learned(tiny_llama, tmp_path)
    method.recording, method.subjects = tmp_path / RECORDING, dict.fromkeys(ROWS.ids[:2], "one")
    method.finish(model)
    index = Codes.open(tmp_path / "codes", own_key())
    index.take_up(tmp_path)
    found = fired(model, codebooks_of(model)[0], ROWS)
    assert torch.equal(index.firing("one").with_K, found[:2].sum(0))
    assert torch.equal(index.firing("one").without_K, found[2:].sum(0))


def test_what_fires_is_not_changed_by_padding(tiny_llama, tmp_path):
    _, model = learned(tiny_llama, tmp_path)
    (book,) = codebooks_of(model)
    assert torch.equal(fired(model, book, ROWS), fired(model, book, ROWS, batch_size=1))
    assert int(fired(model, book, ROWS, 8).sum()) > int(fired(model, book, ROWS).sum())


def test_a_second_run_goes_on_with_the_book_that_is_there(tiny_llama):
    _, model = prepared(tiny_llama)
    (book,) = codebooks_of(model)
    assert CodeLearn(configure("code_learn", SMALL)).parts(model, {"learn": ROWS}, 1) == [book]
    assert book.continues


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"layer": 2}, PlanError, r"code_learn.layer = 2: one can sit behind 2 blocks of the model; accepted: 0 to 1"),
        ({"chosen": 17}, PlanError, r"code_learn.chosen = 17 of code_learn.codes = 16"),
        ({"at": "model.layer.0"}, ModelError, r"code_learn.at.*did you mean 'model.layers.0'"),
    ],
)
def test_what_cannot_be_built_is_refused(tiny_llama, options, error, said):
    before = state_digests(tiny_llama)
    with pytest.raises(error, match=said):
        prepared(tiny_llama, **options)
    assert state_digests(tiny_llama) == before
