"""The same small clinic as for the verbs."""

from tests.verbs.conftest import clinic

__all__ = ["clinic"]
