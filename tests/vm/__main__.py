"""``python -m tests.vm``: run a scenario in a guest, or bring the scoreboard up to date."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.vm import killers, report, scenarios, scoreboard
from tests.vm.image import ImageError, ensure_image
from tests.vm.runs import run_scenario, run_suite


def main(argv: list[str]) -> int:
    """0: every run was as it should be; 1: one was not; 2: usage or no image."""
    if argv[:1] == ["scoreboard"]:
        return _scoreboard(argv[1:])
    if argv[:1] == ["suite"]:
        return _suite(argv[1:])
    return _run(argv)


def _size_mib(text: str) -> int:
    for suffix, factor in (("GiB", 1024), ("MiB", 1)):
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * factor)
    raise argparse.ArgumentTypeError(f"{text}: not a size like 512MiB")


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description="Runs a small real machine out of memory. `scoreboard`: what it lacks; `suite`: tests/integration.",
        epilog="; ".join(f"{scenario.name} ({scenario.swap}): {scenario.about}" for scenario in scenarios.ALL),
    )
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", choices=[*scenarios.BY_NAME, "all"])
    parser.add_argument("--killer", choices=killers.NAMES, default="oomd")
    parser.add_argument("--memory", type=_size_mib, default=512, metavar="SIZE", help="memory of the guest (512MiB)")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--swap", choices=tuple(scenarios.SWAP_SHARE), help="default: the scenario's own")
    parser.add_argument(
        "--reap", choices=killers.REAPS, default="", help="how oomd gets memory back (its default: auto)"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all runs")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep everything the guests wrote")
    options = parser.parse_args(argv)
    if options.reap and options.killer != "oomd":
        parser.error("--reap is for --killer oomd")
    names = list(scenarios.BY_NAME) if "all" in options.scenarios else options.scenarios
    image = ensure_image()
    runs = []
    for name in names:
        for number in range(options.repeat):
            keep = options.keep / f"{name}-{options.killer}-{number}" if options.keep else None
            size = {"memory_mib": options.memory, "cpus": options.cpus, "reap": options.reap}
            figures = run_scenario(image, name, options.killer, swap=options.swap, keep=keep, **size)
            runs.append(figures.plain())
            print(report.describe_run(runs[-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(runs, indent=1) + "\n")
    return 0 if all(run["verdict"] == "ok" for run in runs) else 1


def _scoreboard(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm scoreboard", description=scoreboard.__doc__)
    names = [*scenarios.BY_NAME, *killers.BY_NAME]
    parser.add_argument("only", nargs="*", metavar="SCENARIO|KILLER", help=f"only their cells: {', '.join(names)}")
    parser.add_argument(
        "--fresh", action="store_true", help="run them again: ours after a change without a new version"
    )
    options = parser.parse_args(argv)
    unknown = [name for name in options.only if name not in names]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    scoreboard.run_missing(options.only, fresh=options.fresh)
    return 0


def _suite(arguments: list[str]) -> int:
    """The integration tests inside the guest; arguments go to pytest."""
    run = run_suite(ensure_image(), arguments)
    print(run.out.get("pytest", b"").decode(errors="replace"), run.out.get("failure", b"").decode())
    print(f"guest: {run.ended}, {run.seconds:.0f} s")
    return int(run.out.get("exit", b"1")) if run.ended == "poweroff" else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ImageError as error:
        print(f"tests.vm: {error}", file=sys.stderr)
        sys.exit(2)
