"""Whatever is in a file of others: a value or an error of ours, never another one.

PALIMPSEST_FUZZ=20000 tries so many inputs of each kind, other ones each time; without it a few, always the same.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.bench.define.config import make_bench
from palimpsest.cli.options import parse_assignment
from palimpsest.data.encode.chat import chat_tokens, rendering
from palimpsest.data.read.examples import read_examples
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.engine.plan import make_plan, read_plan_file
from palimpsest.errors import DataError, PalimpsestError
from palimpsest.models.load import load
from palimpsest.models.sources import check_source, class_names_in, classes_of, is_image_model
from palimpsest.records import Message
from palimpsest.report.page import render
from palimpsest.report.schema import RunResult
from palimpsest.report.terminal import table

ASKED = os.environ.get("PALIMPSEST_FUZZ")


def tried(usual: int, times: float = 1.0) -> settings:
    """So many inputs, or as many as are asked for."""
    count = usual if ASKED is None else max(1, int(times * int(ASKED)))
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, derandomize=ASKED is None, deadline=None, suppress_health_check=checks,
                    database=None)  # fmt: skip


NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 1, 7, 2**31, 2**63, 10**30, 1e308, True, False, 0.5])
)
WORDS = st.one_of(
    st.text(max_size=20), st.sampled_from(["auto", "64", "nan", "\x1b[2J", "", "a" * 500, "float16", "x"])
)
VALUES = st.recursive(
    st.one_of(st.none(), NUMBERS, WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
KEYS = [
    "architectures",
    "attention_bias",
    "attention_dropout",
    "attn_implementation",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "id2label",
    "initializer_range",
    "intermediate_size",
    "label2id",
    "layer_types",
    "max_position_embeddings",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_labels",
    "pad_token_id",
    "pretrained_cfg",
    "problem_type",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "text_config",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "vocab_size",
]
TYPES = st.sampled_from(["llama", "gpt2", "mistral", "bert", "vit", "resnet", "mamba", "t5", "opt", "palimpsest_resnet",
                         "palimpsest_custom", "gemma3", "timm_wrapper"])  # fmt: skip
CHANGES = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3) | st.fixed_dictionaries(
    {"model_type": TYPES}, optional={key: VALUES for key in KEYS if key != "model_type"}
)


@pytest.fixture(scope="module")
def model(clinic, tmp_path_factory) -> Path:
    """A folder whose JSON files are changed in place."""
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(clinic / "model", folder)
    return folder


def looked_at(folder: Path) -> None:
    """All doors at which a folder is looked at, each by itself."""
    for door in (is_image_model, classes_of, class_names_in, check_source, load):
        try:
            door(folder)
        except PalimpsestError:
            continue


@tried(5, 0.05)
@given(changes=CHANGES)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_configs(model, file, changes):
    place = model / file
    before = place.read_bytes() if place.exists() else None
    values = json.loads(before) if before else {}
    try:
        place.write_text(json.dumps({**values, **changes}), encoding="utf-8")
        looked_at(model)
    finally:
        place.unlink() if before is None else place.write_bytes(before)


@tried(8, 0.1)
@given(whole=st.one_of(VALUES.map(json.dumps), st.text(max_size=50), st.binary(max_size=50)))
@pytest.mark.parametrize("file", ["config.json", "learned.json", "plan.json", "adapter_config.json"])
def test_whole_files_beside_a_model(model, file, whole):
    place = model / file
    before = place.read_bytes() if place.exists() else None
    try:
        place.write_bytes(whole if isinstance(whole, bytes) else whole.encode(errors="surrogatepass"))
        looked_at(model)
    finally:
        place.unlink() if before is None else place.write_bytes(before)


SECTION = st.sampled_from(["training", "control", "repair", "scope", "pairing", "derived", "refine", "measuring",
                           "encoding", "gates", "bounds", "options", "preset"])  # fmt: skip
OPTION = st.sampled_from(["seed", "learning_rate", "batch_size", "num_train_epochs", "kind", "names", "alpha", "n", "k",
                          "metrics", "options", "limit", "max_length", "separator", "augment", "level", "steps", "rows",
                          "side_batch_size", "betas", "set", "metric", "at_most", "relative_to", "epochs"])  # fmt: skip
PLANS = st.dictionaries(SECTION, st.one_of(VALUES, st.dictionaries(st.one_of(OPTION, WORDS), VALUES, max_size=3)))


@tried(30)
@given(sections=PLANS, method=st.sampled_from(["icu", "npo", "ug_clu", "retrain", "salun"]))
def test_plans(clinic, sections, method):
    fields = {
        "kind": "unlearn",
        "method": method,
        "model": str(clinic / "model"),
        "files": {"forget": "f", "retain": "r"},
    }
    try:
        make_plan(fields, sections)
    except PalimpsestError:
        return


@tried(60)
@given(text=st.one_of(st.text(), PLANS.map(lambda plan: yaml.safe_dump(plan, allow_unicode=True))), data=st.data())
def test_plan_files(tmp_path, text, data):
    file = tmp_path / data.draw(st.sampled_from(["plan.yaml", "plan.json"]))
    file.write_bytes(text.encode(errors="surrogatepass"))
    for door in (lambda: read_plan_file(file), lambda: parse_assignment(f"training.seed={text}")):
        try:
            door()
        except PalimpsestError:
            continue


@tried(40)
@given(
    values=st.dictionaries(
        st.sampled_from(
            [
                "model",
                "data",
                "per_class",
                "test",
                "stream",
                "buffer",
                "rows",
                "seeds",
                "twin",
                "learning",
                "methods",
                "limit",
                "encoding",
            ]
        ),
        VALUES,
    )
)
def test_benches(clinic, values):
    try:
        make_bench({"model": str(clinic / "model"), "data": "x", "rows": "er+npo", **values})
    except PalimpsestError:
        return


NAMES = st.sampled_from(["id", "text", "prompt", "completion", "messages", "subject", "conversations", "input_ids",
                         "instruction", "output", "image", "label", "\x1b[2J", ""])  # fmt: skip
TURN = st.fixed_dictionaries({}, optional={"role": VALUES, "content": VALUES, "from": VALUES, "value": VALUES})
ROWS = st.dictionaries(NAMES, st.one_of(VALUES, WORDS, st.lists(TURN, max_size=3)), max_size=4)


def rows_read(file: Path) -> None:
    for token_ids in (False, True):
        try:
            read_examples(file, token_ids=token_ids)
        except DataError:
            continue


@tried(60)
@given(rows=st.lists(ROWS, max_size=3), ending=st.sampled_from(["jsonl", "json"]))
def test_rows_of_json(tmp_path, rows, ending):
    file = tmp_path / f"rows.{ending}"
    file.write_text("\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows))
    rows_read(file)


@tried(60)
@given(
    text=st.one_of(st.text(), st.binary()), ending=st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "npz"])
)
def test_files_of_anything(tmp_path, text, ending):
    file = tmp_path / f"rows.{ending}"
    file.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    rows_read(file)


@tried(40)
@given(cells=st.lists(st.lists(st.text(max_size=10), min_size=1, max_size=3), max_size=3))
def test_rows_of_csv(tmp_path, cells):
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["text", "id", "subject"], *cells])
    (tmp_path / "rows.csv").write_bytes(stream.getvalue().encode(errors="surrogatepass"))
    rows_read(tmp_path / "rows.csv")


def arrow_types() -> Any:
    import pyarrow as pa

    return st.sampled_from(
        [
            pa.int64(),
            pa.duration("ns"),
            pa.duration("s"),
            pa.date32(),
            pa.date64(),
            pa.timestamp("s"),
            pa.timestamp("ns", "UTC"),
            pa.time32("s"),
            pa.time64("ns"),
            pa.month_day_nano_interval(),
            pa.decimal128(5, 2),
            pa.float16(),
            pa.float64(),
            pa.bool_(),
            pa.null(),
        ]
    )


@tried(40)
@given(data=st.data())
def test_rows_of_parquet(tmp_path, data):
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = data.draw(arrow_types())
    numbers = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3))
    try:
        column = (
            pa.array(numbers, pa.int64()).view(kind) if kind.bit_width == 64 else pa.array([None] * len(numbers), kind)
        )
        table_of = pa.table({"text": [f"row {n}" for n in range(len(numbers))], data.draw(NAMES) + "2": column})
        pq.write_table(table_of, tmp_path / "rows.parquet")
    except (pa.ArrowException, ValueError, NotImplementedError, TypeError):
        return  # no such file can be written
    rows_read(tmp_path / "rows.parquet")


def picture(kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, kind)
    return stream.getvalue()


@tried(60)
@given(
    kind=st.sampled_from(["PNG", "JPEG"]),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=6),
)
def test_pictures(kind, cuts):
    from palimpsest.data.read.picture_modes import decode

    data = bytearray(picture(kind))
    for place, new in cuts:
        data[place : place + len(new)] = new
    try:
        assert decode(bytes(data)).ndim == 3
    except DataError:
        return


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros((2, 4, 4, 3), np.uint8), y=np.arange(2), id=np.array(["a", "b"]))
    return stream.getvalue()


@tried(60)
@given(cuts=st.lists(st.tuples(st.integers(0, 900), st.binary(max_size=4)), max_size=6))
def test_archives(tmp_path, cuts):
    data = bytearray(archive())
    for place, new in cuts:
        data[place : place + len(new)] = new
    (tmp_path / "a.npz").write_bytes(bytes(data))
    rows_read(tmp_path / "a.npz")


@pytest.fixture(scope="module")
def tokenizer(clinic):
    return load(clinic / "model").tokenizer


PIECES = st.sampled_from(
    [
        "{% for m in messages %}",
        "{% endfor %}",
        "{{ m.content }}",
        "{{ m['role'] }}",
        "{% generation %}",
        "{% endgeneration %}",
        "{% if loop.last %}",
        "{% endif %}",
        "{% for a in range(9999) %}",
        "{{ 1 / 0 }}",
        "{{ m.x.y }}",
        "{{ 'a' * 99999999 }}",
        "{% set x = messages %}",
        "{{ x | tojson }}",
        "{% macro f(n) %}",
        "{% endmacro %}",
        "{{ f(3) }}",
        "{{ raise_exception('\x1b') }}",
        "{{ eos_token }}",
        "{% include 'a' %}",
        "{%- break %}",
        "{{ ''.join }}",
        "{{ messages | map(attribute='a.b') | list }}",
        "{{ x.__class__ }}",
        "{{ strftime_now('%') }}",
        "{{ self }}",
        "{{",
    ]
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@tried(10, 0.05)
@given(
    template=st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=30)),
    roles=st.lists(WORDS, max_size=3),
)
def test_templates(tokenizer, template, roles):
    tokenizer.chat_template = template
    turns = [Message("user", "a"), *(Message(role, "b") for role in roles), Message("assistant", "c")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palimpsest.data.encode.apart.SECONDS", 0.5)
        try:
            with rendering():
                chat_tokens(turns, tokenizer)
        except PalimpsestError:
            return


BARE = RunResult(kind="unlearn", method="icu", plan={}, plan_digest="", created="", sets={}, scores={}).model_dump(
    mode="json"
)


@tried(60)
@given(changes=st.dictionaries(st.sampled_from([*BARE]), VALUES, min_size=1, max_size=3))
def test_results(changes):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        file.write_text(json.dumps({**BARE, **changes}))
        try:
            result = RunResult.load(file)
        except PalimpsestError:
            return
        table(result)
        render(result)


@tried(60)
@given(value=st.one_of(VALUES, st.fixed_dictionaries({"pool": VALUES, "requests": VALUES})))
def test_streams(value):
    try:
        RequestStream.from_json(value)
    except PalimpsestError:
        return
