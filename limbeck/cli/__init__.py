"""The command line. Exit status 0 done, 1 a stated failure, 2 wrong usage."""

import limbeck.cli.llm
import limbeck.cli.specs
import limbeck.cli.teach
import limbeck.cli.train  # noqa: F401 - each adds its commands to the root
from limbeck.cli.app import main

__all__ = ["main"]
