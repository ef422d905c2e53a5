"""Rows of F11, F12 and F16 that no other file here has: each is the right value, or one line that says what to do."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from palimpsest.cli import main
from palimpsest.data.read.examples import read_examples
from palimpsest.errors import DataError, ModelError
from palimpsest.models.load import load
from palimpsest.models.sources import check_folder

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither pipes nor such permissions")
FAST = ("--lr", "1e-3", "--max-steps", "1", "--no-answers")

# Models


@pytest.mark.parametrize(
    "changed",
    [
        {"num_attention_heads": 0}, {"num_key_value_heads": 0}, {"num_attention_heads": 7}, {"hidden_size": "64"},
        {"vocab_size": 512.5}, {"rope_scaling": "x"}, {"id2label": [1]}, {"dtype": "evil"}, {"eos_token_id": [[1]]},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, {"num_hidden_layers": 10**6},
        {"attn_implementation": "flash_attention_2"}, {"_attn_implementation": "flash_attention_2"},
        {"attention_dropout": 5}, {"attention_dropout": -0.1}, {"attention_dropout": float("nan")},
        {"sub": {"resid_pdrop": 1.5}}, {"hidden_act": "evil"}, {"rms_norm_eps": "x"}, {"model_type": 5},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_no_model_can_have(refused, clinic, folder_with, tmp_path, changed):
    refused("learn", "--model", folder_with(**changed), "--data", clinic / "learn.jsonl", "-o", tmp_path / "o", *FAST)
    assert not list(tmp_path.glob("o*"))


@pytest.mark.parametrize("changed", [{"architectures": 5}, {"attention_dropout": 1}, {"attention_dropout": 0.5}])
def test_a_config_that_is_odd_and_means_something(folder_with, changed):
    assert load(folder_with(**changed)).num_outputs


@pytest.mark.parametrize(
    "index", ["[]", '["a"]', "{}", '{"weight_map": 5}', '{"weight_map": {"a": "/etc/passwd"}}', "{x"]
)
@pytest.mark.parametrize("beside", [True, False])
def test_an_index_of_shards_that_are_none(folder_with, index, beside):
    folder = folder_with()
    shutil.move(folder / "model.safetensors", folder / ("part.safetensors" if beside else "part.txt"))
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError):
        load(folder)


def test_weights_that_are_a_folder(folder_with):
    folder = folder_with()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        load(folder)


def test_a_tensor_that_has_no_place_is_named(folder_with):
    import torch
    from safetensors.torch import load_file, save_file

    folder = folder_with()
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "evil.weight": torch.ones(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 weight of its file has no place in a LlamaForCausalLM, e\.g\. evil\.weight"
    ):
        load(folder)


@posix
@pytest.mark.parametrize("kind", ["garbage", "ring", "nothing", "folder", "pipe"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "special_tokens_map.json",
                                  "added_tokens.json", "chat_template.jinja", "tokenizer.json", "merges.txt",
                                  "tokenizer.model"])  # fmt: skip
def test_a_text_file_of_a_model_that_is_none(folder_with, name, kind):
    place = folder_with() / name
    place.unlink(missing_ok=True)
    {
        "garbage": lambda: place.write_text("{not json"),
        "ring": lambda: place.symlink_to(place),
        "nothing": lambda: place.symlink_to(place.with_name("gone")),
        "folder": place.mkdir,
        "pipe": lambda: os.mkfifo(place),
    }[kind]()
    if kind == "garbage" and not name.endswith(".json"):
        load(place.parent)  # a template is text, and is asked when there is a chat
        return
    with pytest.raises(ModelError, match="is no file" if kind != "garbage" else "not JSON|cannot be loaded"):
        load(place.parent)


def test_a_link_to_a_file_is_one(folder_with, tmp_path):
    """As the cache of the Hub has them."""
    folder = folder_with()
    for path in list(folder.iterdir()):
        shutil.move(path, tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    check_folder(folder)
    assert load(folder).tokenizer is not None


# Rows


def table(place: Path, columns: dict[str, object]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: pa.array(*values) for name, values in columns.items()}), place)
    return place


def test_columns_that_appear_twice(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("text,text\na,b\n")
    (tmp_path / "x.jsonl").write_text('{"text": "a", "text": "b"}\n')
    for ending in ("parquet", "csv", "jsonl"):
        with pytest.raises(DataError, match="'text' appears twice"):
            read_examples(tmp_path / f"x.{ending}")


def test_parquet_values_that_python_does_not_have(tmp_path):
    import pyarrow as pa

    for values in (([2**62], pa.duration("s")), ([2**31 - 1], pa.date32()), ([2**62], pa.timestamp("us"))):
        with pytest.raises(DataError):
            read_examples(table(tmp_path / "x.parquet", {"text": (["a b"],), "when": values}))


@pytest.mark.parametrize("length", [131_072, 131_073, 1_000_000])
def test_a_cell_of_any_length(tmp_path, length):
    before = csv.field_size_limit()
    (tmp_path / "x.csv").write_text(f"id,text\na,{'x' * length}\nb,y\n")
    first, second = read_examples(tmp_path / "x.csv")
    assert (len(first.content.text), second.content.text) == (length, "y")
    assert csv.field_size_limit() == before, "of the whole process"


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n  \n", "\r\n\t\r\n\r\n"])
@pytest.mark.parametrize(("name", "rows"), [("x.jsonl", '{"text": "a b"}'), ("x.csv", "text,id\na b,1")])
def test_blank_lines_at_the_end_of_a_file_are_no_rows(tmp_path, name, rows, end):
    (tmp_path / name).write_text(rows + end, newline="")
    assert [one.content.text for one in read_examples(tmp_path / name)] == ["a b"]


def test_the_last_cell_of_a_table_may_be_empty(tmp_path):
    (tmp_path / "x.tsv").write_text("id\ttext\tnote\n1\ta b\t\n\n")
    assert len(read_examples(tmp_path / "x.tsv")) == 1


def test_a_name_that_is_not_utf8(refused, clinic, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    try:
        shutil.copytree(clinic / "model", name)
    except OSError:
        pytest.skip("this file system has no such names")
    shutil.copy(clinic / "learn.jsonl", f"{name}.jsonl")
    learn = ("learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl")
    assert "not UTF-8; rename it" in refused(*learn[:2], name, *learn[3:], "-o", tmp_path / "o")
    assert "not UTF-8; rename it" in refused(*learn[:4], f"{name}.jsonl", "-o", tmp_path / "o")
    assert "not UTF-8; rename it" in refused(*learn, "-o", f"{name}-out")
    assert not list(tmp_path.glob("o*"))


@pytest.mark.parametrize("bytes_of", [255, 256, 300])
def test_a_name_at_the_bound(refused, clinic, tmp_path, bytes_of):
    name = "é" * ((bytes_of - 6) // 2) + "x" * ((bytes_of - 6) % 2) + ".jsonl"
    assert len(name.encode()) == bytes_of
    if bytes_of <= 255:
        shutil.copy(clinic / "learn.jsonl", tmp_path / name)
        assert len(read_examples(tmp_path / name)) == 12
    else:
        refused("measure", "--model", clinic / "model", "--data", tmp_path / name)
    refused("learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "-o", tmp_path / name)
    assert not list(tmp_path.glob("*.partial"))


@contextmanager
def without_permission(folder: Path) -> Iterator[None]:
    """A folder into which nobody may look; who is root is somebody else meanwhile."""
    folder.chmod(0)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@posix
def test_folders_without_permission(refused, clinic, tmp_path, capsys):
    learn = ["learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl"]
    assert main([*map(str, learn), "-o", str(tmp_path / "first"), *FAST]) == 0  # all is imported
    capsys.readouterr()
    closed = tmp_path / "closed"
    shutil.copytree(clinic / "model", closed)
    (closed / "inner").mkdir()
    with without_permission(closed):
        for place in (closed, closed / "inner"):
            refused("measure", "--model", place, "--data", clinic / "learn.jsonl")
            refused("measure", "--model", clinic / "model", "--data", place)
            refused("report", place)
            refused("judge", place)
            refused("demo", "-o", place)
            refused(*learn, "-o", place / "out")
            refused(*learn, "-o", tmp_path / "o", "--plan", place)


# Words of a command


@pytest.mark.parametrize("bound", ["holdout es <= 0.5", "forgte es <= 0.5", "forget ess <= 0.5", "general prob >= 0.1"])
def test_a_gate_on_what_is_not_there_is_found_before_the_run(refused, clinic, tmp_path, bound):
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", clinic / f"{name}.jsonl")]
    line = refused("unlearn", "--model", clinic / "model", *sets, "-o", tmp_path / "o", "--gate", bound)
    assert "accepted: " in line
    assert not list(tmp_path.glob("o*"))


def test_a_row_of_a_bench_that_comes_twice(refused, clinic, tmp_path):
    line = refused("bench", "clu", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "-o", tmp_path / "o",
                   "--methods", "er+npo,er+npo")  # fmt: skip
    assert "'er+npo' comes twice" in line


@pytest.mark.parametrize("option", [("--method", "x" * 9000), ("--set", f"training.{'y' * 9000}=1"),
                                    ("--preset", "z" * 9000), ("--column", "a" * 9000)])  # fmt: skip
def test_long_words_are_cut(refused, clinic, tmp_path, option):
    refused("learn", "--model", clinic / "model", "--data", clinic / "learn.jsonl", "-o", tmp_path / "o", *option)


def test_the_version_is_told(capsys):
    from palimpsest.version import VERSION

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"palimpsest {VERSION}\n"


def test_a_result_of_absurd_numbers_is_a_page_or_one_line(refused, tmp_path, capsys):
    from tests.report.conftest import make_answered

    make_answered().save_json(tmp_path / "result.json")
    values = json.loads((tmp_path / "result.json").read_text())

    def grown(value: object) -> object:
        if isinstance(value, float):
            return 1e308
        if isinstance(value, dict):
            return {name: grown(inner) for name, inner in value.items()}
        return [grown(inner) for inner in value] if isinstance(value, list) else value

    (tmp_path / "result.json").write_text(json.dumps({**values, "curve": grown(values["curve"])}))
    assert main(["report", str(tmp_path)]) in {0, 2}
    assert "Traceback" not in capsys.readouterr().err
