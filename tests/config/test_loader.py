"""Configurations, right and wrong."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oomd import policies
from oomd.config.compiled import from_plain, to_plain
from oomd.config.effective import to_yaml
from oomd.config.loader import default_config, load_config
from oomd.config.proactive import PROACTIVE_KEYS
from oomd.config.schema import DEFAULT_PROTECT, KEYS
from oomd.model.config import Config, LmkdOptions, MetricsOptions
from oomd.model.hooks import Hook, Hooks
from oomd.model.managed import ManagedOptions
from oomd.model.proactive import Proactive
from oomd.model.scope import parse_scope
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, MILLISECOND_US, SECOND_US

if TYPE_CHECKING:
    from oomd.model.ruleset import Ruleset

EXAMPLES = Path(__file__).parents[2] / "configs"


def write(folder: Path, text: str | bytes) -> str:
    """A configuration file."""
    path = folder / "oomd.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def loaded(folder: Path, text: str, **overrides: str) -> Config:
    """A configuration that is right."""
    config = load_config(write(folder, text), overrides=overrides)
    assert isinstance(config, Config), [str(problem) for problem in config]
    return config


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is wrong, with places but without the folder."""
    found = load_config(write(folder, text))
    assert isinstance(found, list)
    return [str(problem).removeprefix(f"{folder}/") for problem in found]


def ruleset(config: Config, name: str) -> Ruleset:
    """The ruleset of this name."""
    return next(each for each in config.rules.rulesets if each.name == name)


def test_no_file_is_the_default() -> None:
    """Without a file there are two rulesets, the whole machine, and the embedded list of protected names."""
    config = default_config()
    assert [each.name for each in config.rules.rulesets] == ["level", "stall"]
    assert str(config.scope) == "machine"
    assert config.budget_bytes is None
    assert config.rules.preferences.protect.patterns == DEFAULT_PROTECT


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "level:\n", "level: {}\nprotect: [default]\n"])
def test_empty_means_default(tmp_path: Path, text: str) -> None:
    """An empty file, and empty keys, change nothing."""
    assert loaded(tmp_path, text) == default_config()


def test_every_key_is_read(tmp_path: Path) -> None:
    """Each key arrives where it belongs."""
    text = """
scope: uid:1000
budget: 2GiB
dry_run: yes
level: {term: 64MiB, kill: 16MiB, swap: 20%, grace: 1.5s}
stall: {term: 30%, kill: 60%, over: 4s, available: 1GiB, grace: 0s}
protect: [default, mydb]
prefer: [chrom*]
avoid: [editor]
reap: {backend: none}
log: {format: json}
runtime_dir: /tmp/x
"""
    config = loaded(tmp_path, text)
    assert config.scope == parse_scope("uid:1000")
    assert config.budget_bytes == 2 * GIB
    assert config.dry_run
    level, stall = config.rules.rulesets
    assert [detector.words() for detector in level.when[0]] == [
        "available memory is below 64MiB",
        "free swap is below 20% (or there is none)",
    ]
    assert level.critical[0][0].words() == "available memory is below 16MiB"
    assert (level.grace_us, stall.grace_us) == (1_500_000, 0)
    assert stall.when[0][0].words() == "memory pressure (full) is 30% or more over 4s"
    assert stall.critical[0][0].words() == "memory pressure (full) is 60% or more over 4s"
    assert config.rules.preferences.protect.patterns == (*DEFAULT_PROTECT, "mydb")
    assert config.rules.preferences.prefer.patterns == ("chrom*",)
    assert config.rules.preferences.avoid.patterns == ("editor",)
    assert (config.reap.backend, config.log.format, config.runtime_dir) == ("none", "json", "/tmp/x")


def test_kill_is_half_of_term_unless_given(tmp_path: Path) -> None:
    """Halving term halves both of its parts."""
    config = loaded(tmp_path, "level: {term: 'min(8%, 300MiB)'}")
    assert getattr(ruleset(config, "level").critical[0][0], "below") == Threshold(0.04, 150 * MIB)  # noqa: B009


