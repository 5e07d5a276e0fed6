"""One run: all contenders in turn, round after round, so that background load affects all of them equally."""

import os
import platform
import re
import ssl
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import docker
import httpx
from playwright.sync_api import sync_playwright

from open_webui_edge.benchmarks import application, contenders, idle_sockets, load, page_load
from open_webui_edge.benchmarks.application import Application
from open_webui_edge.benchmarks.certificate import make_certificate
from open_webui_edge.benchmarks.contenders import (
    BARE,
    CACHING,
    DIRECT,
    OURS,
    PROXIES,
    TITLES,
    Contender,
    Setting,
)
from open_webui_edge.benchmarks.far_network import Distance, FarNetwork
from open_webui_edge.benchmarks.latency import PersistentConnection
from open_webui_edge.benchmarks.lines import LINES
from open_webui_edge.benchmarks.load import Protocol
from open_webui_edge.benchmarks.model_server import ModelServer
from open_webui_edge.benchmarks.results import Results
from open_webui_edge.benchmarks.serving import SocketEcho
from open_webui_edge.benchmarks.streams import SSE, WAYS, listen
from open_webui_edge.benchmarks.testbed import Running, testbed
from open_webui_edge.benchmarks.waiting import wait_until
from open_webui_edge.bootstrap.console import Step, step
from open_webui_edge.settings.images import BENCH_TOOLS, OPEN_WEBUI_VERSION, ImageSource, open_webui

_START_TIMEOUT = 30
FAR = Distance(round_trip=0.04, bytes_per_second=20e6 / 8)
"""A home's line: 40 ms there and back, 20 Mbit/s."""
NEAR_PAGES, FAR_PAGES = "near", "far"
_CONFIG_BATCHES = 10
"""Rounds that the requests of `/api/config` are divided into, each with a median of its own."""


@dataclass(frozen=True)
class Plan:
    """The amount of each measurement."""

    rounds: int = 5
    seconds: float = 1.5
    """Of load, for each contender, asset, protocol and round."""
    handshake_seconds: int = 2
    config_requests: int = 50
    """For each contender and batch."""
    answers: int = 40
    """Of the model to each contender, for the first token."""
    long_answers: int = 5
    tokens: int = 60
    """Of a long answer."""
    websockets: int = 1000
    page_loads: int = 4

    @classmethod
    def quick(cls) -> "Plan":
        """Return a minimal plan that only checks that everything works."""
        return cls(2, 0.5, 1, 10, 4, 1, 20, 100, 1)


