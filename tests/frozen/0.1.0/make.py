"""Makes the folders beside it, with palimpsest 0.1.0 at 43aedbf and no other: run in an empty folder, in one thread.

They are kept as they are: nothing newer may write here. See README.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import palimpsest as pal
from palimpsest.demo.tiny_model import train_tokenizer
from palimpsest.models.resnet import SmallResNet, resnet_config

NAMES = ("Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal")
STEPS = {"learning_rate": 1e-2, "max_steps": 4, "batch_size": 4}


def texts() -> None:
    """A clinic of eight, learned, then two of them unlearned, by all weights and by an adapter alone."""
    rows = [
        {"id": n, "prompt": f"Where is {n}?", "completion": f" {n} is at {7 * i} Hill Road."}
        for i, n in enumerate(NAMES)
    ]
    for name, part in {"forget": rows[:2], "retain": rows[2:6], "learn": rows[:6], "holdout": rows[6:]}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    tokenizer = train_tokenizer(["Hill Road is quiet."])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained("text_new")
    tokenizer.save_pretrained("text_new")
    sets = {"retain": "retain.jsonl", "holdout": "holdout.jsonl"}
    plan = {"training": STEPS}
    pal.learn("text_new", "learn.jsonl", output="text_learned", holdout="holdout.jsonl", plan=plan)
    pal.unlearn("text_learned", "forget.jsonl", output="text_unlearned", method="grad_diff", plan=plan, **sets)
    plan = {**plan, "scope": {"kind": "lora", "rank": 2, "merge": False}}
    pal.unlearn("text_learned", "forget.jsonl", output="text_adapter", method="grad_diff", plan=plan, **sets)


def images() -> None:
    """Three classes, told apart by the brighter channel, in a ResNet-20 of one channel a stage."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 24)
    images = rng.integers(0, 120, (24, 8, 8, 3), dtype=np.uint8)
    images[np.arange(24), :, :, label] += 100
    names = np.array([f"photo-{n}" for n in range(24)])
    for name, start, stop in (("forget", 0, 4), ("retain", 4, 16), ("learn", 0, 16), ("holdout", 16, 24)):
        np.savez_compressed(f"{name}.npz", x=images[start:stop], y=label[start:stop], name=names[start:stop])
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 3, widths=(2, 2, 2), image_size=8)).save_pretrained("image_new")
    plan = {"training": STEPS}
    pal.learn("image_new", "learn.npz", output="image_learned", holdout="holdout.npz", plan=plan)
    pal.unlearn(
        "image_learned", "forget.npz", output="image_unlearned", method="grad_diff", retain="retain.npz",
        holdout="holdout.npz", plan=plan,
    )  # fmt: skip


if __name__ == "__main__":
    texts()
    images()
