"""configs/kubernetes/ and the Containerfile: what the API server accepts, fits together, asks for no more than is said,
and builds.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from jsonschema import Draft7Validator

from oomd.config.loader import load_config
from oomd.model.config import Config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "kubernetes"
SCHEMAS = sorted((ROOT / "tests" / "fixtures" / "kubernetes").glob("v*.json"))
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
RESOURCES = {name: yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")) for name in KUSTOMIZATION["resources"]}
DAEMONSET = RESOURCES["daemonset.yaml"]
POD = DAEMONSET["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def mistakes(resource: dict[str, Any], file: Path) -> list[str]:
    """What the schema of this release says of it."""
    schemas = json.loads(file.read_text(encoding="utf-8"))
    schema = {"$ref": f"#/$defs/{schemas['kinds'][resource['kind']]}", "$defs": schemas["$defs"]}
    return [error.message for error in Draft7Validator(schema).iter_errors(resource)]


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_the_api_server_takes_it(name: str, file: Path) -> None:
    """Every key and type is one of that release, and of that kind's group and version."""
    assert mistakes(RESOURCES[name], file) == []


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda path: path.stem)
def test_the_schemas_would_notice(file: Path) -> None:
    """A misspelt key deep inside, a wrong type, another version of the API."""
    for old, new in (
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"),
        ("hostPID: true", "hostPID: perhaps"),
        ("apiVersion: apps/v1", "apiVersion: apps/v2"),
    ):
        text = (FOLDER / "daemonset.yaml").read_text(encoding="utf-8")
        assert old in text
        assert mistakes(yaml.safe_load(text.replace(old, new)), file) != []


def test_everything_belongs_together() -> None:
    """No file is left out, every name that is referred to is there, and everything is in one namespace."""
    assert {path.name for path in FOLDER.glob("*.yaml")} == {"kustomization.yaml", *RESOURCES}
    names = {resource["kind"]: resource["metadata"]["name"] for resource in RESOURCES.values()}
    places = {each["metadata"].get("namespace") for each in RESOURCES.values() if each["kind"] != "Namespace"}
    assert places == {names["Namespace"], KUSTOMIZATION["namespace"]} == {"oomd"}
    assert POD["serviceAccountName"] == names["ServiceAccount"]
    labels = DAEMONSET["spec"]["template"]["metadata"]["labels"]
    assert DAEMONSET["spec"]["selector"]["matchLabels"].items() <= labels.items()
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert volumes["config"]["configMap"]["name"] == names["ConfigMap"]
    assert [mount["name"] for mount in CONTAINER["volumeMounts"]] == [*volumes]
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [CONTAINER["image"]]


def test_rules_are_those_of_a_node(tmp_path: Path) -> None:
    """The ConfigMap holds configs/kubernetes.yaml, where args look for it; it loads."""
    ((name, text),) = RESOURCES["configmap.yaml"]["data"].items()
    assert text == (ROOT / "configs" / "kubernetes.yaml").read_text(encoding="utf-8")
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert isinstance(load_config(str(tmp_path / name), overrides={"log.format": "json"}), Config)
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    args = CONTAINER["args"]
    assert args[args.index("--config") + 1] == f"{mounts['config']}/{name}"
    assert args[args.index("--runtime-dir") + 1] == mounts["runtime"]


