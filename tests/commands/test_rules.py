"""The lists of what rules can be made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oomd import detectors, policies
from oomd.__main__ import main
from oomd.commands.rules import LISTS, describe
from oomd.config.loader import load_config
from oomd.config.schema import option_keys
from oomd.model.config import Config

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("listed", ["detectors", "policies", "actions"])
def test_lists_for_people_and_programs(capsys: pytest.CaptureFixture[str], listed: str) -> None:
    """Every entry with its options; JSON has the same."""
    assert main([listed]) == 0
    text = capsys.readouterr().out
    assert main([listed, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)[listed]
    assert text == "".join(f"{line}\n" for entry in entries for line in describe(entry))


@pytest.mark.parametrize("declared", [*detectors.ALL, *policies.ALL], ids=lambda declared: declared.name)
def test_everything_says_what_it_means(declared: Any) -> None:
    """One line for each detector and policy, and for each of its options; no meaning without an option."""
    assert declared.meaning
    keys = {key.name: key.meaning for key in option_keys(declared)}
    assert all(keys.values()), keys
    assert set(getattr(declared, "meanings", {})) == set(keys)
    assert set(getattr(declared, "ranges", {})) <= set(keys)
    assert set(getattr(declared, "choices", {})) <= set(keys)


@pytest.mark.parametrize("listed", ["detectors", "policies", "actions"])
def test_readme_has_a_row_for_each(listed: str) -> None:
    """The tables of the README say what the declarations say."""
    for entry in LISTS[listed]():
        options = ", ".join(f"`{option['name']}` {option['default'] or ''}".strip() for option in entry["options"])
        assert f"| `{entry['name']}` | {entry['meaning']} | {options or '–'} |" in README


def test_default_as_told_is_the_default_that_loads(tmp_path: Path) -> None:
    """Every option written out with the default that the list tells loads as though it had been left out."""
    for kind, declared in (("detectors", each) for each in detectors.ALL):
        entry = next(each for each in LISTS[kind]() if each["name"] == declared.name)
        given = {option["name"]: _example(option) for option in entry["options"] if option["needed"]}
        if "one_of" in vars(declared):
            given["above"] = "5"
        full = given | {option["name"]: option["default"] for option in entry["options"] if option["default"]}
        loaded = []
        for options in (given, full):
            path = tmp_path / "c.yaml"
            path.write_text(json.dumps({"rulesets": [{"name": "a", "when": {"all": [{declared.name: options}]}}]}))
            config = load_config(str(path))
            assert isinstance(config, Config), config
            loaded.append(config)
        assert loaded[0] == loaded[1]


def _example(option: dict[str, Any]) -> str:
    examples = {"threshold": "5%", "share": "40%", "count": "5", "rate": "1MiB/s", "cgroups": "/a", "percent": "50%"}
    return examples[option["kind"]]
