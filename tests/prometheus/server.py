"""Debian's Prometheus, unpacked by ``.ci/unpack`` (``make test`` does that) and never installed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.outside.metrics.serving import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
PATIENCE_S = 45.0


def program(name: str, package: str = "prometheus") -> str:
    """The path of a program of a package; the test is skipped where it is missing, which in CI is a failure."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "oomd-packages" / package / "usr" / "bin" / name
    if not path.exists():
        words = f"{name} is not there: `.ci/unpack {package}` (make test) brings it"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return str(path)


def promtool(*words: str, stdin: bytes = b"", cwd: Path | None = None) -> tuple[int, str]:
    """Its exit status and everything it said."""
    done = subprocess.run(
        [program("promtool"), *words],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        cwd=cwd,
    )
    return done.returncode, done.stdout.decode()


class Prometheus:
    """A server of our own with the rules that we ship, scraping these targets twice a second."""

    def __init__(self, folder: Path, *targets: str) -> None:
        self.port = free_port()
        config = folder / "prometheus.json"  # JSON is YAML
        job = {"job_name": "oomd", "static_configs": [{"targets": list(targets)}]}
        intervals = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
        rules = [str(CONFIGS / "prometheus" / "oomd.rules.yml")]
        config.write_text(json.dumps({"global": intervals, "rule_files": rules, "scrape_configs": [job]}))
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--storage.tsdb.retention.time=1h",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOMEMLIMIT": "256MiB", "GOMAXPROCS": "1"},
        )
        self._folder = folder

    def __enter__(self) -> Prometheus:
        try:
            self.wait("ready", lambda: self._get("/-/ready") is not None)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers. Raises AssertionError with its words when it does not like the question."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str, **parameters: str) -> list[Any]:
        """The series of an instant query: ``metric`` and ``value`` each."""
        result: list[Any] = self.ask("query", query=expression, **parameters)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of the only series; None while there is none."""
        result = self.query(expression)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def wait_value(self, expression: str, expected: float) -> None:
        """A scrape may fail on a busy machine; the next one tells."""
        self.wait(f"{expression} is {expected}", lambda: self.value(expression) == expected)

    def wait(self, what: str, true: Callable[[], bool]) -> None:
        """Look until it is so."""
        end = time.monotonic() + PATIENCE_S
        while not true():
            log = (self._folder / "prometheus.log").read_text(encoding="utf-8", errors="replace")
            assert self._process.poll() is None, log[-3000:]
            assert time.monotonic() < end, f"never: {what}; {log[-1000:]}"
            select.select([], [], [], 0.05)

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_S) as answer:
                content: bytes = answer.read()
                return content
        except OSError:
            return None
