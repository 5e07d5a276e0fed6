"""The commands of this checkout: each function is one target of `make` for developers. Runs in `.venv`."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from open_webui_edge.bootstrap import command, console, debian, engine, images, paths, pulumi_cli, virtual_environment
from open_webui_edge.bootstrap.console import step
from open_webui_edge.bootstrap.engine import Engine
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.bootstrap.problem import ProblemError
from open_webui_edge.cli import docs_site, lanes, recent_engine
from open_webui_edge.cli import release as releases
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

TEST_PACKAGES = paths.CHECKOUT / "cli" / "test-packages.txt"
BUILD = paths.CHECKOUT / "build"


def test(*arguments: str) -> int:
    """Prepare the machine and run all tests except the slow ones; `arguments` are pytest's."""
    return _test(("-m", "not long", *arguments))


def test_long(*arguments: str) -> int:
    """Run the slow tests; in CI, first run the `every_engine` ones on the machine's own engine."""
    older = ("-m", "every_engine", *arguments) if _brings_its_engine() else None
    return _test(("-m", "long", *arguments), on_own_engine=older)


def test_unit(*arguments: str) -> int:
    """Run unit tests, all or those that `arguments` name; this prepares Python packages only."""
    chosen = [] if any(lanes.names_tests(word) for word in arguments) else [lanes.UNIT]
    return _python("-m", "pytest", *chosen, *arguments)


def _test(arguments: Sequence[str], *, on_own_engine: Sequence[str] | None = None) -> int:
    watched, *others = lanes.divide(arguments)
    given = _pulumi_for_tests()
    codes: list[int] = []
    with ExitStack() as held:
        # Lanes without an engine start first: engine and images may take minutes.
        without = [
            held.enter_context(lanes.run_in_background(run, lanes.Surroundings(given), BUILD))
            for run in others
            if not run.lane.needs_engine
        ]
        if on_own_engine is not None:
            older, *_ = lanes.divide(on_own_engine)
            codes += _with_engine([older] if older.lane.needs_engine else [], given, recent=False)
        if watched.lane.needs_engine:
            with_engine = [watched, *(run for run in others if run.lane.needs_engine)]
            codes += _with_engine(with_engine, given, recent=_brings_its_engine())
        else:
            codes.append(_pytest(watched, lanes.Surroundings(given)))
        codes += [run.finish() for run in without]
    return lanes.combine(codes)


def _brings_its_engine() -> bool:
    """Return whether tests run on an engine of their own: in CI, unless DOCKER_HOST names one."""
    return os.environ.get("CI") == "1" and not os.environ.get("DOCKER_HOST")


def bench() -> int:
    """Measure this proxy and others, and write the results."""
    with step("packages for the browser") as shown:
        packages = rootfs.packages_in(TEST_PACKAGES)
        if debian.missing(packages) and not debian.can_install():
            message = f"Missing packages: {' '.join(debian.missing(packages))}; only root on Debian can install them."
            raise ProblemError(message)
        debian.install(packages, shown)
        shown.done("there")
    with step("Docker engine") as shown:
        host = engine.resolve()
        if not host.is_local:
            message = (
                f"The clients must reach the containers, so the engine must be on this machine, not {host.address}."
            )
            raise ProblemError(message)
        engine.ensure(host, shown)
    with step("images") as shown:
        source = images.ensure(host, images.RequiredImages(source=images.available_source(host)), shown)
    with step("tools") as shown:
        images.ensure_built(host, BENCH_TOOLS, shown)
    given = {"OPEN_WEBUI_EDGE_IMAGES": source.value, "DOCKER_HOST": host.address}
    return _python("-m", "open_webui_edge.benchmarks", environment=given)


def check() -> int:
    """Check format, lint, types and generated files; one run reports all faults. `test` runs the tests."""
    parts: list[tuple[str, tuple[str, ...]]] = [
        ("format", ("-m", "ruff", "format", "--check", ".")),
        ("lint", ("-m", "ruff", "check", ".")),
        ("types", ("-m", "pyright")),
        ("generated files", ("-m", "open_webui_edge.settings.documents", "--check")),
    ]
    failed = []
    for name, words in parts:
        console.say(f"--- {name}")
        if _python(*words):
            failed.append(name)
    console.say(f"failed: {', '.join(failed)}" if failed else "all well")
    return 1 if failed else 0


