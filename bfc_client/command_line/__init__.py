"""The ``bfc`` command: data on standard output, everything else on standard error."""

from bfc_client.command_line.app import main

__all__ = ["main"]
