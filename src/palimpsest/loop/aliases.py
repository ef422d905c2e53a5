"""What options are called elsewhere: only for the hint of an error, never accepted.

From transformers' TrainingArguments, TRL, PEFT, torch.optim and the shorthand of papers.
"""

from __future__ import annotations

OPTIONS = {
    "adam_beta1": "training.betas",
    "adam_beta2": "training.betas",
    "beta1": "training.betas",
    "beta2": "training.betas",
    "bs": "training.batch_size",
    "clip": "training.max_grad_norm",
    "clip_grad_norm": "training.max_grad_norm",
    "epochs": "training.num_train_epochs",
    "grad_clip": "training.max_grad_norm",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "iterations": "training.max_steps",
    "lora_r": "scope.rank",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.lr_scheduler_type",
    "max_iters": "training.max_steps",
    "max_seq_length": "encoding.max_length",
    "max_time": "training.max_seconds",
    "micro_batch": "training.micro_batch_size",
    "n_epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "num_steps": "training.max_steps",
    "num_training_steps": "training.max_steps",
    "optim": "training.optimizer",
    "per_device_train_batch_size": "training.batch_size",
    "r": "scope.rank",
    "save_steps": "training.checkpoint_steps",
    "scheduler": "training.lr_scheduler_type",
    "steps": "training.max_steps",
    "train_batch_size": "training.batch_size",
    "truncation": "encoding.truncate",
    "warmup": "training.warmup_steps",
    "wd": "training.weight_decay",
}
"""Name elsewhere -> section and option here."""

OTHER_SECTIONS = {
    "args": "training",
    "data": "encoding",
    "eval": "measuring",
    "lora": "scope",
    "metrics": "measuring",
    "optimizer": "training",
    "peft": "scope",
    "tokenizer": "encoding",
    "train": "training",
    "trainer": "training",
    "training_args": "training",
}


def meant_option(section: str, name: str) -> str | None:
    """The option that a name elsewhere stands for, with its section where that is another one; None = not known.

    >>> meant_option("training", "lr"), meant_option("training", "lora_r"), meant_option("training", "colour")
    ('learning_rate', 'scope.rank', None)
    """
    here = OPTIONS.get(name.lower())
    return None if here is None else here.removeprefix(f"{section}.")


def meant_section(section: str, name: str = "") -> str | None:
    """Likewise the section; the option that was named with it tells more, if it is known.

    >>> meant_section("trainer"), meant_section("trainer", "lr"), meant_section("trainer", "max_steps")
    ('training', 'training.learning_rate', 'training')
    """
    return OPTIONS.get(name.lower()) or OTHER_SECTIONS.get(section.lower())
