"""Runs the tests in lanes: `python -m tests.support.run test|test-long|test-unit ARGUMENTS`, behind `make`."""

import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory

from open_webui_edge.bootstrap import command, debian, engine, images, paths, pulumi_cli
from open_webui_edge.bootstrap.console import ProblemError, step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.cli.arguments import reported
from open_webui_edge.cli.checkout import TEST_PACKAGES
from open_webui_edge.settings.images import (
    ACME_TOOLS,
    BENCH_TOOLS,
    CERTBOT,
    INSTANCE,
    NGINX_METRICS,
    POSTGRES,
    PROMETHEUS,
    REDIS,
    RESTIC,
)
from tests.support import lanes, recent_engine


def run(command_name: str, arguments: Sequence[str]) -> int:
    """Run the tests of a command of `make`, with pytest's arguments, and return an exit code."""
    if command_name == "test-unit":
        chosen = [] if any(lanes.names_tests(word) for word in arguments) else [lanes.UNIT]
        words = [paths.PYTHON, "-m", "pytest", *chosen, *arguments]
        return command.pass_through(words, folder=paths.CHECKOUT)
    if command_name == "test":
        return _run(("-m", "not long", *arguments))
    older = ("-m", "every_engine", *arguments) if _brings_its_engine() else None
    return _run(("-m", "long", *arguments), on_own_engine=older)


def _run(arguments: Sequence[str], *, on_own_engine: Sequence[str] | None = None) -> int:
    watched, *others = lanes.divide(arguments)
    given = pulumi_for_tests()
    codes: list[int] = []
    with ExitStack() as held:
        # Lanes without an engine start first: engine and images may take minutes.
        alone = lanes.Surroundings(given)
        without = [
            held.enter_context(lanes.run_in_background(run, alone)) for run in others if not run.lane.needs_engine
        ]
        if on_own_engine is not None:
            older = [run for run in lanes.divide(on_own_engine) if run.lane.needs_engine]
            codes += _with_engine(older, given, recent=False)
        if watched.lane.needs_engine:
            with_engine = [watched, *(run for run in others if run.lane.needs_engine)]
            codes += _with_engine(with_engine, given, recent=_brings_its_engine())
        else:
            codes.append(lanes.run_watched(watched, alone))
        codes += [finish() for finish in without]
    return lanes.combine(codes)


def _brings_its_engine() -> bool:
    """Return whether tests run on an engine of their own: in CI, unless DOCKER_HOST names one."""
    return os.environ.get("CI") == "1" and not os.environ.get("DOCKER_HOST")


def pulumi_for_tests() -> dict[str, str]:
    """Install the tests' packages, and return the environment of Pulumi."""
    with step("packages for the tests") as shown:
        packages = rootfs.packages_in(TEST_PACKAGES)
        if debian.can_install():
            debian.install(packages, shown)
            shown.done("there")
        else:
            _skip(f"only root on Debian installs them: {' '.join(packages)}", shown.done)
    with step("Pulumi") as shown:
        pulumi = pulumi_cli.find(shown)
        shown.done(pulumi.origin)
    # Without this user's backend and passphrase, a test cannot touch their stacks.
    search_path = f"{pulumi.environment.get('PATH', '')}:{os.environ.get('PATH', '')}".lstrip(":")
    return {**pulumi.environment, "PATH": search_path}


def _with_engine(runs: Sequence[lanes.Run], given: Mapping[str, str], *, recent: bool) -> list[int]:
    """Run lanes with an engine in parallel, the first one in the foreground, and return their exit codes."""
    if not runs:
        return []
    watched, *others = runs
    with ExitStack() as held:
        there = held.enter_context(engine_for_tests(recent=recent))
        turns = held.enter_context(TemporaryDirectory(prefix="edge-turns-"))
        there = replace(there, environment={**given, **there.environment, lanes.TURNS: turns})
        beside = [held.enter_context(lanes.run_in_background(run, there)) for run in others]
        return [lanes.run_watched(watched, there), *(finish() for finish in beside)]


@contextmanager
def engine_for_tests(*, recent: bool) -> Generator[lanes.Surroundings]:
    """Run a block with an engine that has all images: this machine's, or a recent one just for the tests."""
    with ExitStack() as held:
        before: Sequence[str] = ()
        with step("Docker engine") as shown:
            host = engine.resolve()
            try:
                engine.ensure(host, shown)
            except ProblemError as problem:
                _skip(str(problem), shown.done)
                host = None
            if recent:
                host = held.enter_context(recent_engine.running(shown))
                before = recent_engine.in_namespace(host)
            if host is not None:
                shown.done(f"{engine.version(host)} at {host.address}")
        yield lanes.Surroundings({} if host is None else _images_for_tests(host), before)


def _images_for_tests(host: Engine) -> dict[str, str]:
    with step("images") as shown:
        required = images.RequiredImages(
            source=images.available_source(host),
            services=(POSTGRES, REDIS, NGINX_METRICS, PROMETHEUS, CERTBOT, RESTIC),
        )
        source = images.ensure(host, required, shown)
    for name, image in (("tools", BENCH_TOOLS), ("ACME server", ACME_TOOLS), ("instance", INSTANCE)):
        with step(name) as shown:
            try:
                images.ensure_built(host, image, shown)
            except ProblemError as problem:
                _skip(str(problem), shown.done)
    return {"OPEN_WEBUI_EDGE_IMAGES": source.value}


def _skip(what: str, otherwise: Callable[[str], None]) -> None:
    """Skip something that only some tests need; in CI, where no test may be skipped, fail."""
    if os.environ.get("CI") == "1":
        raise ProblemError(what)
    otherwise(f"skipped: {what}")


if __name__ == "__main__":
    sys.exit(reported(lambda: run(sys.argv[1], sys.argv[2:])))
