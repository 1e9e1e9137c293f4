"""What the configuration, the marks of cgroups and Kubernetes say of a process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oomd.engine.preferences
from oomd.config.loader import default_config
from oomd.engine.eligibility import sift
from oomd.engine.preferences import Verdict, holds, judge, judge_again, pod_usage, prepare, standing, wanted_of
from oomd.engine.selection import select
from oomd.model.matching import Match, Term
from oomd.model.ruleset import Choice, EngineState, Names, Preferences, Rules
from oomd.model.snapshot import Cgroup, Process
from oomd.model.units import GIB, MIB
from oomd.policies.freeable import Freeable
from tests.fakes.builders import alarm, process, snapshot

POD = "/kubepods.slice/kubepods-{qos}.slice/kubepods-{qos}-pod12345678_aaaa.slice/cri-containerd-0123456789ab.scope"
BEST_EFFORT, BURSTABLE = POD.format(qos="besteffort"), POD.format(qos="burstable")
GUARANTEED = "/kubepods.slice/kubepods-pod12345678_bbbb.slice/cri-containerd-0123456789ac.scope"
USER_APP = "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"


def match(**terms: Any) -> Match:
    """Conditions by their key; a tuple of numbers is a user's, a set holds a regular expression."""
    found = []
    for key, value in terms.items():
        if key == "user":
            found.append(Term(key, "somebody", uids=value))
        elif isinstance(value, set):
            found.append(Term(key, next(iter(value)), regex=True))
        else:
            found.append(Term(key, value))
    return Match(tuple(found))


@pytest.mark.parametrize(
    ("conditions", "changes", "answer"),
    [
        ({"name": "post*"}, {"comm": "postgres"}, True),
        ({"name": "a-name-longer-than-the-kernel"}, {"comm": "a-name-longer-t"}, True),
        ({"name": {"^post"}}, {"comm": "postgres"}, True),
        ({"user": (1000,)}, {}, True),
        ({"user": ()}, {}, False),
        ({"cmdline": "*--x*"}, {"cmdline": "app --x"}, True),
        ({"cmdline": "*--x*"}, {"cmdline": ""}, False),
        ({"cmdline": "*--x*"}, {"cmdline": None}, None),
        ({"exe": "/usr/*"}, {"exe": "/usr/bin/a"}, True),
        ({"exe": "/usr/*", "user": (0,)}, {"exe": None}, False),
        ({"exe": "/usr/*", "user": (1000,)}, {"exe": None}, None),
        ({"cgroup": "/a"}, {"cgroup": "/a/b"}, True),
        ({"cgroup": "/a"}, {"cgroup": "/ab"}, False),
        ({"cgroup": "/*/b"}, {"cgroup": "/x/b/c"}, True),
        ({"cgroup": "/*/c"}, {"cgroup": "/x/b/c"}, False),
        ({"cgroup": "/**/c"}, {"cgroup": "/x/b/c"}, True),
        ({"cgroup": {"b/c$"}}, {"cgroup": "/x/b/c"}, True),
        ({"cgroup": "/"}, {"cgroup": ""}, False),
        ({"unit": "nginx"}, {"cgroup": "/system.slice/nginx.service"}, True),
        ({"unit": "system.slice"}, {"cgroup": "/system.slice/nginx.service"}, True),
        ({"unit": "web"}, {"cgroup": USER_APP}, False),
        ({"unit": "web", "user": (1000,)}, {"cgroup": USER_APP}, True),
        ({"unit": "user@1000"}, {"cgroup": USER_APP}, True),
        ({"pod": "12345678-*"}, {"cgroup": BEST_EFFORT}, True),
        ({"container": "0123*"}, {"cgroup": BEST_EFFORT}, True),
        ({"container": "*"}, {"cgroup": "/system.slice/nginx.service"}, False),
    ],
)
def test_conditions(conditions: dict[str, Any], changes: dict[str, Any], answer: bool | None) -> None:
    """Each kind; all must hold; what was not read yet is unknown only where the rest holds."""
    assert holds(match(**conditions), process(**changes)) is answer


EMBEDDED = Preferences(protect=Names(("sshd*", "mydb"), embedded=("sshd*",)))


@pytest.mark.parametrize(
    ("changes", "own_uid", "kind"),
    [
        ({"comm": "sshd", "uid": 0}, 0, "protect"),
        ({"comm": "sshd", "uid": 1000}, 0, "normal"),
        ({"comm": "sshd", "uid": 1000}, 1000, "protect"),
        ({"comm": "sshd", "uid": 74, "cgroup": "/system.slice/ssh.service"}, 0, "protect"),
        ({"comm": "sshd", "uid": 1000, "cgroup": USER_APP}, 0, "normal"),
        ({"comm": "sshd", "uid": 0, "cgroup": "/system.slice/docker-0123456789ab.scope"}, 0, "normal"),
        ({"comm": "sshd", "uid": 0, "cgroup": BEST_EFFORT}, 0, "normal"),
        ({"comm": "mydb", "uid": 1000, "cgroup": BEST_EFFORT}, 0, "protect"),
    ],
)
def test_nobody_exempts_himself_by_a_name(changes: dict[str, Any], own_uid: int, kind: str) -> None:
    """Embedded names count for root, our own user and services of the system; what the operator wrote, for all."""
    assert judge(process(**changes), EMBEDDED, own_uid).kind == kind


