"""Globs and regular expressions on long texts, without ever taking long.

A glob costs time in proportion to the text. Regular expressions are looked at when they are loaded
(oomd.config.regexes) and see only the beginning of a text, so that no process can stop the killer by its command line.
"""

from __future__ import annotations

from oomd.model import wildcards

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

MOST_TEXT = 4096
"""Characters of a command line that a glob sees."""
MOST_REGEX_TEXT = 512
"""Characters that a regular expression sees."""

_MOST = 256
_regexes: dict[str, re.Pattern[str]] = {}


def glob_matches(pattern: str, text: str) -> bool:
    """Whether the text (as far as :data:`MOST_TEXT`) fits the glob as a whole (oomd.model.wildcards)."""
    return wildcards.matches(pattern, text[:MOST_TEXT])


def regex_found(pattern: str, text: str) -> bool:
    """Whether the regular expression is found in the beginning of the text."""
    compiled = _regexes.get(pattern)
    if compiled is None:
        # Loaded where a list holds one, when the lists are prepared (oomd.engine.preferences), long before a kill.
        import re

        if len(_regexes) >= _MOST:
            _regexes.clear()
        compiled = _regexes[pattern] = re.compile(pattern)
    return compiled.search(text[:MOST_REGEX_TEXT]) is not None
