"""Deleting codes: those of the topic by hand, the control of equal size, the index, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest.companions.codes import Codes, record_codes
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import own_key
from palimpsest.control.aim import EditSight
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.loop.editing import make_edit
from palimpsest.methods import configure
from palimpsest.methods.code_unlearn import CodeUnlearn
from palimpsest.models.parts import attach
from palimpsest.models.parts.code_firing import fired
from palimpsest.models.parts.codebook import Codebook, CodebookConfig, codebooks_of
from palimpsest.rules.damage_budget import Damage

FORGET, CONTROL = random_set("f", 12, 1), random_set("unrelated to f", 12, 2)
SETS = {"forget": FORGET, "unrelated": CONTROL}
FREE = {"significance": 1.0, "min_enrichment": 1.5}


@pytest.fixture
def coded(tiny_llama):
    torch.manual_seed(5)
    options = CodebookConfig(at="model.layers.1", width=32, code_width=64, codes=80, chosen=2)
    return attach(tiny_llama, [Codebook(options)]).eval()


def deleted(model) -> list[int]:
    return codebooks_of(model)[0].deleted.nonzero()[:, 0].tolist()


def edit(model, sets=SETS, index=None, **options):
    method = CodeUnlearn(configure("code_unlearn", {**FREE, **options}))
    method.companions = {} if index is None else {"codes": index}
    method.prepare(model, sets)
    return make_edit(method, model, sets, seed=0)


def rich(model, nearest=2) -> list[int]:
    """By loops over rows: codes that fire 2^1.5 times as often, half a row being added to both."""
    (book,) = codebooks_of(model)
    found = [fired(model, book, rows, nearest).tolist() for rows in SETS.values()]
    with_K, without_K = ([sum(row[k] for row in rows) for k in range(80)] for rows in found)
    return [k for k in range(80) if with_K[k] and (with_K[k] + 0.5) / (without_K[k] + 0.5) >= 2**1.5]


def test_the_codes_of_the_topic_go_and_only_the_mask_changes(coded):
    wanted = rich(coded)
    assert 0 < len(wanted) < 80
    before = {name: tensor.clone() for name, tensor in coded.state_dict().items()}
    made = edit(coded)
    assert deleted(coded) == wanted
    changed = {name for name, tensor in coded.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"palimpsest_parts.0.deleted", "palimpsest_parts.0.request"}
    assert made.changed == 2


def test_more_nearest_codes_find_others(coded):
    wanted = rich(coded, nearest=6)
    assert wanted != rich(coded)
    edit(coded, s_prime=6)
    assert deleted(coded) == wanted


def test_random_codes_are_as_many_and_others(coded):
    wanted = rich(coded)
    edit(coded, random_codes=True)
    assert len(deleted(coded)) == len(wanted)
    assert deleted(coded) != wanted


def test_a_second_request_is_told_from_the_first(coded):
    edit(coded)
    first = deleted(coded)
    edit(coded, {"forget": CONTROL, "unrelated": FORGET}, semantics="reselect")
    (book,) = codebooks_of(coded)
    assert sorted(set(book.request.tolist())) == [0, 1, 2]
    assert book.request.eq(1).nonzero()[:, 0].tolist() == first
    assert torch.equal(book.reselects, book.request == 2)


def test_from_the_index_no_row_is_read(coded, tmp_path):
    (book,) = codebooks_of(coded)
    found = torch.cat([fired(coded, book, rows) for rows in SETS.values()])
    ids = [*FORGET.ids, *CONTROL.ids]
    record_codes(tmp_path / RECORDING, ids, dict.fromkeys(FORGET.ids, "one"), found, 2)
    index = Codes.open(tmp_path / "codes", own_key())
    index.take_up(tmp_path)
    assert edit(coded, {"forget": FORGET, "unrelated": FORGET}, index, topic="one").tokens == 0
    assert deleted(coded) == rich(coded)
    with pytest.raises(PlanError, match=r"code_unlearn.topic = 'two': no row in the index is of it"):
        edit(coded, SETS, index, topic="two")
    with pytest.raises(PlanError, match=r"s_prime = 3: the index counts 2 nearest"):
        edit(coded, SETS, index, topic="one", s_prime=3)


@pytest.mark.parametrize(
    ("options", "sets", "error", "said"),
    [
        ({"topic": "one"}, SETS, PlanError, "no index lies beside the model"),
        ({}, {"forget": FORGET, "unrelated": FORGET}, PlanError, "no word of the rows to forget was told"),
        ({"min_enrichment": 20.0}, SETS, DataError, "no code fires for the topic and not without it.*the richest one"),
        ({"significance": 1e-9}, SETS, DataError, "no code fires for the topic and not without it"),
        ({"s_prime": 1}, SETS, PlanError, "s_prime = 1: the codebook chooses 2 of 80"),
        ({"at": "model.layers.0"}, SETS, ModelError, "no codebook at 'model.layers.0'; accepted: model.layers.1"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(coded, options, sets, error, said):
    with pytest.raises(error, match=said) as caught:
        edit(coded, sets, **options)
    assert "\n" not in str(caught.value)
    assert deleted(coded) == []


def test_all_of_them_deleted_already_is_said(coded):
    edit(coded)
    with pytest.raises(DataError, match="are deleted already"):
        edit(coded)


class Told:
    """An aim that is there once some codes are gone, and says how much is known by how many are not."""

    def __init__(self, wanted, level=0.1):
        self.wanted, self.known = set(wanted), level

    def __call__(self, model):
        left = len(self.wanted - set(deleted(model)))
        return EditSight(left == 0, left / max(1, len(self.wanted)))


def by_level(model, wanted, **options):
    """An edit to a level; what stays is the control rows."""
    method = CodeUnlearn(configure("code_unlearn", options))
    before = copy.deepcopy(model)
    method.recall = lambda _, batch: batch.predict(before)
    method.aim = Told(wanted)
    sets = {**SETS, "retain": CONTROL}
    method.prepare(model, sets)
    return method, make_edit(method, model, sets, seed=0)


def by_effect(model) -> list[int]:
    """By loops: codes that fire more often in the rows to forget, by the χ² of their tables, largest first."""
    (book,) = codebooks_of(model)
    with_NK, without_NK = (fired(model, book, rows, 2).tolist() for rows in SETS.values())
    found = {}
    for k in range(80):
        a, c = (sum(row[k] for row in rows) for rows in (with_NK, without_NK))
        b, d = 12 - a, 12 - c
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if a > c:
            found[k] = 24 * (a * d - b * c) ** 2 / margins if margins else 0.0
    return sorted(found, key=lambda k: (-found[k], k))


def test_the_fewest_that_bring_the_topic_to_its_level_go(coded):
    order = by_effect(coded)
    before = {name: tensor.clone() for name, tensor in coded.state_dict().items()}
    method, made = by_level(coded, order[:5], budget=1e6)
    assert deleted(coded) == sorted(order[:5])
    assert method.edit_ended() == (
        "5 codes deleted: the topic is at its level (0.00 of what is to be forgotten is right, beside 0.10 at the "
        "level of never seen)",
        None,
    )
    assert made.found["codes"] == 5
    assert made.found["known_before"] == 1.0
    changed = {name for name, tensor in coded.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"palimpsest_parts.0.deleted", "palimpsest_parts.0.request"}
    assert set(codebooks_of(coded)[0].request.tolist()) == {0, 1}
    codebooks_of(coded)[0].undo(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in coded.state_dict().items())


def test_it_ends_short_where_what_stays_would_lose_too_much(coded):
    order = by_effect(coded)
    whole = copy.deepcopy(coded)
    by_level(whole, order, budget=1e6)
    method, made = by_level(
        coded, order, budget=0.5 * Damage(lambda _, b: b.predict(start_of(whole)), CONTROL, 64)(whole)
    )
    assert 0 < len(deleted(coded)) < len(order)
    assert made.found["damage"] <= method.config.budget
    assert "no other codes that were tried leave less of it and cost what stays at most" in method.edit_ended()[1]


def start_of(model):
    """The same model with no code deleted."""
    found = copy.deepcopy(model)
    codebooks_of(found)[0].deleted.zero_()
    return found


def test_the_control_has_as_many_as_the_level_takes(coded):
    order = by_effect(coded)
    method, _ = by_level(coded, order[:5], budget=1e6, random_codes=True)
    assert len(deleted(coded)) == 5
    assert deleted(coded) != sorted(order[:5])
    assert "a control" in method.edit_ended()[1]


def test_a_topic_at_its_level_is_refused_in_one_line(coded):
    with pytest.raises(DataError, match="is at the level of never seen already") as caught:
        by_level(coded, [], budget=1e6)
    assert "\n" not in str(caught.value)
    assert deleted(coded) == []


def test_where_every_code_does_too_much_damage_none_goes(coded, monkeypatch):
    monkeypatch.setattr(Damage, "__call__", lambda _, model: 1.0)
    with pytest.raises(DataError, match="does more damage to what stays than is allowed") as caught:
        by_level(coded, by_effect(coded))
    assert "\n" not in str(caught.value)
    assert deleted(coded) == []


def test_a_model_without_a_codebook_is_refused(tiny_llama):
    with pytest.raises(ModelError, match=r"no codebook.*--method code_learn"):
        edit(tiny_llama)
