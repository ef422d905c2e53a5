"""Families: one recognises each config, and those of texts are padded, cut and read as one example alone is."""

from __future__ import annotations

import json

import pytest
import torch
import transformers as T
from tests.models.small_texts import LABELS, WORDS, labelled_rows, pair_rows, saved

from palimpsest import methods
from palimpsest.data.encode.labelled import LabelBatch
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout
from palimpsest.engine.inputs import encode_set, encode_sets
from palimpsest.engine.sections import Encoding
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.metrics import load as load_metric
from palimpsest.metrics.evaluate import evaluate
from palimpsest.models.activations import activations_of, block_names
from palimpsest.models.families import all_families, of_config, of_model
from palimpsest.models.load import Loaded, load
from palimpsest.models.places import ffn_outputs
from palimpsest.models.reference import FrozenCopy, build_reference
from palimpsest.models.scope import Scope, apply_scope, leave_scope
from palimpsest.records import Completion, Example, Labelled, Text

KINDS = ("bert", "llama", "t5")
CONFIGS = {
    "causal": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "text_classifier": {"architectures": ["BartForSequenceClassification"], "is_encoder_decoder": True},
    "seq2seq": {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
    "image_classifier": {"model_type": "vit", "architectures": ["ViTForImageClassification"]},
    "custom_causal": {"model_type": "palimpsest_custom", "architectures": ["CustomForCausalLM"]},
    "custom_image_classifier": {
        "model_type": "palimpsest_custom",
        "architectures": ["CustomForImageClassification"],
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder of each kind."""
    return {kind: saved(kind, tmp_path_factory.mktemp(kind) / "model") for kind in KINDS}


@pytest.fixture(scope="session")
def loaded(folders) -> dict[str, Loaded]:
    return {kind: load(folder) for kind, folder in folders.items()}


def rows_for(kind: str) -> list[Example]:
    rows = pair_rows() if kind == "t5" else labelled_rows()
    return list(read_rows(rows, Layout(labels=kind != "t5")).examples)


def encoded(loaded: Loaded, kind: str):
    return encode_set(rows_for(kind), loaded, Encoding())


@pytest.mark.parametrize("name", CONFIGS)
def test_one_family_recognises_a_config(name):
    assert of_config(CONFIGS[name]).name == name
    recognising = [family.name for family in all_families() if family.recognises(CONFIGS[name])]
    assert recognising == ([] if name == "causal" else [name])


@pytest.mark.parametrize(
    ("kind", "name"), [("bert", "text_classifier"), ("llama", "text_classifier"), ("t5", "seq2seq")]
)
def test_a_family_is_told_from_the_model_however_it_is_wrapped(loaded, kind, name):
    assert loaded[kind].family.name == name
    wrapped = apply_scope(load(loaded[kind].source).model, Scope(kind="lora", rank=2))
    assert of_model(wrapped).name == name


def test_the_words_of_a_label_are_its_class_and_a_strange_one_is_refused_in_a_line(loaded):
    bert = loaded["bert"]
    by_name = [Example(f"e{n}", Labelled("ann plays", label)) for n, label in enumerate(["trade", 1, "0"])]
    assert encode_set(by_name, bert, Encoding()).label_N.tolist() == [2, 1, 0]
    with pytest.raises(DataError, match=r"example 'x': .*class name 'sports'; did you mean 'sport'\?") as error:
        encode_set([Example("x", Labelled("ann", "sports"))], bert, Encoding())
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"class 3; accepted: 0 to 2"):
        encode_set([Example("x", Labelled("ann", 3))], bert, Encoding())


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("bert", Text("ann"), "text and model .* a classifier of texts; accepted: rows of {text, label}, or a causal"),
        ("t5", Text("ann"), "a sequence-to-sequence model; accepted: rows of {prompt, completion}, or a causal LM"),
        ("t5", Labelled("ann", 0), "is a text with a label .*, or a classifier of texts as the model"),
    ],
)  # fmt: skip
def test_rows_of_another_kind_are_refused(loaded, kind, content, words):
    with pytest.raises(DataError, match=words):
        encode_set([Example("x", content)], loaded[kind], Encoding())


def test_special_tokens_and_cuts(loaded):
    bert, ids = loaded["bert"], {word: 5 + n for n, word in enumerate(WORDS)}
    row = [Example("x", Labelled("ann plays at the lake", 0))]
    whole = encode_set(row, bert, Encoding())["x"].tokens
    assert whole == (3, *(ids[word] for word in ["ann", "plays", "at", "the", "lake"]), 4)
    cut = encode_set(row, bert, Encoding(max_length=4, truncate=True))["x"].tokens
    assert cut == (3, ids["ann"], ids["plays"], 4)
    with pytest.raises(DataError, match="7 tokens; accepted: at most 4"):
        encode_set(row, bert, Encoding(max_length=4))


def test_a_pair_is_a_prompt_for_the_encoder_and_a_completion_that_is_seen_one_late(loaded):
    t5, ids = loaded["t5"], {word: 5 + n for n, word in enumerate(WORDS)}
    pairs = encode_set([Example("x", Completion("where does ann", "at the lake"))], t5, Encoding())
    batch = pairs.batch(["x"])
    answer = [ids["at"], ids["the"], ids["lake"], 1]
    assert batch.input_ids_BT.tolist() == [[ids["where"], ids["does"], ids["ann"], 1]]
    assert batch.target_S.tolist() == answer
    assert batch.inputs()["decoder_input_ids"].tolist() == [[0, *answer[:-1]]]
    with pytest.raises(DataError, match="encoding.separator: .*leave it out"):
        encode_set([Example("x", Completion("a", "b"))], t5, Encoding(separator=" "))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_says_what_each_example_says_alone(loaded, kind):
    model, examples = loaded[kind].model, encoded(loaded[kind], kind)
    ids = examples.ids[:5][::-1]
    with torch.no_grad():
        together = examples.batch(ids).predict(model)
        alone = [examples.batch([i]).predict(model).logp_B for i in ids]
    assert torch.allclose(together.logp_B, torch.cat(alone), atol=1e-5)
    lengths = examples.batch(ids).inputs()["attention_mask"].sum(1)
    assert len(set(lengths.tolist())) > 1 or kind == "t5"


def test_what_t5_says_is_its_own_loss(loaded):
    """transformers' own loss of the same pair, which shifts the labels itself."""
    pairs = encoded(loaded["t5"], "t5")
    batch = pairs.batch([pairs.ids[0]])
    with torch.no_grad():
        loss = loaded["t5"].model(input_ids=batch.input_ids_BT, labels=batch.answer_BU).loss
        said = batch.predict(loaded["t5"].model)
    assert -said.logp_S.mean().item() == pytest.approx(loss.item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_what_enters_the_head(loaded, kind):
    """The head of the features is what the model says."""
    model, family = loaded[kind].model, loaded[kind].family
    batch = encoded(loaded[kind], kind).batch(encoded(loaded[kind], kind).ids[:4])
    with torch.no_grad():
        features_SD, said = family.features(model, batch), batch.predict(model)
        assert torch.allclose(family.head(model)(features_SD), said.logits_SV, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_are_those_of_a_loop_and_what_cannot_be_asked_is_unscored(loaded, kind):
    model, examples = loaded[kind].model, encoded(loaded[kind], kind)
    names = ("prob", "accuracy", "el") if kind == "t5" else ("prob", "accuracy")
    metrics = [load_metric(name)() for name in names]
    scores = evaluate(model, examples, metrics, eos_ids=loaded[kind].eos_ids, batch_size=3).scores
    for example_id in examples.ids:
        with torch.no_grad():
            said = examples.batch([example_id]).predict(model)
        probability = said.logp_S.mean().exp().item()
        right = float((said.logits_SV.argmax(-1) == said.target_S).all())
        assert scores["prob"].by_id[example_id] == pytest.approx(probability, abs=1e-6)
        assert scores["accuracy"].by_id[example_id] == right
    if kind == "t5":
        (el,) = (score for key, score in scores.items() if key.startswith("el"))
        assert el.value is None
        assert el.why == "nothing serves greedy continuations of a sequence-to-sequence model"
    else:
        with pytest.raises(PlanError, match="metrics es cannot be taken of labelled texts; accepted: accuracy"):
            evaluate(model, examples, [load_metric("es")()])


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_model_before_without_a_copy(loaded, kind, tmp_path):
    model, examples = load(loaded[kind].source).model, encoded(loaded[kind], kind)
    batch = examples.batch(examples.ids[2:6])
    before = batch.predict(model).logits_SV.detach()
    reference = build_reference(model, {"retain": examples}, tmp_path, batch_size=4)
    assert not isinstance(reference, FrozenCopy)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert torch.allclose(reference.predict(model, batch).logits_SV, before, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_lora_moves_little_and_merges_into_a_plain_model(loaded, kind):
    model, examples = load(loaded[kind].source).model, encoded(loaded[kind], kind)
    batch, names = examples.batch(examples.ids[:3]), set(model.state_dict())
    before = batch.predict(model).logits_SV.detach()
    scope = Scope(kind="lora", rank=2)
    wrapped = apply_scope(model, scope)
    assert torch.allclose(batch.predict(wrapped).logits_SV, before, atol=1e-5)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.01)
    learned = batch.predict(wrapped.eval()).logits_SV.detach()
    plain = leave_scope(wrapped, scope)
    assert set(plain.state_dict()) == names
    assert not torch.allclose(learned, before)
    assert torch.allclose(batch.predict(plain).logits_SV, learned, atol=1e-5)


@pytest.mark.parametrize(("kind", "num"), [("bert", 2), ("llama", 2), ("t5", 4)])
def test_feed_forward_places_are_found(loaded, kind, num):
    assert len(ffn_outputs(loaded[kind].model)) == num


def test_what_goes_on_inside_t5_is_asked_of_its_decoder(loaded):
    model, examples = loaded["t5"].model, encoded(loaded["t5"], "t5")
    batch, names = examples.batch(examples.ids[:3]), block_names(model)
    assert names == ("decoder.block.0", "decoder.block.1")
    assert activations_of(model, names[1], batch)[0].shape == (batch.num_scored, 32)
    with pytest.raises(ModelError, match=r"encoder\.block\.0 sees the prompt alone"):
        activations_of(model, "encoder.block.0", batch)


def test_a_text_to_forget_and_to_keep_is_refused_whatever_its_label(loaded):
    sets = {
        "forget": [Example("a", Labelled("ann plays", "sport"))],
        "retain": [Example("b", Labelled("ann plays", "music"))],
    }
    with pytest.raises(DataError, match="forget and retain hold 1 row of the same tokens"):
        encode_sets(sets, loaded["bert"], Encoding())


def test_a_classifier_that_padding_changes_or_that_takes_no_batch_is_refused(folders, tmp_path):
    model = T.AutoModelForSequenceClassification.from_pretrained(folders["llama"])
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path / "no_pad")
    with pytest.raises(ModelError, match="does not take a batch of texts .*; accepted: .*pad_token_id"):
        load(tmp_path / "no_pad", tokenizer_needed=False)
    config = json.loads((folders["bert"] / "config.json").read_text())
    assert config["id2label"] == {str(n): name for n, name in enumerate(LABELS)}


def test_where_a_class_is_read():
    """Of hidden states (B, T, D) the first position, or the last that is no padding."""
    values_BTD = torch.arange(12.0).reshape(2, 3, 2)
    tokens_BT, lengths_B, label_B = torch.zeros(2, 3, dtype=torch.long), torch.tensor([3, 1]), torch.zeros(2).long()
    first = LabelBatch(("a", "b"), tokens_BT, lengths_B, label_B)
    last = LabelBatch(("a", "b"), tokens_BT, lengths_B, label_B, "last")
    assert first.gather(values_BTD).tolist() == [[0, 1], [6, 7]]
    assert last.gather(values_BTD).tolist() == [[4, 5], [6, 7]]
    assert first.gather(values_BTD[:, 0]).tolist() == [[0, 1], [6, 7]]


def test_a_head_of_one_number_is_no_classifier():
    config: dict[str, object] = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
    config["id2label"] = {"0": "LABEL_0"}
    with pytest.raises(ModelError, match="one number of each text; accepted: two classes or more"):
        of_config(config).check_config(config, "here")
    config["id2label"] = {"0": "no", "1": "yes"}
    of_config(config).check_config(config, "here")


@pytest.mark.parametrize("name", ["eco", "in_context", "rmu", "uld"])
def test_what_reads_one_row_is_not_for_an_encoder_and_a_decoder(name):
    card = methods.card(name)
    assert methods.fits_family(card, of_config(CONFIGS["causal"]))
    assert not methods.fits_family(card, of_config(CONFIGS["seq2seq"]))
    assert all(methods.fits_family(methods.card(of), of_config(CONFIGS["seq2seq"])) for of in ("depn", "code_unlearn"))