def test_off_drops_a_ruleset(tmp_path: Path) -> None:
    """`off` is the word, not YAML's boolean."""
    assert [each.name for each in loaded(tmp_path, "level: off").rules.rulesets] == ["stall"]
    assert [each.name for each in loaded(tmp_path, "stall: off").rules.rulesets] == ["level"]


def test_long_form_says_the_same_as_the_short(tmp_path: Path) -> None:
    """The rulesets written out in the example are the embedded default."""
    text = (EXAMPLES / "oomd.yaml").read_text(encoding="utf-8")
    begin = text.index("#rulesets:")
    block = text[begin : text.index("\n\n", begin)]
    config = loaded(tmp_path, re.sub(r"(?m)^#", "", block))
    assert config.rules.rulesets == default_config().rules.rulesets


def test_example_shows_every_key_with_its_default(tmp_path: Path) -> None:
    """Uncommenting the example (its short form) yields exactly the defaults, and no key of the schema is missing from
    it.
    """
    text = (EXAMPLES / "oomd.yaml").read_text(encoding="utf-8")
    begin = text.index("#rulesets:")
    short = text[:begin] + text[text.index("\n\n", begin) :]
    begin = short.index("#lmkd:")
    end = short.index("\n\n", begin)
    lmkd, short = short[begin:end], short[:begin] + short[end:]
    begin = short.index("#proactive:")
    end = short.index("\n\n", begin)
    proactive, short = short[begin:end], short[:begin] + short[end:]
    begin = short.index("#hooks:")
    end = short.index("\n\n", begin)
    hooks, short = short[begin:end], short[:begin] + short[end:]
    config = loaded(
        tmp_path, re.sub(r"(?m)^#(?=[a-z ] ?)(?! )", "", re.sub(r"(?m)^# .*$", "", re.sub(r"(?m)^#  ", "  ", short)))
    )
    assert config == default_config()
    true = os.path.realpath("/bin/true")
    programs = Hooks(Hook((true,), 200 * MILLISECOND_US), Hook((true,), 10 * SECOND_US))
    shown = re.sub(r"/usr/local/sbin/[a-z-]+", true, re.sub(r"(?m)^#", "", hooks))
    assert loaded(tmp_path, shown).rules.hooks == programs
    assert loaded(tmp_path, re.sub(r"(?m)^#", "", lmkd)) == replace(default_config(), lmkd=LmkdOptions())
    on = loaded(tmp_path, re.sub(r"(?m)^#", "", proactive))
    assert on.rules.proactive == Proactive("/system.slice/*")
    assert all(f"#  {key.name}: " in proactive for key in PROACTIVE_KEYS)
    for key in KEYS:
        assert f"#{key.name}:" in text
        for inner in key.keys:
            assert re.search(rf"(?m)^#  {inner.name}: ", text), inner.name


def test_example_loads_as_it_is() -> None:
    """Every file in configs/ loads."""
    for path in EXAMPLES.glob("*.yaml"):
        assert isinstance(load_config(str(path)), Config), path


