"""Namespaces and names of pods and containers, as people know them, of the folders in which kubelet keeps their logs.

``/var/log/pods/NAMESPACE_POD_UID/CONTAINER`` and ``/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log``; nobody is
asked, so it works where the API server does not answer. The killer knows uid and id only, which the cgroup's path
tells.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.outside.sinks import Sink

LOGS = "/var/log"
AGAIN_S = 1.0
"""Folders are listed no more often than this, however many names are not to be found."""


class Pods:
    """What the folders told last."""

    def __init__(self, folder: str = LOGS) -> None:
        self._folder = folder
        self._pods: dict[str, tuple[str, str]] = {}
        """Namespace and name by uid."""
        self._containers: dict[str, str] = {}
        """Names by id."""
        self._listed_s = -AGAIN_S

    def names(self, uid: str, container: str) -> Plain:
        """``namespace``, ``pod_name`` and ``container_name``, as far as they are known."""
        missing = uid not in self._pods or (container and container not in self._containers)
        if missing and time.monotonic() - self._listed_s >= AGAIN_S:
            self._list()
        namespace, name = self._pods.get(uid, ("", ""))
        found = {"namespace": namespace, "pod_name": name, "container_name": self._containers.get(container, "")}
        return {key: text for key, text in found.items() if text}

    def _list(self) -> None:
        self._listed_s = time.monotonic()
        self._pods, self._containers = {}, {}
        for entry in _entries(f"{self._folder}/pods"):
            parts = entry.split("_")
            if len(parts) == 3:
                self._pods[parts[2]] = (parts[0], parts[1])
        for entry in _entries(f"{self._folder}/containers"):
            parts = entry.removesuffix(".log").split("_")
            name, dash, identity = parts[-1].rpartition("-")
            if len(parts) == 3 and dash:
                self._containers[identity] = name


def name_pods(sink: Sink, pods: Pods) -> Sink:
    """A sink in whose events a victim that is in a pod has its names."""

    def write(event: Plain) -> None:
        target = (event.get("decision") or {}).get("target")
        if target is not None and target.get("pod"):
            named = {**target, **pods.names(target["pod"], target.get("container", ""))}
            event = {**event, "decision": {**event["decision"], "target": named}}
        elif event.get("pod"):
            event = {**event, **pods.names(event["pod"], event.get("container", ""))}
        sink(event)

    return write


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