def test_metrics_are_found() -> None:
    """Where the annotations say, by the labels that the scrape configuration keeps."""
    annotations = DAEMONSET["spec"]["template"]["metadata"]["annotations"]
    (port,) = CONTAINER["ports"]
    args = CONTAINER["args"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"]) == args[-1].lstrip(":")
    assert args[-2] == "--metrics-listen"
    scrape = (ROOT / "configs" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    block = scrape[scrape.index("  #- job_name: oomd-nodes") :].partition("\n\n")[0]
    (job,) = yaml.safe_load(re.sub(r"(?m)^  #", "  ", block))
    kept = {each["source_labels"][0]: each["regex"] for each in job["relabel_configs"] if each.get("action") == "keep"}
    assert kept == {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": DAEMONSET["metadata"]["labels"]["app.kubernetes.io/name"],
        "__meta_kubernetes_pod_annotation_prometheus_io_scrape": annotations["prometheus.io/scrape"],
    }


def test_privileges() -> None:
    """Those of the service, each with what is lost without it, and no other: no host network, no token, nothing of the
    host that can be written but its cgroups.
    """
    context = CONTAINER["securityContext"]
    (line,) = re.findall(r"(?m)^CapabilityBoundingSet=(.*)$", (ROOT / "systemd" / "oomd.service").read_text())
    assert context["capabilities"]["drop"] == ["ALL"]
    assert {f"CAP_{name}" for name in context["capabilities"]["add"]} == set(line.split())
    text = (FOLDER / "daemonset.yaml").read_text(encoding="utf-8")
    for name in context["capabilities"]["add"]:
        assert re.search(rf"- {name} +# .*; without it ", text), name
    assert (context["privileged"], context["allowPrivilegeEscalation"]) == (False, False)
    assert context["readOnlyRootFilesystem"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not POD["automountServiceAccountToken"]
    assert not RESOURCES["serviceaccount.yaml"]["automountServiceAccountToken"]
    assert {name for name in POD if name.startswith("host")} == {"hostPID"}
    read_only = {mount["name"]: mount.get("readOnly", False) for mount in CONTAINER["volumeMounts"]}
    of_the_host = {volume["name"]: volume["hostPath"]["path"] for volume in POD["volumes"] if "hostPath" in volume}
    assert {path for name, path in of_the_host.items() if not read_only[name]} == {"/sys/fs/cgroup"}
    assert "cpu" not in CONTAINER["resources"]["limits"]


def stages() -> list[list[dict[str, Any]]]:
    """The Containerfile's instructions, stage by stage."""
    found: list[list[dict[str, Any]]] = []
    with (ROOT / "Containerfile").open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    for each in structure:
        if each["instruction"] == "FROM":
            found.append([])
        if each["instruction"] != "COMMENT":
            found[-1].append(each)
    return found


def values(stage: list[dict[str, Any]], instruction: str) -> list[str]:
    """Of all instructions of this kind."""
    return [each["value"] for each in stage if each["instruction"] == instruction]


def test_containerfile() -> None:
    """Both stages stand on the same pinned Python, what runs has only the program, and starts it as args expect."""
    build, image = stages()
    (base,), (same,) = values(build, "FROM"), values(image, "FROM")
    assert base == f"{same} AS build"
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim", same)
    assert values(image, "COPY") == ["--from=build /opt/oomd /opt/oomd"]
    assert values(image, "RUN") == []
    (entry,) = values(image, "ENTRYPOINT")
    assert json.loads(entry) == ["/opt/oomd/bin/python3", "-m", "oomd"]
    (command,) = values(image, "CMD")
    assert json.loads(command)[0] == CONTAINER["args"][0] == "run"


def ignored(path: str) -> bool:
    """Whether .containerignore keeps it out of the build."""
    out = False
    for line in (ROOT / ".containerignore").read_text(encoding="utf-8").split():
        pattern = line.removeprefix("!")
        if any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in (path, path.split("/", maxsplit=1)[0])):
            out = not line.startswith("!")
    return out


@pytest.mark.integration
def test_steps_of_the_containerfile(tmp_path: Path) -> None:
    """Done here, in a folder that holds only what the build would see: the program runs from what they leave."""
    build, _ = stages()
    source, home = tmp_path / "src", tmp_path / "opt" / "oomd"
    source.mkdir()
    for value in values(build, "COPY"):
        *names, target = value.split()
        for name in names:
            assert not ignored(name), name
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / target)
    assert ignored("tests")
    assert ignored(".git")
    (step,) = values(build, "RUN")
    step = step.replace("/opt/oomd", str(home)).replace("python3 -m venv", f"{sys.executable} -m venv")
    done = subprocess.run(["sh", "-c", step], cwd=source, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rules = tmp_path / "oomd.yaml"
    rules.write_text(RESOURCES["configmap.yaml"]["data"]["oomd.yaml"], encoding="utf-8")
    command = [str(home / "bin" / "python3"), "-m", "oomd", "check", "--config", str(rules)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