def test_compiled_configuration_is_the_same(tmp_path: Path) -> None:
    """What the killer receives over marshal is what the loader made."""
    import marshal

    config = loaded(tmp_path, "budget: 1GiB\nscope: uid:5,cgroup:/a\nprefer: [x]\nstall: {over: 3s}")
    assert from_plain(marshal.loads(marshal.dumps(to_plain(config)))) == config
    with pytest.raises(ValueError, match="not a compiled configuration"):
        from_plain([1])
    with pytest.raises(ValueError, match="unknown part 'Nothing'"):
        from_plain(("Nothing", {}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lmkd: {protocol: A12}", "1:18: lmkd.protocol: 'A12' is not one of A11, A15, A17 (did you mean 'A17'?)"),
        ("lmkd: {override: x}", "1:18: lmkd.override: should be a list, is 'x'"),
        ("lmkd: {override: [x]}", "1:19: lmkd.override[0]: 'x' is not name=value"),
        ("lmkd: {override: [ro.lmk.debug=perhaps]}", "1:19: lmkd.override[0]: 'perhaps' is no truth value"),
        (
            "lmkd: {override: [ro.lmk.thrashin_limit=9]}",
            "1:19: lmkd.override[0]: 'ro.lmk.thrashin_limit' is no property of lmkd (did you mean 'ro.lmk.thrashing_limit'?)",
        ),
        (
            "lmkd: {only: true}\nprotect: [x]",
            "2:10: protect: has no effect beside lmkd: {only: true}; remove one of them",
        ),
        ("lmkd: {only: true}\nlevel: off", "2:8: level: has no effect beside lmkd: {only: true}; remove one of them"),
        ("lmkd: {sockets: x}", "1:8: lmkd.sockets: unknown key (did you mean 'socket'?)"),
    ],
)
def test_mistakes_of_lmkd(tmp_path: Path, text: str, problem: str) -> None:
    """Each is told where it stands."""
    found = load_config(write(tmp_path, text))
    assert isinstance(found, list)
    assert [str(each).partition(":")[2] for each in found] == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("managed: {systemd: yes}", "1:20: managed.systemd: 'yes' is not one of auto, takeover, poll, off"),
        ("managed: {swap_limit: 0%}", "1:23: managed.swap_limit"),
        ("managed: {pressure_limit: 120%}", "1:27: managed.pressure_limit: '120%' is above 100%"),
        ("managed: {pressure_duration: 500ms}", "1:30: managed.pressure_duration"),
        ("managed: {limit: 5%}", "1:11: managed.limit: unknown key"),
    ],
)
def test_mistakes_of_managed(tmp_path: Path, text: str, problem: str) -> None:
    """Each is told where it stands; systemd accepts no duration below a second either."""
    found = load_config(write(tmp_path, text))
    assert isinstance(found, list)
    assert len(found) == 1
    assert str(found[0]).partition(":")[2].startswith(problem)


def test_managed(tmp_path: Path) -> None:
    """Off, with oomd.conf's defaults, unless said otherwise; what is shown in full loads as the same."""
    assert loaded(tmp_path, "").managed == ManagedOptions()
    config = loaded(tmp_path, "managed: {systemd: auto, swap_limit: 80%, pressure_limit: 55%, pressure_duration: 5s}")
    assert config.managed == ManagedOptions("auto", 0.8, 0.55, 5_000_000)
    assert loaded(tmp_path, to_yaml(config)).managed == config.managed


def test_metrics(tmp_path: Path) -> None:
    """Off unless asked for, by the file or the command line; what is shown in full loads as the same."""
    assert loaded(tmp_path, "").metrics == MetricsOptions()
    config = loaded(tmp_path, 'metrics: {listen: "127.0.0.1:9779, [::1]:9779", textfile: /a/oomd.prom}')
    assert config.metrics == MetricsOptions(("127.0.0.1:9779", "[::1]:9779"), "/a/oomd.prom")
    assert loaded(tmp_path, to_yaml(config)).metrics == config.metrics
    assert from_plain(to_plain(config)) == config
    found = load_config(None, overrides={"metrics.listen": ":9779", "metrics.textfile": "off"})
    assert isinstance(found, Config)
    assert found.metrics == MetricsOptions((":9779",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("metrics: 9779", "1:10: metrics: should be a mapping (key: value), is '9779'"),
        ("metrics: {listen: 9779}", "1:19: metrics.listen: '9779' needs host and port, as in 127.0.0.1:9779"),
        ("metrics: {textfile: oomd.prom}", "1:21: metrics.textfile: 'oomd.prom' should name a file by its whole path"),
        ("metrics: {port: 1}", "1:11: metrics.port: unknown key"),
    ],
)
def test_mistakes_of_metrics(tmp_path: Path, text: str, problem: str) -> None:
    """Told with their place and what would be right."""
    (tmp_path / "oomd.yaml").write_text(text, encoding="utf-8")
    found = load_config(str(tmp_path / "oomd.yaml"))
    assert not isinstance(found, Config)
    assert str(found[0]).partition(":")[2].startswith(problem)


