"""What is said of an exception to who reads a run: its cause in a line, without the paths of this machine."""

import re

MOST_CHARACTERS = 500

_PATH = re.compile(r"""(?<![\w/.])(?:~|\.{1,2})?/(?:[^\s/'":;,()<>\[\]]+/)*[^\s/'":;,()<>\[\]]+/?""")


def cause_of(error: BaseException) -> str:
    """Name and first line of an exception; of an error of the system only what the system calls it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return without_paths(f"{type(error).__name__}: {error}")


def without_paths(text: str) -> str:
    """First line of a text, shortened, with ``(path)`` for every path in it."""
    line = text.strip().partition("\n")[0]
    return _PATH.sub("(path)", line)[:MOST_CHARACTERS]