@dataclass(frozen=True)
class Bench:
    """Everything that runs."""

    tools: Running
    application: Application
    ca_file: str
    model: ModelServer
    setting: Setting
    """What a further instance of a proxy is set up with."""
    running: dict[str, Contender]

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client needs."""
        return ssl.create_default_context(cafile=self.ca_file)


Part = Callable[[Bench, Plan, Results, Step], None]


def run(plan: Plan, parts: Sequence[str] = ()) -> Results:
    """Measure everything, or the named parts of it."""
    results = Results()
    with _bench() as bench:
        _note_circumstances(bench, results)
        for title, part in PARTS.items():
            if parts and title not in parts:
                continue
            with step(title) as shown:
                part(bench, plan, results, shown)
    return results


@contextmanager
def _bench() -> Iterator[Bench]:
    source = ImageSource(os.environ.get("OPEN_WEBUI_EDGE_IMAGES", ImageSource.BUILT))
    certificate = make_certificate([contenders.domain(name) for name in TITLES])
    with (
        testbed(docker.from_env()) as bed,
        ModelServer(bed.gateway) as model,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        ca_file = Path(folder) / "ca.pem"
        ca_file.write_text(certificate.authority, encoding="utf-8")
        with step("Open WebUI") as shown:
            shown.now("starting")
            direct = f"http://{contenders.domain(DIRECT)}:{contenders.APPLICATION_PORT}"
            origins = [direct, *(f"https://{contenders.domain(name)}" for name in PROXIES)]
            image = open_webui(OPEN_WEBUI_VERSION).reference(source, None)
            started = application.start(bed, image, OPEN_WEBUI_VERSION, model, origins)
            tools = bed.run("tools", BENCH_TOOLS)
        running = {DIRECT: started.contender}
        setting = Setting(bed, source, certificate, started.upstream)
        with step("proxies") as shown:
            for name in PROXIES:
                running[name] = contenders.start(name, setting)
                _wait_for(running[name], str(ca_file), "/ready")
            # The limits serve what a browser gets through our proxy.
            setting = replace(setting, assets=application.assets(started, running[OURS].address, str(ca_file)))
            for name in (CACHING, BARE):
                running[name] = contenders.start(name, setting)
                _wait_for(running[name], str(ca_file), "/healthy")
            shown.done(", ".join(f"{TITLES[name]} {one.version}" for name, one in running.items()))
        yield Bench(tools, started, str(ca_file), model, setting, running)


def _wait_for(contender: Contender, ca_file: str, path: str) -> None:
    def answers() -> bool:
        with application.client(contender.address, ca_file) as client:
            return client.http.get(path).is_success

    wait_until(
        answers,
        what=f"{contender.address.name} to answer",
        deadline=_START_TIMEOUT,
        ignoring=(httpx.TransportError,),
    )


def _turns(names: Iterable[str], number: int) -> list[str]:
    """Rotate the names each round, so that no contender is always first."""
    listed = list(names)
    start = number % len(listed)
    return listed[start:] + listed[:start]


def _assets(bench: Bench, plan: Plan, results: Results, shown: Step) -> None:
    for key, asset in zip(("chunk", "image"), bench.setting.assets, strict=True):
        for contender in bench.running.values():
            # As often as a cache may want to see it before it keeps it; and what comes is what is compared.
            *_, got = [application.fetch(contender.address, asset.path, ca_file=bench.ca_file) for _ in range(3)]
            results.circumstances.setdefault("assets", {}).setdefault(key, {})[contender.address.name] = {
                "path": got.path,
                "encoding": got.encoding,
                "bytes": len(got.body),
            }
        for number in range(plan.rounds):
            for protocol in Protocol:
                shown.now(f"{asset.path} over {protocol}, round {number + 1} of {plan.rounds}")
                for name in _turns(bench.running, number):
                    if name == DIRECT and protocol is Protocol.HTTP2:
                        continue
                    rate = load.request_rate(bench.tools, bench.running[name], asset.path, protocol, plan.seconds)
                    results.add(f"{key}-{protocol}", name, rate.per_second)
                    results.add(f"{key}-{protocol}-cpu", name, rate.cpu_microseconds)
        # It does not speak HTTP/2: what it does over HTTP/1.1 stands for both.
        for kind in ("", "-cpu"):
            results.series[f"{key}-h2{kind}"][DIRECT] = list(results.series[f"{key}-h1{kind}"][DIRECT])


def _config(bench: Bench, plan: Plan, results: Results, shown: Step) -> None:
    names = [DIRECT, *PROXIES]
    # A proxy may cache an anonymous response; an authenticated one measures the cost of proxying.
    for key, token in (("config", None), ("config-user", bench.application.token)):
        shown.now(f"{key}: {_CONFIG_BATCHES} batches of {plan.config_requests} requests to each, in turn")
        with ExitStack() as opened:
            connections = {
                name: opened.enter_context(
                    PersistentConnection(bench.running[name].address, bench.trust, "/api/config", token=token)
                )
                for name in names
            }
            for number in range(_CONFIG_BATCHES):
                taken: dict[str, list[float]] = {name: [] for name in names}
                for turn in range(plan.config_requests):
                    for name in _turns(names, number + turn):
                        taken[name].append(connections[name].ask())
                for name in names:
                    results.add(key, name, statistics.median(taken[name]))


def _tokens(bench: Bench, plan: Plan, results: Results, shown: Step) -> None:
    with ExitStack() as opened:
        clients = {
            name: opened.enter_context(
                application.client(bench.running[name].address, bench.ca_file, bench.application.token)
            )
            for name in (DIRECT, *PROXIES)
        }
        for way in WAYS:
            key = "sse" if way == SSE else "socket"
            shown.now(f"{plan.answers} short answers over {way} to each, in turn")
            for number in range(plan.answers):
                for name in _turns(clients, number):
                    results.add(f"{key}-first", name, listen(clients[name], bench.model, way, 2).first)
            shown.now(f"{plan.long_answers} answers of {plan.tokens} tokens over {way} to each, in turn")
            for number in range(plan.long_answers):
                for name in _turns(clients, number):
                    heard = listen(clients[name], bench.model, way, plan.tokens)
                    results.add(f"{key}-token", name, statistics.median(heard.tokens))


def _websockets(bench: Bench, plan: Plan, results: Results, shown: Step) -> None:
    with SocketEcho(bench.setting.testbed.gateway) as backend:
        setting = replace(
            bench.setting,
            upstream=f"{backend.address}:{backend.port}",
            suffix="-sockets",
            # All of them come from one address. The memory is what so many need at least by the settings.
            proxy={"limits": {"connections_per_client": 2 * plan.websockets}, "memory": "2GiB"},
        )
        for name in (*PROXIES, BARE):
            shown.now(f"{plan.websockets} WebSockets through {TITLES[name]}")
            fresh = contenders.start(name, setting)
            _wait_for(fresh, bench.ca_file, "/healthy")
            results.add("websocket", name, idle_sockets.kibibytes_each(fresh, bench.trust, plan.websockets))
            fresh.running.remove()


def _handshakes(bench: Bench, plan: Plan, results: Results, shown: Step) -> None:
    for number in range(plan.rounds):
        shown.now(f"round {number + 1} of {plan.rounds}")
        for name in _turns((*PROXIES, BARE), number):
            rate = load.handshake_rate(bench.tools, bench.running[name], plan.handshake_seconds)
            results.add("handshake", name, rate.per_second)
            results.add("handshake-cpu", name, rate.cpu_microseconds)


def _pages(bench: Bench, plan: Plan, results: Results, shown: Step) -> None:
    with ExitStack() as opened:
        surroundings = page_load.Surroundings(
            playwright=opened.enter_context(sync_playwright()),
            ca_file=bench.ca_file,
            token=bench.application.token,
            insecure=bench.running[DIRECT].address.url,
            executable=page_load.in_network_of(bench.tools.process, Path(bench.ca_file).parent),
        )
        compared = {DIRECT: bench.running[DIRECT], OURS: bench.running[OURS]}
        for network in (NEAR_PAGES, FAR_PAGES):
            # Each has a browser of its own: two contenders share the name in its address bar.
            with ExitStack() as reached:
                visitors = {
                    name: reached.enter_context(_browser(surroundings, bench, contender, network))
                    for name, contender in compared.items()
                }
                for number in range(plan.page_loads):
                    for page in page_load.PAGES:
                        shown.now(f"{page} page, {network}, round {number + 1} of {plan.page_loads}")
                        for name in _turns(compared, number):
                            cold, warm = visitors[name].visit(compared[name].address.url, page)
                            for kind, loaded in (("cold", cold), ("warm", warm)):
                                for what, value in asdict(loaded).items():
                                    results.add(f"page-{page}-{network}-{kind}-{what}", name, value)


@contextmanager
def _browser(
    surroundings: page_load.Surroundings, bench: Bench, contender: Contender, network: str
) -> Iterator[page_load.Visitor]:
    address = contender.address
    with ExitStack() as opened:
        where = f"{address.ip}:{address.port}"
        if network == FAR_PAGES:
            far = opened.enter_context(FarNetwork(bench.setting.testbed.gateway, address.ip, address.port, FAR))
            where = f"{far.address}:{far.port}"
        yield opened.enter_context(surroundings.visitor({address.host: where}))


def _note_circumstances(bench: Bench, results: Results) -> None:
    processors = re.findall(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    results.circumstances |= {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} × {processors[0] if processors else platform.machine()}, {memory:.0f} GiB, "
        f"Linux {'.'.join(platform.release().split('.')[:2])}",
        "engine": bench.setting.testbed.engine.version()["Version"],
        "load_before": os.getloadavg()[0],
        "openssl": bench.tools.execute("openssl", "version").split()[1],
        "versions": {name: contender.version for name, contender in bench.running.items()},
        "lines": [line.key for line in LINES],
    }


PARTS: dict[str, Part] = {
    "cached files": _assets,
    "requests": _config,
    "tokens": _tokens,
    "WebSockets": _websockets,
    "handshakes": _handshakes,
    "pages": _pages,
}