@pytest.mark.parametrize(
    ("marks", "owner", "monitored", "verdict"),
    [
        ({"user.oomd_avoid": "1"}, 0, 0, Verdict("avoid", "user.oomd_avoid")),
        ({"user.oomd_avoid": "true\n"}, 0, 0, Verdict("avoid", "user.oomd_avoid")),
        ({"user.oomd_avoid": "0"}, 0, 0, Verdict()),
        ({"user.oomd_avoid": "maybe"}, 0, 0, Verdict()),
        ({"user.oomd_avoid": "1"}, 1000, 0, Verdict()),
        ({"user.oomd_avoid": "1"}, 1000, 1000, Verdict("avoid", "user.oomd_avoid")),
        ({"user.oomd_avoid": "1"}, 0, 1000, Verdict("avoid", "user.oomd_avoid")),
        ({"user.oomd_avoid": "1"}, 1001, 1000, Verdict()),
        ({"user.oomd_avoid": "1"}, None, 0, Verdict()),
        ({"user.oomd_avoid": "1", "user.oomd_omit": "1"}, 0, 0, Verdict("omit", "user.oomd_omit")),
        ({"user.oomd_avoid": "1", "user.oomd_prefer": ""}, 0, 0, Verdict("prefer", "user.oomd_prefer")),
        ({"user.oomd_prefer": "no"}, 0, 0, Verdict()),
        ({"user.oomd_prefer": "1"}, 1000, 0, Verdict("prefer", "user.oomd_prefer")),
        ({"trusted.oomd_prefer": "1"}, 1000, 0, Verdict("prefer", "trusted.oomd_prefer")),
        ({"user.oomd_ooms": "1"}, 0, 0, Verdict()),
    ],
)
def test_marks_and_their_owners(marks: dict[str, str], owner: int | None, monitored: int, verdict: Verdict) -> None:
    """The ownership rule of systemd-oomd, and which mark beats which."""
    one = process(marks=tuple(marks.items()), cgroup_uid=owner)
    assert judge(one, Preferences(), 0, monitored) == verdict


def test_marks_are_not_inherited_by_matches() -> None:
    """The configuration stands above marks, but nothing above an honoured omit but protect."""
    preferences = Preferences(prefer=Names(("a",)), protect=Names(("b",)))
    avoided: dict[str, Any] = {"marks": (("user.oomd_avoid", "1"),), "cgroup_uid": 0}
    omitted: dict[str, Any] = {"marks": (("user.oomd_omit", "1"),), "cgroup_uid": 0}
    assert judge(process(comm="a", **avoided), preferences) == Verdict("prefer", "name a")
    assert judge(process(comm="a", **omitted), preferences).kind == "omit"
    assert judge(process(comm="b", **omitted), preferences).kind == "protect"


def test_among_his_own_an_owner_may_say() -> None:
    """Where the choice is made beneath a user's cgroup, that user's marks count; elsewhere they do not."""
    own = "/user.slice/user-1000.slice/user@1000.service"
    marked = process(7, 900, cgroup=f"{own}/a", marks=(("user.oomd_omit", "1"),), cgroup_uid=1000)
    crowd = snapshot(marked, process(8, 10, cgroup=f"{own}/b"), cgroups=(Cgroup(own, owner_uid=1000),))
    level = default_config().rules.rulesets[0]
    for among, victim in (((f"{own}/*",), 8), (("/user.slice/*",), 7)):
        rules = Rules((replace(level, choice=Choice(among=among)),))
        decision = select(rules, crowd, (alarm(critical=True),), EngineState())
        assert decision.target is not None
        assert decision.target.process.id.pid == victim


def test_omit_relaxes_only_where_that_is_written() -> None:
    """Never by default; with last_resort after all who are avoided."""
    crowd = snapshot(
        process(7, 900, marks=(("user.oomd_omit", "1"),), cgroup_uid=0),
        process(8, 10, comm="last"),
    )
    preferences = Preferences(avoid=Names(("last",)))
    candidates, rejected = sift(crowd, preferences, EngineState())
    assert [each.process.id.pid for each in candidates] == [8]
    assert [each.why for each in rejected] == ["is omitted: its cgroup is marked user.oomd_omit"]
    relaxed = Preferences(avoid=Names(("last",)), omit="last_resort")
    ranked = Freeable().rank(sift(crowd, relaxed, EngineState())[0], crowd)
    assert [(each.process.id.pid, each.preference, each.because) for each in ranked] == [
        (8, "avoid", "name last"),
        (7, "omit", "user.oomd_omit"),
    ]


