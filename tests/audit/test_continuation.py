"""The paper's own test: what a model continues as it was written, it still remembers."""

from __future__ import annotations

import copy
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.audit.continuation import NEW_TOKENS, ContinuationTest, continuation_test, lower_words, split
from palimpsest.audit.refinement import Refinement
from palimpsest.data.encode.batch import TextSet, TokenSequence, collate
from palimpsest.errors import MissingExtra, PlanError
from palimpsest.models.load import Loaded

EOS = 2


class NumberTokenizer:
    """Every token is the word of its number; special tokens (below 3) can be left out."""

    def decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        return " ".join(f"w{t}" for t in tokens if t >= 3)


def sequence(name: str, tokens: list[int], prompt: int = 1) -> TokenSequence:
    return TokenSequence(name, tuple(tokens), (False,) * prompt + (True,) * (len(tokens) - prompt))


def random_tokens(count: int, seed: int) -> list[int]:
    return torch.randint(3, 61, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


ROWS = {
    "text": sequence("text", [*random_tokens(15, 1), EOS]),
    "answer": sequence("answer", [*random_tokens(13, 2), EOS], prompt=5),
    "stranger": sequence("stranger", [*random_tokens(15, 3), EOS]),
    "strange answer": sequence("strange answer", [*random_tokens(13, 4), EOS], prompt=5),
}
FORGET = TextSet(list(ROWS.values()), pad_id=0)


@pytest.fixture
def knows_two(tiny_llama):
    """A model that knows "text" and "answer" by heart and has never seen the strangers."""
    batch = collate([ROWS["text"], ROWS["answer"]], pad_id=0)
    optimizer = torch.optim.Adam(tiny_llama.parameters(), lr=2e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = -batch.predict(tiny_llama).logp_S.mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return tiny_llama


def paper_test(model, *, config=None, utility=None) -> ContinuationTest:
    loaded = Loaded(model, NumberTokenizer(), "here")
    return continuation_test(config or Refinement(test="bleu"), FORGET, loaded, utility)


def test_what_was_learned_by_heart_is_remembered_and_nothing_else(knows_two):
    check = paper_test(knows_two).check(knows_two, step=0)
    assert check.active == ("text", "answer")
    assert check.scores == {"forget.remembered": 0.5}
    assert check.stop is None


def test_a_random_model_remembers_nothing(tiny_llama):
    check = paper_test(tiny_llama).check(tiny_llama, step=0)
    assert check.active == ()
    assert check.scores == {"forget.remembered": 0.0}


@pytest.mark.parametrize("training", [True, False])
def test_a_check_leaves_no_trace(knows_two, training):
    knows_two.train(training).zero_grad()
    weights = copy.deepcopy(knows_two.state_dict())
    random_state = torch.get_rng_state()
    first = paper_test(knows_two).check(knows_two, step=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert knows_two.training is training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in knows_two.state_dict().items())
    assert all(parameter.grad is None for parameter in knows_two.parameters())
    assert paper_test(knows_two).check(knows_two, step=9) == first


class Spy:
    """A model that answers every prompt with the same tokens and records how it was asked."""

    training = False
    device = torch.device("cpu")

    def __init__(self, answer: list[int]) -> None:
        self.answer = answer
        self.asked: list[dict] = []

    def eval(self):
        return self

    def train(self, mode):
        return self

    def generate(self, inputs, **options):
        self.asked.append({"prompt": inputs[0].tolist(), **options})
        return torch.cat([inputs, torch.tensor([self.answer])], dim=1)


def test_generation_is_two_beams_over_the_length_of_the_text():
    spy = Spy([7, 8])
    seen: list[tuple[str, str]] = []
    rows = [sequence("a", [3, 4, 5, 6, 7, 8]), sequence("b", [3, 4, 5, 6, EOS], prompt=3)]
    forgotten = lambda candidate, reference: bool(seen.append((candidate, reference)))  # noqa: E731
    test = ContinuationTest(TextSet(rows, pad_id=9), NumberTokenizer(), forgotten, None, eos_ids=[EOS])
    assert test.check(spy, step=0).active == ("a", "b")
    assert [asked["prompt"] for asked in spy.asked] == [[3, 4, 5], [3, 4, 5]]
    assert [asked["max_new_tokens"] for asked in spy.asked] == [3, 2]
    for asked in spy.asked:
        assert (asked["num_beams"], asked["do_sample"]) == (2, False)
        assert (asked["eos_token_id"], asked["pad_token_id"]) == ([EOS], 9)
        assert asked["attention_mask"].tolist() == [[1, 1, 1]]
    assert seen == [("w7 w8", "w6 w7 w8"), ("w7 w8", "w6")], "the prompt and the end token are not compared"


def test_a_text_too_short_for_a_4_gram_always_passes():
    """BLEU-4 counts nothing in three words: the published test cannot see that they are remembered."""
    spy = Spy([6, 7, 8])
    rows = TextSet([sequence("a", [3, 4, 5, 6, 7, 8])], pad_id=0)
    loaded = Loaded(SimpleNamespace(config=SimpleNamespace(eos_token_id=EOS)), NumberTokenizer(), "x")
    assert continuation_test(Refinement(test="bleu"), rows, loaded, None).check(spy, step=0).active == ()
    longer = TextSet([sequence("a", [1, 3, 4, 5, 5, 6, 7, 8])], pad_id=0)
    spy.answer = [5, 6, 7, 8]
    assert continuation_test(Refinement(test="bleu"), longer, loaded, None).check(spy, step=0).active == ("a",)


def test_the_utility_is_told_and_can_end_the_run(knows_two):
    class Broken:
        def measure(self, model):
            return {"retain.prob": 0.1}

        def broken(self, found):
            return f"utility floor at {found['retain.prob']} with {found['forget.remembered']} remembered"

    check = paper_test(knows_two, utility=Broken()).check(knows_two, step=0)
    assert check.scores == {"forget.remembered": 0.5, "retain.prob": 0.1}
    assert check.stop == "utility floor at 0.1 with 0.5 remembered"


@settings(deadline=None)
@given(st.integers(2, 130), st.integers(1, 129))
def test_a_split_cuts_at_the_prompt_or_in_the_middle(length, prompt):
    prompt = min(prompt, length - 1)
    tokens = list(range(100, 100 + length))
    prefix, reference = split(sequence("a", tokens, prompt))
    assert len(prefix) == (prompt if prompt > 1 else length // 2)
    assert tokens[: len(prefix) + len(reference)] == prefix + reference
    assert len(reference) == min(NEW_TOKENS, length - len(prefix))
    assert prefix
    assert reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n\t", []),
        ("ANN", ["ann"]),
        ("Dr. Ann-Marie, 5pm!", ["dr", ".", "ann", "-", "marie", ",", "5pm", "!"]),
        ("Größe…", ["größe", "…"]),
        ("a_b", ["a_b"]),
    ],
)
def test_words_are_lower_case_and_marks_stand_alone(text, expected):
    assert lower_words(text) == expected


def test_a_model_without_a_tokenizer_is_refused(tiny_llama):
    with pytest.raises(PlanError, match="refine.test 'bleu' compares texts and the model has no tokenizer; use 'extr"):
        continuation_test(Refinement(test="bleu"), FORGET, Loaded(tiny_llama, None, "x"), None)


def test_bertscore_needs_its_extra(tiny_llama, monkeypatch):
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(MissingExtra, match=r"pip install 'palimpsest-ml\[bertscore\]'") as caught:
        paper_test(tiny_llama, config=Refinement(test="bertscore"))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("f1", "active"), [(0.29, ()), (0.3, ("text", "answer")), (1.0, ("text", "answer"))], ids=["low", "level", "high"]
)
def test_either_score_below_its_level_counts_as_forgotten(knows_two, monkeypatch, f1, active):
    """The two that are known by heart have BLEU 1; the strangers fail by BLEU, so F1 cannot bring them back."""

    class Scorer:
        def __init__(self, model_type, num_layers):
            assert (model_type, num_layers) == ("bert-base-uncased", 9)

        def score(self, candidates, references):
            assert len(candidates) == len(references) == 1
            return torch.zeros(1), torch.zeros(1), torch.tensor([f1], dtype=torch.float64)

    monkeypatch.setitem(sys.modules, "bert_score", SimpleNamespace(BERTScorer=Scorer))
    assert paper_test(knows_two, config=Refinement(test="bertscore")).check(knows_two, step=0).active == active
