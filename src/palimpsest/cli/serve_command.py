"""``palimpsest serve-model``."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from palimpsest.cli import options as o
from palimpsest.cli.flags import Flag, command_of
from palimpsest.cli.saying import tell

_FLAGS = (
    Flag("model", Annotated[str, typer.Argument(metavar="MODEL", help="Classifier or causal LM: folder or Hub name.")],
         default=...),
    Flag("port", o.option(int, "Of 127.0.0.1; 0 = a free one.  [0]", "--port"), default=0),
    Flag("describe", o.option(str | None, "Write a blackbox.json that asks it.", "--describe", metavar="FILE")),
    Flag("token_env", o.option(str | None, "Environment variable with a credential to ask for.", "--token-env",
                               metavar="NAME")),
    Flag("revision", o.Revision),
    Flag("threads", o.Threads),
)  # fmt: skip


def _run(values: dict[str, Any]) -> int:
    from palimpsest.errors import PlanError
    from palimpsest.models.as_it_was import as_it_was
    from palimpsest.models.sources import check_source

    name = values["token_env"]
    token = None if name is None else os.environ.get(name)
    if name is not None and not token:
        raise PlanError(f"--token-env {name}: the environment variable is not set; set it to the credential")
    check_source(values["model"], values["revision"])
    with as_it_was():
        _serve(values, token)
    return 0


def _serve(values: dict[str, Any], token: str | None) -> None:
    from palimpsest.engine.serving import HOST, ServedModel, description_of, server_of, write_description
    from palimpsest.models.load import device, load, use_threads

    loaded = load(values["model"], revision=values["revision"])
    use_threads(loaded.model, values["threads"])
    loaded.model.to(device())
    served = ServedModel(loaded)
    with server_of(served, values["port"], token) as server:
        port = int(server.server_address[1])
        if values["describe"] is not None:
            write_description(values["describe"], description_of(served, port, values["token_env"]))
            tell(f"described in {values['describe']}")
        tell(f"{values['model']} answers at http://{HOST}:{port}/ as a {served.box.name}; Ctrl-C ends it")
        try:
            server.serve_forever()
        finally:
            tell(f"{served.queries} queries were answered")


command = command_of(_run, _FLAGS, "Serve a model on this machine as a black box that counts what it is asked.")
