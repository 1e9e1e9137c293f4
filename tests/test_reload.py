"""A reload, as far as code must be loaded for it: what it does otherwise is tested with the daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.companion import Answer
from oomd.config.compiled import are_loaded, load, modules_of, to_plain
from oomd.config.loader import default_config
from oomd.model.matching import CMDLINE, Match, Term
from oomd.reload import Reload

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.config import Config

ROOT = Path(__file__).parents[1]


class Outside:
    """Answers at once what the test has put in."""

    def __init__(self, content: dict[str, object]) -> None:
        self.content = content
        self.told: list[dict[str, Any]] = []

    def ask(self, _: str, done: Callable[[Answer], object], **__: object) -> None:
        """The file was read."""
        done(Answer(ok=True, content=self.content))

    def tell(self, _: str, **content: object) -> None:
        """What came of it."""
        self.told.append(content)


def reloaded(modules: list[str], *, short: bool) -> tuple[list[Config], list[str]]:
    """The configurations that were put in force, and what was wrong."""
    outside: Any = Outside({"plain": to_plain(default_config()), "modules": modules})
    taken: list[Config] = []

    def take(config: Config) -> list[str]:
        taken.append(config)
        return []

    Reload(outside, lambda _: None, take, lambda: short).begin()
    return taken, outside.told[0]["problems"]


@pytest.mark.parametrize("short", [True, False])
def test_code_that_is_there_is_no_matter_of_memory(short: bool) -> None:
    """The configuration is taken, however little memory there is."""
    modules = modules_of(default_config())
    load(modules)
    assert reloaded(modules, short=short) == ([default_config()], [])


def test_no_code_is_loaded_while_memory_is_short() -> None:
    """The old configuration stays, and it is said when the new one may be asked for again."""
    taken, problems = reloaded(["oomd.policies.nothing"], short=True)
    assert taken == []
    assert "memory is short" in problems[0]
    taken, problems = reloaded(["oomd.policies.nothing"], short=False)
    assert taken == []
    assert "No module named 'oomd.policies.nothing'" in problems[0]


def test_only_detectors_and_policies_are_ever_loaded() -> None:
    """Whatever an outside process says that has gone mad."""
    names = ["this", "oomd.outside.main", "oomd.policies.cold.os", "oomd.policies.cold"]
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from oomd.config.compiled import load; load({names!r});"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert {*names} & {*done.stdout.split()} == {"oomd.policies.cold"}
    assert are_loaded(["sys"])
    assert not are_loaded(["sys", "oomd.policies.nothing"])


def test_modules_of_a_configuration() -> None:
    """Those of its detectors and policies, wherever they stand in it."""
    assert modules_of(default_config()) == [
        "oomd.detectors.pressure",
        "oomd.detectors.thresholds",
        "oomd.policies.culprit",
    ]
    assert modules_of(Match((Term(CMDLINE, "java", regex=True),))) == ["re"]
    assert modules_of(Match((Term(CMDLINE, "java"),))) == []