def test_lmkd_alone_has_no_other_rule(tmp_path: Path) -> None:
    """`only` leaves no ruleset, and the command line can ask for it."""
    assert loaded(tmp_path, "lmkd: {only: true}").rules.rulesets == ()
    found = load_config(None, overrides={"lmkd.only": "true", "lmkd.socket": "/tmp/s"})
    assert isinstance(found, Config)
    assert found.lmkd == LmkdOptions(only=True, socket="/tmp/s")
    assert found.rules.rulesets == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("levle: {}", ["oomd.yaml:1:1: levle: unknown key (did you mean 'level'?)"]),
        ("level:\n  trem: 5%", ["oomd.yaml:2:3: level.trem: unknown key (did you mean 'term'?)"]),
        ("level: {}\nlevel: {}", ["oomd.yaml:2:1: level: is given twice, first in line 1"]),
        ("level: {term: 5}", ["oomd.yaml:1:15: level.term: '5' has no unit: a size looks like 64MiB or 1GiB"]),
        ("level: {term: 5 parsecs}", ["oomd.yaml:1:15: level.term: unknown unit 'parsecs' in '5 parsecs': a size looks like 64MiB or 1GiB"]),
        ("level: {term: 120%}", ["oomd.yaml:1:15: level.term: '120%' is above 100%"]),
        ("level: {grace: 5}", ["oomd.yaml:1:16: level.grace: '5' has no unit: a duration looks like 1.5s or 200ms"]),
        ("stall: {over: 1:30}", ["oomd.yaml:1:15: stall.over: unknown unit ':30' in '1:30': a duration looks like 1.5s or 200ms"]),
        ("stall: {term: 0.4}", ["oomd.yaml:1:15: stall.term: '0.4' is not a share: it looks like 5%"]),
        ("stall: {over: 100ms}", ["oomd.yaml:1:15: stall.over: should be between 500ms and 10s"]),
        ("stall: {term: 80%}", ["oomd.yaml:1:8: stall.kill: is below stall.term: nobody would ever be asked to go"]),
        ("level: {term: 5%, kill: 6%}", ["oomd.yaml:1:25: level.kill: is above level.term: nobody would ever be asked to go"]),
        ("level: [1]", ["oomd.yaml:1:8: level: should be a mapping (key: value), is a list"]),
        ("level: on", ["oomd.yaml:1:8: level: should be a mapping (key: value), is 'on'"]),
        ("level: off\nstall: off", ["oomd.yaml:2:8: stall: level and stall are both off: nothing would ever be done"]),
        ("dry_run: maybe", ["oomd.yaml:1:10: dry_run: 'maybe' is neither true nor false"]),
        ("dry_run:", ["oomd.yaml:1:9: dry_run: is empty"]),
        ("scope: tree:abc", ["oomd.yaml:1:8: scope: 'tree:abc' is no scope: machine, tree:PID, cgroup:/PATH or uid:UID"]),
        ("budget: 0B", ["oomd.yaml:1:9: budget: must be more than nothing"]),
        ("budget: [1GiB]", ["oomd.yaml:1:9: budget: should be a single value, is a list"]),
        ("protect: sshd", ["oomd.yaml:1:10: protect: should be a list, is 'sshd'"]),
        ("protect: [[a]]", ["oomd.yaml:1:11: protect[0]: should be a name or a mapping of conditions, is a list"]),
        ("protect: ['']", ["oomd.yaml:1:11: protect[0]: is empty"]),
        ("avoid: [/usr/bin/x]", ["oomd.yaml:1:9: avoid[0]: '/usr/bin/x' is a path; names are compared with the kernel's comm, without folders"]),
        ("protect: [x]\nprefer: [x]", ["oomd.yaml:2:10: prefer: 'x' is on the list protect too"]),
        ("avoid: [x]\nprefer: [x]", ["oomd.yaml:2:10: prefer: 'x' is on the list avoid too"]),
        ("reap: {backend: mreleese}", ["oomd.yaml:1:17: reap.backend: 'mreleese' is not one of auto, mrelease, expedite, none (did you mean 'mrelease'?)"]),
        ("reap: {every_exit: on}", ["oomd.yaml:1:20: reap.every_exit: 'on' is not one of off, pressure, always"]),
        ("reap:\n  backend: none\n  every_exit: always", ["oomd.yaml:3:15: reap.every_exit: has no effect with backend: none"]),
        ("? [a, b]\n: 1", ["oomd.yaml:1:3: a key must be a plain word"]),
        ("<<: {level: off}", ["oomd.yaml:1:1: <<: merge keys are not read: write the keys out"]),
        ("- level", ["oomd.yaml:1:1: should be a mapping (key: value), is a list"]),
        ("level: {", ["oomd.yaml:1:9: is not YAML: expected the node content, but found '<stream end>'"]),
        ("a: 1\n---\nb: 2", ["oomd.yaml:2:1: is not YAML: but found another document"]),
        (b"level: \xff", ["oomd.yaml:1:8: is not UTF-8 text"]),
        (b"level: \x01", ["oomd.yaml:1:8: is not YAML: special characters are not allowed"]),
        ("rulesets: []", ["oomd.yaml:1:11: rulesets: is empty: nothing would ever be done"]),
        ("level: {}\nrulesets: [{name: a, when: {all: [{swap_free: {below: 1%}}]}}]", ["oomd.yaml:1:8: level: has no effect beside rulesets, which replace it; remove one of them"]),
        ("rulesets: [{when: {all: [{swap_free: {below: 1%}}]}}]", ["oomd.yaml:1:12: rulesets[0]: needs 'name'"]),
        ("rulesets: [{name: a}]", ["oomd.yaml:1:12: rulesets[0]: needs 'when'"]),
        ("rulesets: [{name: a, when: {all: []}}]", ["oomd.yaml:1:34: rulesets[0].when.all: has no detector: an empty group would always hold"]),
        ("rulesets: [{name: a, when: {any: []}}]", ["oomd.yaml:1:34: rulesets[0].when.any: has no group: it would never hold"]),
        ("rulesets: [{name: a, when: {}}]", ["oomd.yaml:1:28: rulesets[0].when: needs either 'any' (a list of groups) or 'all' (a list of detectors)"]),
        ("rulesets: [{name: a, when: {all: [{swapfree: {below: 1%}}]}}]", ["oomd.yaml:1:36: rulesets[0].when.all[0].swapfree: unknown key (did you mean 'swap_free'?)"]),
        ("rulesets: [{name: a, when: {all: [{swap_free: {}}]}}]", ["oomd.yaml:1:47: rulesets[0].when.all[0].swap_free: needs 'below'"]),
        ("rulesets: [{name: a, when: {all: [{pressure: {above: 1%, kind: fool}}]}}]", ["oomd.yaml:1:64: rulesets[0].when.all[0].pressure.kind: 'fool' is not one of full, some"]),
        ("rulesets: [{name: a, when: {all: [{swap_free: {below: 1%}}]}, then: [{term: {}}]}]", ["oomd.yaml:1:69: rulesets[0].then: should end in kill or cgroup_kill: a victim may ignore SIGTERM"]),
        ("rulesets: [{name: a, when: {all: [{swap_free: {below: 1%}}]}, choose: {policy: freable}}]", ["oomd.yaml:1:80: rulesets[0].choose.policy: 'freable' is no policy; there is: " + ", ".join(each.name for each in policies.ALL) + " (did you mean 'freeable'?)"]),
    ],
)  # fmt: skip
def test_mistakes_have_their_place(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    """Each mistake is told with file, line, column and path; where a number without a unit is right, nothing is."""
    if not expected:
        assert isinstance(load_config(write(tmp_path, text)), Config)
        return
    assert problems(tmp_path, text) == expected


def test_all_mistakes_at_once_in_their_order(tmp_path: Path) -> None:
    """One run tells everything, sorted by place."""
    text = "levl: 1\nstall: {term: 1X, kil: 3%}\nprotect: x\n"
    assert [problem.split(": ")[0] for problem in problems(tmp_path, text)] == [
        "oomd.yaml:1:1",
        "oomd.yaml:2:15",
        "oomd.yaml:2:19",
        "oomd.yaml:3:10",
    ]


def test_two_rulesets_of_one_name(tmp_path: Path) -> None:
    """Reports would not tell them apart."""
    rule = "{name: a, when: {all: [{swap_free: {below: 1%}}]}}"
    assert "another ruleset has the name 'a'" in problems(tmp_path, f"rulesets: [{rule}, {rule}]")[0]


def test_several_detectors_in_one_item(tmp_path: Path) -> None:
    """An AND-group is a list; two keys in one item are a slip of the hyphen."""
    text = "rulesets: [{name: a, when: {all: [{swap_free: {below: 1%}, memory_available: {below: 1%}}]}}]"
    assert "names several detectors" in problems(tmp_path, text)[0]


def test_files_that_are_none(tmp_path: Path) -> None:
    """A missing file, a directory and a giant are told, not raised."""
    for path, text in ((tmp_path / "missing", "No such file"), (tmp_path, "Is a directory")):
        found = load_config(str(path))
        assert isinstance(found, list)
        assert text in str(found[0])
    assert "larger than 1 MiB" in problems(tmp_path, "#" * (1 << 20) + "#")[0]
    assert "nested too deeply" in problems(tmp_path, "a: " + "[" * 20000)[0]


def test_overrides_win_and_name_their_option(tmp_path: Path) -> None:
    """The command line stands above the file; its mistakes name the option."""
    config = loaded(tmp_path, "budget: 1GiB", budget="3GiB", **{"log.format": "json"}, dry_run="true")
    assert (config.budget_bytes, config.log.format, config.dry_run) == (3 * GIB, "json", True)
    found = load_config(None, overrides={"budget": "lots", "log.format": "yaml", "runtime_dir": "/x"})
    assert isinstance(found, list)
    assert [str(problem).split(":")[0] for problem in found] == ["--budget", "--log-format"]


@given(st.text() | st.binary())
def test_no_text_is_ever_raised(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    """Whatever the file holds, there is a configuration or a list of problems with places."""
    found = load_config(
        write(
            tmp_path_factory.getbasetemp(), text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        )
    )
    assert isinstance(found, Config) or all(problem.message for problem in found)


@given(
    st.recursive(
        st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [*(key.name for key in KEYS), "term", "kill", "when", "all", "any", "name", "pressure"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_structure_is_judged(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    """Known keys in the wrong places never raise either."""
    found = load_config(write(tmp_path_factory.getbasetemp(), yaml.safe_dump(content)))
    assert isinstance(found, Config) or found


@pytest.mark.parametrize(
    "text",
    [
        "lmkd: {}",
        "lmkd: {only: true, protocol: A17, override: [ro.lmk.thrashing_limit=30], log: /tmp/l, socket: /tmp/s}",
        "",
        "budget: 3GiB\nscope: uid:7,cgroup:/a\nlevel: {term: 1%, grace: 0s}\nprefer: [x]",
        "stall: off",
        "level: off\nstall: off\nmanaged: {systemd: poll}",
    ],
)
def test_effective_configuration_loads_as_the_same(tmp_path: Path, text: str) -> None:
    """What check prints can be loaded and means the same."""
    config = loaded(tmp_path, text)
    assert loaded(tmp_path, to_yaml(config)) == config


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_example_loads_and_survives_being_written_out(tmp_path: Path, name: str) -> None:
    """What stands in configs/ is right, and says the same after a round through the killer's form and through YAML."""
    config = load_config(str(EXAMPLES / name))
    assert isinstance(config, Config), config
    assert from_plain(to_plain(config)) == config
    assert loaded(tmp_path, to_yaml(config)) == config


WHEN = "when: {all: [{swap_free: {below: 1%}}]}"


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("choose: {level: cgrop}", "oomd.yaml:1:79: rulesets[0].choose.level: 'cgrop' is not one of process, group, session, cgroup, process_in (did you mean 'cgroup'?)"),
        ("choose: {from: [web.slice]}", "oomd.yaml:1:79: rulesets[0].choose.from[0]: 'web.slice' is no cgroup: it looks like /system.slice/*"),
        ("choose: {from: []}", "oomd.yaml:1:78: rulesets[0].choose.from: names no cgroup; left out it means everybody in scope"),
        ("choose: {recursive: true}", "oomd.yaml:1:83: rulesets[0].choose.recursive: has no effect at level process: only cgroups nest"),
        ("choose: {level: cgroup, leaves: true}", "oomd.yaml:1:95: rulesets[0].choose.leaves: needs 'from': below which cgroups, as in [/system.slice/**]"),
        ("choose: {from: [/a/**], leaves: true}", "oomd.yaml:1:95: rulesets[0].choose.leaves: has no effect at level process: only cgroups have leaves"),
        ("choose: {from: [/a/**], level: cgroup, leaves: true, recursive: true}", "oomd.yaml:1:110: rulesets[0].choose.leaves: speaks against recursive, which goes down from sibling to sibling"),
        ("choose: {most: 0}", "oomd.yaml:1:78: rulesets[0].choose.most: nobody could ever be taken"),
        ("choose: {most: 5MiB}", "oomd.yaml:1:78: rulesets[0].choose.most: '5MiB' is no whole number"),
        ("choose: {policy: {swap: {at_last: 5%}}}", "oomd.yaml:1:88: rulesets[0].choose.policy.swap.at_last: unknown key (did you mean 'at_least'?)"),
        ("choose: {policy: {}}", "oomd.yaml:1:80: rulesets[0].choose.policy: should be one policy"),
        ("choose: {policy: {swap: {}, cold: {}}}", "oomd.yaml:1:80: rulesets[0].choose.policy: should be one policy"),
        ("critical: {all: [{presure: {above: 5%}}]}", "oomd.yaml:1:81: rulesets[0].critical.all[0].presure: unknown key (did you mean 'pressure'?)"),
        ("critical: {all: []}", "oomd.yaml:1:79: rulesets[0].critical.all: has no detector: an empty group would always hold"),
        ("critical: {all: [{dying_descendants: {}}]}", "oomd.yaml:1:100: rulesets[0].critical.all[0].dying_descendants: needs one of 'above' and 'at_most', and only one"),
        ("critical: {all: [{memory_growth: {above: 5}}]}", "oomd.yaml:1:104: rulesets[0].critical.all[0].memory_growth.above: '5' has no unit: a size looks like 64MiB or 1GiB"),
        ("critical: {all: [{exists: {of: machine}}]}", "oomd.yaml:1:94: rulesets[0].critical.all[0].exists.of: 'machine' is no cgroup: it looks like /system.slice/*"),
        ("critical: {all: [{reclaim: {of: /a/../b}}]}", "oomd.yaml:1:95: rulesets[0].critical.all[0].reclaim.of: '/a/../b' is no cgroup: it looks like /system.slice/*"),
        ("critical: {all: [{thrashing: {above: 200}}]}", "oomd.yaml:1:100: rulesets[0].critical.all[0].thrashing.above: '200' is no percentage: it looks like 150%"),
    ],
)  # fmt: skip
def test_mistakes_in_rules_have_their_place(tmp_path: Path, rest: str, expected: str) -> None:
    """Levels, choices and options of policies are checked as everything else."""
    assert problems(tmp_path, f"rulesets: [{{name: a, {WHEN}, {rest}}}]") == [expected]


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_both_parsers_say_the_same(path: Path) -> None:
    """libyaml, which is quick, and PyYAML's own, which is there everywhere: the same nodes in the same places."""
    fast = getattr(yaml, "CSafeLoader", None)
    if fast is None:
        pytest.skip("PyYAML was built without libyaml")
    text = path.read_text("utf-8")
    assert told(yaml.compose(text, Loader=fast)) == told(yaml.compose(text, Loader=yaml.SafeLoader))


def told(node: Any) -> Any:
    """All that the walk looks at."""
    if node is None:
        return None
    place = node.id, node.start_mark.line, node.start_mark.column, bool(getattr(node, "style", ""))
    if node.id == "scalar":
        return (*place, node.value)
    if node.id == "sequence":
        return (*place, [told(each) for each in node.value])
    return (*place, [(told(key), told(value)) for key, value in node.value])
