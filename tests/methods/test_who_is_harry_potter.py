"""Who's Harry Potter by hand: after any token 0 has p 0.8 and 1 has p 0.2; generic labels answer the rows' places."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.methods.conftest import sequence
from tests.methods.spelled_out import ROWS, nats, softmax, table
from tests.methods.spelled_out import batch as ragged

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet, collate
from palimpsest.data.encode.controlled import as_shown
from palimpsest.data.sets.controls import Controls
from palimpsest.errors import PlanError
from palimpsest.methods.who_is_harry_potter import WhoIsHarryPotter, WhoIsHarryPotterConfig, relabelled_loss

PAIR = Phase("joint", ("forget", "generic"))


def test_labels_by_hand(skewed):
    """Rows 0 0 0 and 0 1 with labels 1 0 and 1: log 1/0.2 + log 1/0.8 + log 1/0.2."""
    given = {
        "forget": collate([sequence("a", 0, 0, 0), sequence("b", 0, 1)], 0),
        "generic": collate([sequence("ga", 0, 1, 0), sequence("gb", 0, 1)], 0),
    }
    term = WhoIsHarryPotter(WhoIsHarryPotterConfig()).loss(skewed, given, PAIR)["generic"]
    assert term.total.item() == pytest.approx(-2 * math.log(0.2) - math.log(0.8), rel=1e-5)
    assert (term.of, term.per, term.weight) == ("forget", "token", 1.0)


def test_as_spelled_out_at_label_tokens_alone():
    """Rows of several lengths: prompts, padding and gaps are no places."""
    model = table(44)
    labels = tuple(replace(row, tokens=row.tokens[::-1]) for row in ROWS)
    wanted = 0.0
    for row, label in zip(ROWS, labels, strict=True):
        for t in (t for t, scored in enumerate(row.scored) if scored):
            wanted += nats(softmax(model.table[row.tokens[t - 1]].tolist())[label.tokens[t]])
    given = {"forget": ragged(), "generic": ragged(labels)}
    found = WhoIsHarryPotter(WhoIsHarryPotterConfig()).loss(model, given, PAIR)["generic"]
    assert found.total.item() == pytest.approx(wanted, rel=1e-5)


def test_the_row_is_asked_and_not_its_labels(half):
    """With other logits after 1 than after 0 it matters which token came before: the row's."""
    with torch.no_grad():
        half.table[1] = torch.tensor([0.9, 0.1]).log()
    given = {"forget": collate([sequence("a", 0, 1, 0)], 0), "generic": collate([sequence("g", 0, 0, 1)], 0)}
    term = WhoIsHarryPotter(WhoIsHarryPotterConfig()).loss(half, given, PAIR)["generic"]
    assert term.total.item() == pytest.approx(-math.log(0.5) - math.log(0.1), rel=1e-5)


def test_its_own_labels_are_plain_learning(skewed, two_rows):
    loss = relabelled_loss(two_rows.predict(skewed).logits_SV, two_rows.target_S)
    assert loss.item() == pytest.approx(-two_rows.predict(skewed).logp_S.sum().item(), rel=1e-6)


def test_a_control_shows_each_place_with_its_own_label(skewed):
    """The half of a row's places with the lowest loss is shown; its label goes with it."""
    forget = as_shown(TextSet([sequence("a", 0, 0, 1)], 0), Controls(lowest=0.5))
    given = {"forget": forget.batch(["a"]), "generic": collate([sequence("g", 0, 1, 0)], 0)}
    term = WhoIsHarryPotter(WhoIsHarryPotterConfig()).loss(skewed, given, PAIR)["generic"]
    assert term.total.item() == pytest.approx(-math.log(0.2), rel=1e-5)


def test_its_labels_have_the_options():
    with pytest.raises(PlanError, match="unknown option of who_is_harry_potter 'alpha'"):
        methods.configure("who_is_harry_potter", {"alpha": 5})
