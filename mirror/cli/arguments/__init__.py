"""The arguments of each command, as its help describes them, without the modules of its
work.

Each class is one command: its docstring is the help, its fields are arguments and options with
their descriptions for typer, and ``work`` names the function that is imported once the command
runs.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

RequireProof = Annotated[
    bool,
    typer.Option("--require-proof", help="Refuse while a want does not install (exit code 7)."),
]
"""Of each command that publishes or sends a state of the tree."""


class Arguments:
    """The arguments of one command, fixed once they are parsed.

    No dataclass: to generate its methods for each command takes a tenth of ``--help``.
    """

    ignores_unknown_options = False
    """Whether unknown options are passed on as arguments."""

    @property
    def work(self) -> str:
        """The command's function, ``module:name``: takes the ``GlobalOptions`` and these arguments,
        and returns an ``ExitCode``.
        """
        raise NotImplementedError

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")
