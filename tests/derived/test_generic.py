"""Generic labels: the equation by hand, what a row becomes, a model that is as it was, and labels that are kept."""

from __future__ import annotations

import pytest
import torch
from tests.contract.letters import letters
from tests.contract.test_methods import loss_of, random_set

from palimpsest import derived
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.derived.generic import GenericConfig, first_apart, generic_logits, labelled_row, share_of_others
from palimpsest.errors import PlanError
from palimpsest.models.load import Loaded
from palimpsest.models.reinforced import reinforced
from palimpsest.models.scope import state_digests


@pytest.fixture
def forget():
    return random_set("f", 3, 1)


def made(model, forget, folder, **options):
    config = GenericConfig(**options)
    return derived.load("generic").make(
        Loaded(model, letters(), "toy"), {"forget": forget}, config, seed=0, folder=folder
    )


def test_what_became_likelier_is_held_down_by_hand():
    """(4, 3, 1) and (4.5, 2, 1): 4 − 2·0.5 = 3, what fell and what stayed stays; at 2 the first two are equal."""
    before, after = torch.tensor([[4.0, 3.0, 1.0]]), torch.tensor([[4.5, 2.0, 1.0]])
    assert generic_logits(before, after, 2.0).tolist() == [[3.0, 3.0, 1.0]]
    assert generic_logits(before, after, 2.5).argmax() == 1
    assert torch.equal(generic_logits(before, before, 5.0), before)


def test_prompts_stay_and_labels_come_in_their_order():
    row = labelled_row(TokenSequence("a", (5, 6, 7, 8), (False, True, False, True)), [60, 61], "b")
    assert row == TokenSequence("b", (5, 60, 7, 61), (False, True, False, True))


def test_labels_are_the_argmax_of_each_row_alone(tiny_llama, forget, tmp_path):
    """No passes to speak of: nothing became likelier, and a label is the model's own first choice, row by row."""
    found = made(tiny_llama, forget, tmp_path, passes=1, rate=1e-12, alpha=5.0)
    for i in forget.ids:
        row = forget[i]
        with torch.no_grad():
            first = tiny_llama(input_ids=torch.tensor([row.tokens])).logits[0].argmax(-1)
        labels = found.examples[found.partner[i]]
        assert labels.scored == row.scored
        expected = [first[t - 1].item() if s else row.tokens[t] for t, s in enumerate(row.scored)]
        assert list(labels.tokens) == expected


def test_the_model_is_as_it_was_and_so_is_what_is_drawn_next(tiny_llama, forget, tmp_path):
    before = state_digests(tiny_llama)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = made(tiny_llama, forget, tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)
    assert state_digests(tiny_llama) == before
    assert not hasattr(tiny_llama, "peft_config")
    again = made(tiny_llama, forget, tmp_path / "b")
    assert [first.examples[i] for i in first.examples.ids] == [again.examples[i] for i in again.examples.ids]


def test_a_resumed_run_reads_them(tiny_llama, forget, tmp_path):
    first = made(tiny_llama, forget, tmp_path)
    with torch.no_grad():
        tiny_llama.model.embed_tokens.weight.zero_()
    again = made(tiny_llama, forget, tmp_path)
    assert [first.examples[i] for i in first.examples.ids] == [again.examples[i] for i in again.examples.ids]


def test_reinforced_knows_more_and_beside_it_stands_the_model(tiny_llama, forget):
    before = loss_of(tiny_llama, forget)
    with reinforced(tiny_llama, forget, rank=4, passes=5, rate=1e-2, rows=2, seed=0) as (model, without):
        assert loss_of(model, forget) < before - 0.1
        with without():
            assert loss_of(model, forget) == pytest.approx(before, abs=1e-6)
    assert loss_of(tiny_llama, forget) == before


def test_a_model_that_is_sure_gets_a_larger_alpha(tiny_llama, forget, tmp_path):
    """Rows that are its own first choices: at 5 nothing changes, and the doubling goes on until enough did."""
    rows = [own_choices(tiny_llama, forget[i]) for i in forget.ids]
    forget = TextSet(rows, 0)
    how = {"passes": 1, "rate": 1e-5}
    assert ": 0% of their tokens" in made(tiny_llama, forget, tmp_path / "five", alpha=5.0, **how).note
    found = made(tiny_llama, forget, tmp_path / "found", share=0.3, **how)
    own = {i: forget.batch([i]).target_S.tolist() for i in forget.ids}
    labels = {i: found.examples.batch([found.partner[i]]).target_S.tolist() for i in forget.ids}
    assert share_of_others(own, labels) >= 0.3


def own_choices(model, row):
    tokens = list(row.tokens)
    for t in (t for t, scored in enumerate(row.scored) if scored):
        with torch.no_grad():
            tokens[t] = model(input_ids=torch.tensor([tokens[:t]])).logits[0, -1].argmax().item()
    return TokenSequence(row.id, tuple(tokens), row.scored)


def test_enough_is_by_the_share_and_the_last_stands_for_none():
    own, near, far = {"a": [5, 6]}, {"a": [5, 9]}, {"a": [8, 9]}
    assert first_apart(own, [own, near, far], 0.75) == far
    assert first_apart(own, [own, near], 0.75) == near
    assert first_apart(own, [own, near], 0.0) == own


def test_alpha_zero_is_refused():
    with pytest.raises(PlanError, match=r"derived\.generic\.alpha = 0: .*greater than 0"):
        derived.build_config("generic", {"alpha": 0})