def test_what_could_not_be_read_comes_last() -> None:
    """A process that may be protected by its command line is avoided until that was read."""
    preferences = Preferences(protect=Names(matches=(match(cmdline="*db*"),)))
    assert judge(process(), preferences) == Verdict("avoid", "what protects it could not be read yet")
    assert judge(process(cmdline="x"), preferences) == Verdict()
    assert judge(process(cmdline="a db"), preferences) == Verdict("protect", "command line *db*")
    assert wanted_of(preferences) == {"cmdline"}
    assert wanted_of(Preferences(prefer=Names(("a",), (match(unit="b"),)))) == set()
    prepare(preferences)


def test_order_of_a_kubernetes_node() -> None:
    """Best-effort, burstable above its request, burstable below it; guaranteed and the node's services last; never what
    is node-critical.
    """
    crowd = snapshot(
        process(10, 1, cgroup=BEST_EFFORT, oom_score_adj=1000),
        process(11, 3000, cgroup=BURSTABLE, oom_score_adj=800),  # asked for 1.6 of 8 GiB
        process(12, 1000, cgroup=BURSTABLE.replace("aaaa", "cccc"), oom_score_adj=800),
        process(13, 7000, cgroup=GUARANTEED, oom_score_adj=0),
        process(14, 5000, cgroup="/system.slice/kubelet.service", uid=0),
        process(15, 9000, cgroup=BURSTABLE.replace("aaaa", "dddd"), oom_score_adj=-997),
    )
    candidates, rejected = sift(crowd, Preferences(), EngineState())
    ranked = Freeable().rank(candidates, crowd)
    assert [each.process.id.pid for each in ranked] == [10, 11, 12, 13, 14]
    assert [each.why for each in rejected] == [
        "is protected by its node-critical: oom_score_adj -997 in a burstable pod"
    ]


def test_no_pods_no_classes() -> None:
    """Elsewhere a system service is as good a victim as anybody."""
    service = process(14, 5000, cgroup="/system.slice/leak.service", uid=0)
    assert standing(service, pod_usage(snapshot(service)), 8 * GIB) == 0


@given(st.integers(0, 999), st.integers(0, 8 * GIB // MIB))
def test_a_request_is_told_from_oom_score_adj(adj: int, used_mib: int) -> None:
    """Who uses no more than his request is never taken for one who does."""
    request = (1000 - adj) * 8 * GIB // 1000
    one = process(11, used_mib, cgroup=BURSTABLE, oom_score_adj=adj)
    if used_mib * MIB <= request:
        assert standing(one, pod_usage(snapshot(one)), 8 * GIB) == 2
    elif used_mib * MIB > request + 9 * GIB // 1000:
        assert standing(one, pod_usage(snapshot(one)), 8 * GIB) == 1


WORDS = st.sampled_from(["sshd", "vital", "java", "x"])
LOOKED_AT = st.builds(
    process,
    st.integers(1, 3),
    comm=WORDS,
    cmdline=st.none() | WORDS,
    exe=st.none() | WORDS,
    uid=st.sampled_from([0, 1000]),
    cgroup=st.sampled_from(["/a", "/system.slice/vital.service", BURSTABLE]),
    oom_score_adj=st.sampled_from([0, -998]),
    marks=st.sampled_from([(), (("user.oomd_omit", "1"),), (("user.oomd_avoid", "1"),)]),
    cgroup_uid=st.sampled_from([0, 1000, None]),
)
LISTS = (
    Preferences(Names(("vital",)), avoid=Names(("java",))),
    Preferences(Names(("sshd",), (Match((Term("cmdline", "vital"),)),)), prefer=Names(("x",))),
)


@given(st.lists(st.tuples(LOOKED_AT, st.sampled_from(LISTS), st.integers(0, 1), st.sampled_from([0, 1000]))))
def test_what_is_remembered_is_what_would_be_judged(
    asked: list[tuple[Process, Preferences, int, int]],
) -> None:
    """Whatever changes of a process, of the lists or of who asks: the same verdict as without memory."""
    for one, lists, own_uid, monitored_uid in asked:
        assert judge_again(one, lists, own_uid, monitored_uid) == judge(one, lists, own_uid, monitored_uid)


def test_nobody_is_judged_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of processes that did not change cost a comparison each; and what is remembered is bounded."""
    judged: list[int] = []

    def note(one: Process, *rest: Any) -> Verdict:
        judged.append(one.id.pid)
        return Verdict()

    monkeypatch.setattr(oomd.engine.preferences, "judge", note)
    lists = Preferences(Names(("vital",)))
    crowd = [process(pid) for pid in range(2, 50)]
    for one in (*crowd, *crowd, replace(crowd[0], comm="other"), crowd[1]):
        judge_again(one, lists)
    assert judged == [*range(2, 50), 2]
    for pid in range(2 * oomd.engine.preferences._MOST_KNOWN):
        judge_again(process(pid + 100), lists)
    assert len(oomd.engine.preferences._memory.known) <= oomd.engine.preferences._MOST_KNOWN
