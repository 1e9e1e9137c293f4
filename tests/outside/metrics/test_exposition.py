"""Prometheus' formats, read back by prometheus_client's own parsers."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from oomd.outside.metrics.exposition import Exposition
from oomd.outside.metrics.figures import Figures
from oomd.outside.metrics.samples import Samples
from tests.outside.metrics.reports import DECISION, answer, outcome, start


def filled() -> Figures:
    """With a kill."""
    figures = Figures(lambda: answer({"ruleset": 'a "quoted"\\\n\udcff name'}))
    for event in (start(), DECISION, outcome(signal_to_death_us=40_000)):
        figures.note(event)
    return figures


def test_text_is_read_back() -> None:
    """Every number as it was, buckets summed up, names with any character."""
    text = Exposition(filled().take).text().decode()
    families = {each.name: each for each in read_text(text)}
    kills = {tuple(each.labels.values()): each.value for each in families["oomd_kills"].samples}
    assert kills["killed", "level", "SIGKILL"] == 1
    deaths = [each for each in families["oomd_signal_to_death_seconds"].samples if each.labels["signal"] == "SIGKILL"]
    counts = [each.value for each in deaths if each.name.endswith("_bucket")]
    assert (counts[0], counts[-1], sorted(counts) == counts) == (0, 1, True)
    assert deaths[[each.name for each in deaths].index("oomd_signal_to_death_seconds_sum")].value == pytest.approx(0.04)
    names = [each.labels["ruleset"] for each in families["oomd_ruleset_armed"].samples]
    assert names == ['a "quoted"\\\n\\udcff name']


def test_openmetrics_is_read_back() -> None:
    """What a current Prometheus asks for first; its parser is strict."""
    body, content_type, compressed = Exposition(filled().take).render("application/openmetrics-text; version=1.0.0")
    assert (content_type.startswith("application/openmetrics-text"), compressed) == (True, False)
    read = openmetrics.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    families = {each.name for each in read}
    assert {"oomd_kills", "oomd_killer_up", "oomd_loop_lag_seconds"} <= families


def test_compression_is_agreed_on() -> None:
    """Only where the client takes it."""
    samples = filled().take()
    exposed = Exposition(lambda: samples)
    plain, _, _ = exposed.render("", "identity")
    packed, _, compressed = exposed.render("", "gzip, deflate")
    assert (gzip.decompress(packed), compressed) == (plain, True)
    assert len(packed) < len(plain) / 3


def test_flood_of_requests_is_answered_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made anew only when half a second has passed, and kept for none longer; headers of any kind make no entries."""
    now_s, takes = [100.0], []

    def take() -> Samples:
        takes.append(1)
        return Samples()

    monkeypatch.setattr("oomd.outside.metrics.exposition.time.monotonic", lambda: now_s[0])
    exposed = Exposition(take)
    for number in range(100):
        exposed.render(f"text/x-{number}", f"br;q=0.{number}")
    assert (len(takes), len(exposed._made)) == (1, 1)
    now_s[0] += 0.6
    exposed.render("application/openmetrics-text")
    assert (len(takes), len(exposed._made)) == (2, 1)


@given(st.text(st.characters(max_codepoint=255)).map(lambda text: f"application/openmetrics-text;version={text}"))
@example("application/openmetrics-text;escaping=x;version=1.0.0")
def test_any_version_is_answered(accept: str) -> None:
    """Of formats, too."""
    body, _, _ = Exposition(Samples).render(accept)
    assert body in (b"", b"# EOF\n")


@pytest.mark.parametrize("accept", ["", "*/*", ";;;=,", "application/openmetrics-text;version=x", "\xff" * 50, ","])
def test_any_header_is_answered(accept: str) -> None:
    """What a client accepts is its own word."""
    body, content_type, _ = Exposition(filled().take).render(accept, accept)
    assert b"oomd_killer_up" in body
    assert content_type