def docs() -> int:
    """Write the generated files, and build the documentation's site from them."""
    # Diagrams of the resource graph and AWS policies are generated by the tests, which build that graph.
    drawn = ("tests/unit/test_pictures.py", "tests/unit/aws/test_rights.py")
    only = "pictures_show or policy_allows"
    code = _python("-m", "open_webui_edge.settings.documents")
    code = code or _python("-m", "pytest", "-q", "--update", *drawn, "-k", only)
    if code:
        return code
    with step("documentation") as shown:
        virtual_environment.ensure(virtual_environment.FOR_DOCS, shown)
        shown.now("building the site")
        shown.done(str(docs_site.build().relative_to(paths.CHECKOUT)))
    return 0


def screenshots() -> int:
    """Take the documentation's screenshots from a temporary stack."""
    given = _pulumi_for_tests()
    with _engine_for_tests(recent=False) as surroundings:
        return _python("-m", "tests.support.screenshots", environment={**given, **surroundings.environment})


def fmt() -> int:
    """Format the code and apply the linter's fixes."""
    return _python("-m", "ruff", "check", "--fix", "--exit-zero", "--quiet", ".") or _python(
        "-m", "ruff", "format", "."
    )


def lock() -> int:
    """Resolve each requirements*.in and write its lock, with the hashes of the files for every platform.

    A lock keeps the versions that it has, unless its source asks for others; the smaller locks bind the larger ones.
    """
    # The header of a lock quotes this command, and Renovate, which runs it, reads only options written with "=".
    words = ["-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version=3.11"]
    bound: list[str] = []
    for file in virtual_environment.LOCKS:
        code = _python(*words, *bound, f"--output-file={file.name}", file.with_suffix(".in").name)
        if code:
            return code
        bound = [f"--constraint={file.name}"]
    return 0


def release() -> int:
    """Move changes/ into CHANGELOG.md and write the new version; committing and tagging is left to the user."""
    version = os.environ.get("VERSION") or releases.current()
    releases.cut(version, releases.day_of(os.environ.get("DATE")))
    console.say(
        f"CHANGELOG.md has a section on {version}. Read it; then: git add -A && git commit -m 'release: {version}' &&"
        f" git tag {version}, and what docs/operations.md says of its states."
    )
    return 0


def _pulumi_for_tests() -> dict[str, str]:
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
    return {
        **pulumi.environment,
        "PATH": f"{pulumi.environment.get('PATH', '')}:{os.environ.get('PATH', '')}".lstrip(":"),
    }


def _with_engine(runs: Sequence[lanes.Run], given: Mapping[str, str], *, recent: bool) -> list[int]:
    """Run lanes with an engine in parallel, the first one in the foreground, and return their exit codes."""
    if not runs:
        return []
    watched, *others = runs
    with ExitStack() as held:
        there = held.enter_context(_engine_for_tests(recent=recent))
        turns = held.enter_context(TemporaryDirectory(prefix="edge-turns-"))
        there = replace(there, environment={**given, **there.environment, lanes.TURNS: turns})
        beside = [held.enter_context(lanes.run_in_background(run, there, BUILD)) for run in others]
        return [_pytest(watched, there), *(run.finish() for run in beside)]


def _pytest(run: lanes.Run, there: lanes.Surroundings) -> int:
    return command.pass_through(lanes.pytest_words(run, there), environment=there.environment, folder=paths.CHECKOUT)


@contextmanager
def _engine_for_tests(*, recent: bool) -> Iterator[lanes.Surroundings]:
    """Run a block with an engine that has all images: this machine's, or a recent one just for the tests."""
    with ExitStack() as held:
        before: Sequence[str] = ()
        given: dict[str, str] = {}
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
        if host is not None:
            given |= _images_for_tests(host)
        yield lanes.Surroundings(given, before)


def _images_for_tests(host: Engine) -> dict[str, str]:
    given: dict[str, str] = {}
    with step("images") as shown:
        required = images.RequiredImages(
            source=images.available_source(host),
            services=(POSTGRES, REDIS, NGINX_METRICS, PROMETHEUS, CERTBOT, RESTIC),
        )
        given["OPEN_WEBUI_EDGE_IMAGES"] = images.ensure(host, required, shown).value
    for name, image in (("tools", BENCH_TOOLS), ("ACME server", ACME_TOOLS), ("instance", INSTANCE)):
        with step(name) as shown:
            try:
                images.ensure_built(host, image, shown)
            except ProblemError as problem:
                _skip(str(problem), shown.done)
    return given


def _skip(what: str, otherwise: Callable[[str], None]) -> None:
    """Skip something that only some tests need; in CI, where no test may be skipped, fail."""
    if os.environ.get("CI") == "1":
        raise ProblemError(what)
    otherwise(f"skipped: {what}")


def _python(*arguments: str, environment: dict[str, str] | None = None) -> int:
    return command.pass_through([paths.PYTHON, *arguments], environment=environment, folder=Path(paths.CHECKOUT))
