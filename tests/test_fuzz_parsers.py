"""Everything that reads what others have written: inputs of any shape, as many in all as OOMD_FUZZ_LINES says
(100 000 in ``make bench``); an answer or words about what is wrong, and nothing is left behind.
"""

from __future__ import annotations

import json
import marshal
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from oomd.config.compiled import to_plain
from oomd.config.loader import default_config, load_config
from oomd.debts import NAME, read_debts
from oomd.lmkd.wire import LEVELS, decode
from oomd.model.managed import read_units
from oomd.outside.plain import loads
from oomd.outside.varlink import Frames, VarlinkError, parameters_of
from oomd.replay.incident import read_recording
from oomd.replay.meta import read_meta
from oomd.replay.trace import ReplayError
from tests.fuzzing import Fuzzer, without_a_leak
from tests.kernel.arbitrary import FIXTURES
from tests.outside.events import DECISION
from tests.replay.test_incident import lines
from tests.test_parsers import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[1]
SIZE = 1500
"""Bytes of one input, and no more: what is wrong with a file is rarely its length."""
TEXTS = (
    *("64MiB", "1.5GiB", "5%", "min(5%, 1GiB)", "1.5s", "200ms", "10", "-1", "max", "50G", "1d 2h", "off", "yes"),
    *(
        "machine",
        "tree:17",
        "cgroup:/a.slice",
        "uid:1000,tree:3",
        "127.0.0.1:9779",
        "[::1]:9779",
        ":9779",
        "unix:/run/x",
    ),
    *(
        "/system.slice/a.service",
        "/kubepods.slice/kubepods-pod1.slice/cri-containerd-00.scope",
        "*",
        "a[b-c]*?",
        "ro.x=1",
    ),
    *("2026-01-01", "11:40", "-2h", "yesterday", "some avg10=0.12 avg60=0.00 avg300=0.00 total=17"),
)
RULES = b"""
level: {term: "min(5%, 1GiB)", kill: 512MiB, grace: 5s}
protect: [default, {cmdline: {regex: 'a+b'}, user: root}]
metrics: {listen: "127.0.0.1:9779"}
tell: {wall: true, low_memory_monitor: {low: 20%}}
hooks: {prekill: 1s}
"""
RULESETS = b"""
rulesets:
  - name: a
    when: {any: [{all: [{memory_available: {below: 5%}}, {pressure: {above: 40%, over: 2s, of: /a/*}}]}]}
    choose: {from: [/a/*], level: cgroup, policy: {growth_or_size: {growth: 1.5}}}
    then: [{notify: {timeout: 5s}}, {term: {grace: 5s}}, {kill: {}}]
"""
META = b"""{xattrs: {/a: {user.oomd_avoid: "1"}}, owners: {/a: 1000, proc/4711: 33}, lmkd: {event: critical}}"""
REPLIES = (
    b'{"parameters":{}}\0',
    b'{"error":"a.b"}\0',
    b'{"parameters":{"cgroups":[{"mode":"kill","path":"/a"}]},"continues":true}\0',
)
UNITS = b'[["/a.slice",true,false,null,null],["/b.slice",false,true,0.5,1000]]'
DEBTS = b"oomd debts 1 abc\nmemory.high 123 max 1000,2000 /nowhere\n"
PACKETS = tuple(
    struct.pack(f">{len(each)}i", *each)
    for each in ((0, 1, 100, 2, 200), (1, 7, 1000, 0), (2, 7), (3,), (4, 0, 900), (5, 1))
)


def readers(folder: Path) -> Iterator[tuple[str, tuple[bytes, ...], Callable[[bytes], object]]]:
    """What each is called, inputs that are right for it or for its like, and how it is asked."""
    captured = tuple(path.read_bytes()[:SIZE] for path in sorted(FIXTURES.iterdir()))
    texts = tuple(text.encode() for text in TEXTS)
    for name, kind, parse in ALL:
        yield name, captured if kind is bytes else texts, parse if kind is bytes else partial(_as_text, parse)
    yield "configuration", (RULES, RULESETS), lambda data: load_config("x.yaml", text=data)
    file = folder / "x"
    recording = "".join(lines(2)).encode()
    yield "recording", (recording,), lambda data: (file.write_bytes(data), read_recording(str(file)))
    yield "meta.yaml", (META,), lambda data: (file.write_bytes(data), read_meta(str(file)))
    debts = folder / NAME
    yield "debts", (DEBTS,), lambda data: (debts.write_bytes(data), read_debts(str(folder)))
    yield "units' settings", (UNITS,), lambda data: read_units(json.loads(data))
    yield "varlink", REPLIES, lambda data: [parameters_of(each) for each in Frames(4096).feed(data)]
    yield "link", (marshal.dumps(to_plain(default_config())), marshal.dumps(DECISION)), loads
    for level in LEVELS.values():
        yield f"lmkd {level.name}", PACKETS, partial(decode, level=level)


def _as_text(parse: Callable[[str], object], data: bytes) -> object:
    return parse(data.decode("utf-8", "surrogateescape"))


def test_any_input_for_every_reader(tmp_path: Path) -> None:
    """ValueErrors and their like that say something; nothing else."""
    fuzzer, asked = Fuzzer(5), list(readers(tmp_path))
    answers = dict.fromkeys((name for name, _, _ in asked), 0)
    said: set[bool] = set()

    def send(count: int) -> None:
        for number in range(count):
            name, samples, read = asked[number % len(asked)]
            try:
                read(fuzzer.broken(fuzzer.one_of(samples)))
                answers[name] += 1
            except (ValueError, VarlinkError, ReplayError) as error:
                said.add(str(error) != "")

    without_a_leak(send)
    assert len(asked) > 60
    assert said == {True}
    never = [name for name, count in answers.items() if not count]
    assert len(never) < len(asked) / 10, never
