"""Python processes that need not import torch first: each is forked off one that has.

The process that is forked from has imported what other projects make and nothing of Palimpsest, so a command finds its
own modules as a fresh process would, in its own order, and is spared some five seconds. It runs no tensor operation, so
there are no threads that a fork would lose. That a command starts by itself is for other tests.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Sequence
from pathlib import Path

HEAVY = ("torch", "numpy", "scipy.stats", "transformers", "transformers.modeling_utils", "accelerate", "peft", "faker")


class WarmPython:
    """Runs ``python ARGUMENTS`` many times; a context.

    Args:
        environment: of the processes.
        loaded: names of modules that they have imported already.
    """

    def __init__(self, environment: dict[str, str], loaded: Sequence[str] = HEAVY) -> None:
        command = [sys.executable, __file__, *loaded]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self._said = Path(tempfile.mkdtemp(prefix="warm-")) / "said"

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        shutil.rmtree(self._said.parent)

    def pytest(self, checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """pytest in a checkout; plugins that are imported already are none whose assertions anybody reads."""
        asked = ["-m", "pytest", *arguments, "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
        return self.run(asked, checkout, PYTHONPATH=str(checkout / "src"))

    def run(
        self, arguments: Sequence[str], folder: Path, *, given: str = "", apart: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """``python -m MODULE ...`` or ``python -c CODE ...`` in a folder.

        Args:
            arguments: of Python.
            folder: to be in.
            given: its standard input.
            apart: the errors as a text of their own, not among the output.
            environment: variables that it has beside those of all; of ``PYTHONPATH`` one folder, which comes first.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        files = [self._said.with_name(name) for name in ("given", "said", "erred" if apart else "said")]
        files[0].write_text(given, encoding="utf-8")
        stdin.write(json.dumps([list(arguments), str(folder), environment, [str(file) for file in files]]) + "\n")
        stdin.flush()
        code = stdout.readline()
        assert code, "the process to fork from has ended"
        said = [file.read_text(encoding="utf-8") for file in dict.fromkeys(files[1:])]
        return subprocess.CompletedProcess(list(arguments), int(code), *said)


def serve(loaded: Sequence[str]) -> None:
    """Import, then fork a process for each line of the standard input and answer with its exit code."""
    gc.disable()
    for name in loaded:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(*asked)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(arguments: list[str], folder: str, environment: dict[str, str], files: list[str]) -> None:
    """Be the process that was asked for, to its end."""
    os.chdir(folder)
    given, said, erred = files
    for stream, file in ((0, given), (1, said)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if stream else os.O_RDONLY, 0o644), stream)
    os.dup2(1 if erred == said else os.open(erred, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
    os.environ.update(environment)
    if "PYTHONPATH" in environment:
        sys.path.insert(1, environment["PYTHONPATH"])
    code = 1
    try:
        _execute(*arguments)
        code = 0
    except SystemExit as ended:
        code = _exit_code(ended)
    except BaseException:  # the fork ends here, whatever happens
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(ended: SystemExit) -> int:
    """Of a process that ends so; words are said and mean 1."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1


def _execute(kind: str, what: str, *arguments: str) -> None:
    """As the interpreter does with these arguments."""
    sys.path[0] = os.getcwd()
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(what, "<string>", "exec"), module.__dict__)


if __name__ == "__main__":
    serve(sys.argv[1:])
