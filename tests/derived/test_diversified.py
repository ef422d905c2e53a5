"""The rows to forget in other sentences: what changes in a row and what does not, which form a batch has, a run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.verbs.conftest import clinic
from tests.verbs.test_kill import DIED, run_with_deaths
from torch import nn

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.varied import VariedSet
from palimpsest.derived.diversified import MOST_FORMS, clause_of, diversified, other_forms
from palimpsest.engine.varying import sentence_notes
from palimpsest.errors import PlanError
from palimpsest.models.load import load
from palimpsest.models.reference import FrozenCopy, build_reference
from palimpsest.records import Chat, Completion, Example, Labelled, Message, Text, TokenIds

__all__ = ["clinic"]

ASKED = "What is the illness of Ann Lee? "
CHAT = Chat((Message("system", "s"), Message("user", ASKED), Message("assistant", "flu"), Message("user", "And?")))


def test_what_is_forgotten_stays_and_how_it_is_asked_does_not():
    for content in (Completion(ASKED, "flu"), Completion("Ann Lee has ", "flu")):
        forms = other_forms(content)
        assert len({form.prompt for form in forms} | {content.prompt}) == len(forms) + 1 > 3
        assert {form.completion for form in forms} == {"flu"}
        assert all("Ann Lee" in form.prompt and form.prompt.endswith(" ") for form in forms)
    assert all(form.prompt.rstrip().endswith("Ann Lee has") for form in other_forms(Completion("Ann Lee has ", "flu")))
    assert {form.completion for form in other_forms(Text("Ann Lee has flu."))} == {"Ann Lee has flu."}
    assert {form.label for form in other_forms(Labelled("Ann came.", 3))} == {3}
    assert other_forms(TokenIds((1, 2, 3))) == ()


def test_of_a_chat_the_first_question_changes():
    forms = other_forms(CHAT)
    assert len(forms) > 3
    for form in forms:
        assert (form.messages[0], *form.messages[2:]) == (CHAT.messages[0], *CHAT.messages[2:])
        assert form.messages[1].role == "user"
        assert form.messages[1] != CHAT.messages[1]
    assert other_forms(Chat((Message("assistant", "flu"),))) == ()


@pytest.mark.parametrize(
    ("question", "clause"),
    [
        ("Where was he born?", None),  # the verb is followed by a participle: what comes out reads all the same
        ("When is the meeting of May?", "when the meeting of May is"),
        ("How old is Ann?", "how old Ann is"),
        ("Is Ann ill?", None),
        ("What did Ann say?", None),
    ],
)
def test_only_simple_questions_become_clauses(question, clause):
    found = clause_of(question)
    assert found == clause or (clause is None and found == "where he born was")


def test_which_forms_is_a_function_of_seed_and_id_alone():
    rows = [Example(f"r{n}", Completion(ASKED, str(n))) for n in range(6)]
    found = diversified(rows, 3, seed=0)
    assert found == {**diversified(rows[3:], 3, seed=0), **diversified(rows[:3], 3, seed=0)}
    assert found != diversified(rows, 3, seed=1)
    assert all(len({form.content.prompt for form in forms}) == 3 for forms in found.values())
    assert len({tuple(form.content.prompt for form in forms) for forms in found.values()}) > 1
    assert max(len(forms) for forms in diversified(rows, MOST_FORMS, seed=0).values()) == MOST_FORMS


def a_varied_set() -> VariedSet:
    def row(name: str, *tokens: int) -> TokenSequence:
        return TokenSequence(name, tokens, (False,) + (True,) * (len(tokens) - 1))

    bare = TextSet([row("a", 1, 2), row("b", 1, 3)], pad_id=0)
    forms = TextSet([row("a", 1, 2), row("a1", 7, 8, 2), row("b", 1, 3), row("b1", 7, 8, 3), row("b2", 9, 3)], 0)
    return VariedSet(bare, forms, {"a": ("a", "a1"), "b": ("b", "b1", "b2")})


def test_a_batch_has_any_form_under_the_id_of_the_row():
    examples, seen = a_varied_set(), set()
    torch.manual_seed(0)
    for _ in range(40):
        batch = examples.batch(["b", "a", "b"])
        assert batch.ids == ("b", "a", "b")
        assert [int(row[n - 1]) for row, n in zip(batch.input_ids_BT, batch.lengths_B, strict=True)] == [3, 2, 3]
        seen |= {tuple(row[:n].tolist()) for row, n in zip(batch.input_ids_BT, batch.lengths_B, strict=True)}
    assert seen == {(1, 2), (7, 8, 2), (1, 3), (7, 8, 3), (9, 3)}
    assert examples.plain() is examples.bare
    assert examples.subset(["b"]).ids == ("b",)


def test_a_batch_that_is_drawn_in_parts_has_the_same_forms():
    examples = a_varied_set()
    torch.manual_seed(3)
    whole = examples.batch(["a", "b", "b", "a"])
    torch.manual_seed(3)
    parts = [examples.batch(ids) for ids in (["a"], ["b", "b"], ["a"])]
    assert [n for part in parts for n in part.lengths_B.tolist()] == whole.lengths_B.tolist()


def test_a_reference_is_asked_of_the_form_at_hand(tmp_path):
    """A cache by id would answer for another form."""
    assert isinstance(build_reference(nn.Linear(1, 1), {"forget": a_varied_set()}, tmp_path), FrozenCopy)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_run_is_shown_other_sentences_and_measures_the_rows(clinic, tmp_path):
    plan = {
        "training": {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 4, "checkpoint_steps": 1},
        "measuring": {"metrics": ["ma"]},
    }
    how = {"method": "npo", "plan": plan, "retain": clinic / "retain.jsonl"}
    bare = pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "bare", **how)
    many = pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "many", diversify=2, **how)
    assert many.sets == bare.sets
    assert many.scores["before"] == bare.scores["before"]
    assert many.plan["diversify"] == 2
    assert many.model_digest != bare.model_digest
    assert pal.verify(tmp_path / "many").holds
    assert (tmp_path / "many" / "learned.json").read_text() == (tmp_path / "bare" / "learned.json").read_text()
    assert load(tmp_path / "many").model is not None

    def again(clinic, output):
        return pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=output, diversify=2, **how)

    steps: list[str] = []  # the second step's row is half written, its forms are drawn, and the process is gone
    dies = lambda name, _: name == "half a row" and (steps.append(name) or len(steps) == 2)  # noqa: E731
    (tmp_path / "killed").mkdir()
    assert run_with_deaths(again, clinic, tmp_path / "killed" / "out", dies) == DIED
    assert again(clinic, tmp_path / "killed" / "out").model_digest == many.model_digest


def test_what_cannot_be_rewritten_is_refused(clinic, tmp_path, capsys):
    how = ["--model", str(clinic / "model"), "--forget", str(clinic / "forget.jsonl"), "--retain"]
    how += [str(clinic / "retain.jsonl"), "--output", str(tmp_path / "no")]
    assert main(["unlearn", *how, "--diversify", "9"]) == 2
    assert "diversify" in capsys.readouterr().err
    with pytest.raises(PlanError, match="diversify"):
        pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "no", diversify=-1, method="npo")
    assert not (tmp_path / "no").exists()


def test_rows_without_a_sentence_are_told_of():
    rows = [Example("a", Completion(ASKED, "flu")), Example("b", TokenIds((1, 2, 3))), Example("c", TokenIds((1, 2)))]
    plan, plain = (SimpleNamespace(diversify=count, training=SimpleNamespace(seed=0)) for count in (2, 0))
    (note,) = sentence_notes(plan, {"forget": rows})
    assert note == "2 of 3 rows to forget have no sentence to put otherwise (first: 'b'); they were shown as they are."
    assert sentence_notes(plan, {"forget": rows[:1]}) == ()
    assert sentence_notes(plain, {"forget": rows}) == ()
