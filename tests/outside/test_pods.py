"""Names of pods and containers, in folders as kubelet makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oomd.outside import pods
from oomd.outside.journal import fields_of
from oomd.outside.pods import Pods, name_pods
from oomd.outside.text import describe_event
from tests.outside.events import DECISION, OUTCOME

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

UID, ID = "12345678-1234-1234-1234-123456789abc", "0123456789ab" * 5
STATIC = "8f2f6e3d1c0b4a5968778695a4b3c2d1"
"""A pod that kubelet starts from a file has a hash for a uid."""


def kubelet(folder: Path) -> None:
    """Two pods with a container each."""
    for name in (f"shop_cart-7d9f_{UID}/redis", f"kube-system_etcd-node1_{STATIC}/etcd"):
        (folder / "pods" / name).mkdir(parents=True)
    (folder / "containers").mkdir()
    for name in (f"cart-7d9f_shop_redis-cache-{ID}.log", "something else", "a_b_c.log"):
        (folder / "containers" / name).write_text("")


def test_names(tmp_path: Path) -> None:
    """As far as they are known, each by itself."""
    kubelet(tmp_path)
    known = Pods(str(tmp_path))
    assert known.names(UID, ID) == {"namespace": "shop", "pod_name": "cart-7d9f", "container_name": "redis-cache"}
    assert known.names(STATIC, "") == {"namespace": "kube-system", "pod_name": "etcd-node1"}
    assert known.names("other", ID) == {"container_name": "redis-cache"}
    assert Pods(str(tmp_path / "nothing")).names(UID, ID) == {}


def test_new_pods_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next question, but not in every moment; those that are gone are forgotten then."""
    kubelet(tmp_path)
    known = Pods(str(tmp_path))
    known.names(UID, "")
    (tmp_path / "pods" / "late_comer_1").mkdir()
    assert known.names("1", "") == {}
    monkeypatch.setattr(pods, "AGAIN_S", 0.0)
    assert known.names("1", "") == {"namespace": "late", "pod_name": "comer"}


def test_reports_have_them(tmp_path: Path) -> None:
    """Decisions and outcomes, as fields and as words; who is in no pod is told as before."""
    kubelet(tmp_path)
    told: list[dict[str, Any]] = []
    sink = name_pods(told.append, Pods(str(tmp_path)))
    place = {"pod": UID, "container": ID, "qos": "burstable"}
    decision = {**DECISION["decision"], "target": {**DECISION["decision"]["target"], **place}}
    events = (
        {**DECISION, "decision": decision},
        {**OUTCOME, **place},
        DECISION,
        OUTCOME,
        {"event": "note", "text": ""},
    )
    for event in events:
        sink(event)
    for event in told[:2]:
        fields = fields_of(event)
        assert fields["OOMD_VICTIM_NAMESPACE"] == "shop"
        assert fields["OOMD_VICTIM_POD_NAME"] == "cart-7d9f"
        assert fields["OOMD_VICTIM_CONTAINER_NAME"] == "redis-cache"
        assert fields["OOMD_VICTIM_POD"] == UID
        assert " of pod shop/cart-7d9f, container redis-cache" in describe_event(event)[0]
    assert told[2:] == [*events[2:]]
    assert "pod_name" not in decision["target"]
