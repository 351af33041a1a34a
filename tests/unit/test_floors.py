"""Imports flow down the floors: the table below is the architecture, and every module is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

import banditcore

SOURCES = Path(banditcore.__file__).parent

# Within a floor a module may import those that stand before it.
FLOORS = (
    ("errors",),
    (
        "identifiers",
        "iterables",
        "segments",
        "arrays",
        "seeds",
        "threads",
        "crc",
        "events",
        "metrics",
        "guarded_metrics",
    ),
    (
        "counts",
        "grouping",
        "event_sections",
        "event_format",
        "logs.lines",
        "logs.columns",
        "logs.opening",
        "logs.records_csv",
        "logs.records_jsonl",
        "logs.layout",
        "logs.convert",
        "logs.log",
        "logs",
    ),
    ("gamma", "logit_beta", "_rises", "empirical_bayes", "posterior", "posterior_tree"),
    (
        "_sampling",
        "_race",
        "thompson_sampler",
        "method",
        "sampling",
        "quadrature",
        "contest",
        "_poisson_binomial",
        "propensity",
    ),
    ("slates", "_packed", "slate_header", "slate_format", "exploration"),
    (
        "_exposures",
        "_hash_index",
        "store.keys",
        "store.servers.url_options",
        "store.servers.url",
        "store.servers.retrying",
        "store.servers.translation",
        "store.servers.transport",
        "store.servers.deadline_socket",
        "store.servers.deferred",
        "store.servers.cluster",
        "store.servers.sentinel",
        "store.servers.fitness",
        "store.servers",
        "store.embedded.binary",
        "store.embedded.data_directory",
        "store.embedded.supervisor",
        "store.embedded.server",
        "store.embedded.connection",
        "store.embedded",
        "store.connect",
        "store",
        "store.seals",
        "store.functions.texts",
        "store.functions.calling",
        "store.functions.words",
        "store.functions.library",
        "store.functions.updates_library",
        "store.functions.maintenance_library",
        "store.functions.stream_library",
        "store.functions.seen_library",
        "store.functions",
        "store.keyspace",
        "store.counts.settings",
        "store.counts.index",
        "store.counts.registry",
        "store.counts.version",
        "store.counts.view",
        "store.counts.reading",
        "store.counts.updates",
        "store.counts.statistics",
        "store.counts.checkpoints",
        "store.counts.dump",
        "store.counts",
        "store.publish",
        "store.leases",
        "store.event_streams.streams",
        "store.event_streams.stream_reading",
        "store.event_streams.partitions",
        "store.event_streams.refusing",
        "store.event_streams.dead_letters",
        "store.event_streams.consumer_group",
        "store.event_streams.stream_checkpoints",
        "store.event_streams.presence",
        "store.event_streams.stream_removal",
        "store.event_streams",
        "store.deadlines.resp",
        "store.deadlines.line",
        "store.deadlines.breaker",
        "store.deadlines.lines",
        "store.deadlines.places",
        "store.deadlines.deadline_client",
        "store.deadlines",
        "store.seen_record",
        "store.monitoring",
    ),
    (
        "recording",
        "emitting.appending",
        "emitting.outbox",
        "emitting.emitter",
        "emitting.replaying",
        "emitting",
        "meanwhile",
        "notices",
        "stopping",
        "ingest.ordered",
        "ingest.log_job",
        "ingest.sources.source",
        "ingest.sources",
        "ingest.sources.records",
        "ingest.sources.redis_stream",
        "ingest.sources.redis_group",
        "ingest.sources.kafka_messages",
        "ingest.sources.kafka",
        "ingest.partition",
        "ingest.delivery",
        "ingest.report",
        "ingest.owned",
        "ingest.worker",
        "ingest.metering",
        "ingest",
        "refresh.report",
        "refresh.memory",
        "refresh.counting",
        "refresh.drawing",
        "refresh.dask_cluster",
        "refresh.job",
        "refresh.companion",
        "refresh.metering",
        "refresh",
        "_user_keys",
        "_answer",
        "serving.exclusions",
        "serving.arguments",
        "serving.aside",
        "serving.chance",
        "serving.draws",
        "serving.bank",
        "serving.live",
        "serving.rung",
        "serving.recommendation",
        "serving.recommendations",
        "serving.batch",
        "serving.warming",
        "serving.blobs",
        "serving.backup",
        "serving.sleeping",
        "serving.holding",
        "serving.loader",
        "serving.polling",
        "serving.caps",
        "serving.arm_index",
        "serving.seen_memory",
        "serving.lookups",
        "serving.unsent_marks",
        "serving.seen",
        "serving.choosing",
        "serving.metering",
        "serving.keeper",
        "serving.answering",
        "serving.recommender",
        "serving",
        "maintenance.findings",
        "maintenance.segment_checks",
        "maintenance.bandit_checks",
        "maintenance.stream_checks",
        "maintenance.seen_checks",
        "maintenance.ownership",
        "maintenance.strangers",
        "maintenance.verify",
        "maintenance.slates_without",
        "maintenance.forget",
        "maintenance.export_format",
        "maintenance.exporting",
        "maintenance.importing",
        "maintenance",
    ),
    ("bandit",),
    (
        "prometheus.children",
        "prometheus.adapter",
        "prometheus",
        "demo.openbandit",
        "demo.run",
        "demo",
        "benchmarking.workloads",
        "benchmarking.accuracy",
        "benchmarking.timing",
        "benchmarking.machine",
        "benchmarking.peers",
        "benchmarking.effort",
        "benchmarking.draws",
        "benchmarking.slates",
        "benchmarking.exact",
        "benchmarking.contests",
        "benchmarking",
        "cli.output",
        "cli.files",
        "cli.wording",
        "cli.arguments",
        "cli.selection",
        "cli.awaiting",
        "cli.metrics",
        "cli.crew",
        "cli.bench",
        "cli.demo",
        "cli.follow",
        "cli.reject_file",
        "cli.ingest_logs",
        "cli.ingest",
        "cli.companion",
        "cli.refresh",
        "cli.recommend",
        "cli.live_state",
        "cli.live",
        "cli.inspect",
        "cli.dead_letters",
        "cli.confirming",
        "cli.verify",
        "cli.export",
        "cli.import_",
        "cli.forget",
        "cli.app",
        "cli",
        "__main__",
        "",  # the public face
    ),
)

# Libraries that only one part of the package may know.
RESERVED = {
    "redis": "store",
    "msgpack": "slate_format",
    "confluent_kafka": "ingest.sources.kafka",
    "distributed": "refresh.dask_cluster",
    "prometheus_client": "prometheus",
}

ORDER = {module: place for place, module in enumerate(chain.from_iterable(FLOORS))}


@dataclass(frozen=True)
class Import:
    line: int
    target: str


def modules() -> dict[str, Path]:
    """Return every module by its name below ``banditcore``; a compiled one by its stub."""
    found = {}
    for path in sorted(chain(SOURCES.rglob("*.py"), SOURCES.rglob("*.pyi"))):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str) -> Iterator[Import]:
    """Yield what a module imports, wherever in it, with names that may be modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{above}.{alias.name}"
                is_module = inner.removeprefix("banditcore.") in ORDER
                of_face = above == "banditcore"
                yield Import(node.lineno, inner if is_module or of_face else above)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in {"import_module", "__import__", "spec_from_file_location"}:
                yield Import(node.lineno, f"{called}()")


def violations(module: str, source: str) -> list[str]:
    """Return what is wrong with a module's imports, a line each."""
    wrong = []
    for found in imports(source):
        where = f"{module or '__init__'}:{found.line} imports {found.target}"
        library, _, rest = found.target.partition(".")
        if found.target.startswith(".") or found.target.endswith(")"):
            wrong.append(f"{where}: write it out, so that it can be checked")
        elif library == "banditcore":
            if rest not in ORDER:
                wrong.append(f"{where}: no such module on any floor")
            elif ORDER[rest] >= ORDER[module]:
                wrong.append(f"{where}: it does not stand below")
        elif library in RESERVED:
            owner = RESERVED[library]
            if module != owner and not module.startswith(f"{owner}."):
                wrong.append(f"{where}: only {owner} may")
    return wrong


def test_every_module_stands_on_one_floor() -> None:
    placed = list(chain.from_iterable(FLOORS))
    assert sorted(placed) == sorted(modules())


def test_imports_flow_down() -> None:
    found = modules()
    wrong = [
        line
        for module, path in found.items()
        if module in ORDER
        for line in violations(module, path.read_text("utf-8"))
    ]
    assert wrong == []


def test_imports_are_seen() -> None:
    seen = {found.target for found in imports(modules()["bandit"].read_text("utf-8"))}
    assert {"numpy", "banditcore.refresh", "banditcore.store.counts.index"} <= seen
    assert "banditcore.store.connect" in seen  # only under TYPE_CHECKING


def test_the_compiled_core_imports_only_errors_and_its_pool() -> None:
    cython = [
        (path.stem, line.strip())
        for path in SOURCES.rglob("*.pyx")
        for line in path.read_text("utf-8").splitlines()
        if "import" in line.split() and "banditcore" in line
    ]
    assert sorted(cython) == [
        ("_race", "from banditcore import _sampling"),
        ("_sampling", "from banditcore.errors import InvalidValueError, describe"),
    ]


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("counts", "from banditcore.bandit import Bandit", "does not stand below"),
        ("counts", "import banditcore.store.keys", "does not stand below"),
        ("counts", "from banditcore import sampling", "does not stand below"),
        ("counts", "from banditcore import Bandit", "no such module"),
        ("counts", "import banditcore", "does not stand below"),
        ("counts", "from banditcore.counts import merge", "does not stand below"),
        ("counts", "def later():\n    from banditcore.logs import log", "does not stand below"),
        ("counts", "if TYPE_CHECKING:\n    import banditcore.grouping", "does not stand below"),
        ("store.keys", "from banditcore.store import publish", "does not stand below"),
        ("counts", "from .errors import describe", "write it out"),
        ("counts", "importlib.import_module('banditcore.bandit')", "write it out"),
        ("bandit", "from redis.exceptions import ResponseError", "only store may"),
        ("store.counts.updates", "import msgpack", "only slate_format may"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, complaint: str) -> None:
    [found] = violations(module, source)
    assert complaint in found


def test_what_is_allowed_is_not_complained_about() -> None:
    source = (
        "import numpy\nfrom banditcore.errors import describe\nfrom banditcore.store import keys"
    )
    assert violations("store.counts.updates", source + "\nimport redis") == []
    assert violations("bandit", source) == []
    assert violations("slate_format", "import msgpack") == []


def listed() -> list[str]:
    """Return the files of the package that CONTRIBUTING.md lists, from top to bottom."""
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    tree = guide.split("```")[1].partition("src/banditcore/\n")[2].partition("\ntests/\n")[0]
    paths: list[str] = []
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        names = re.match(r"[^\s,]+(?:, [^\s,]+)*", line.strip())
        assert names is not None, line
        first, *rest = names[0].split(", ")
        if first.endswith("/"):
            folders[depth:] = [first]
            continue
        folder, stem = "".join(folders[:depth]), first.rpartition(".")[0]
        paths.append(folder + first)
        paths += [folder + (stem + name if name.startswith(".") else name) for name in rest]
    return paths


def test_contributing_lists_every_file_once() -> None:
    paths = [path for path in listed() if "*" not in path]
    assert sorted(set(paths)) == sorted(paths)
    files = {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*") if path.is_file()}
    assert set(paths) <= files
    # What is compiled is named by families, the commands by what they have in common.
    needed = {path for path in files if path.endswith((".py", ".lua", ".h"))}
    missing = needed - set(paths)
    assert {path for path in missing if not path.startswith("cli/")} == {
        path for path in needed if path.endswith("/__init__.py") and not path.startswith("cli/")
    }


def test_contributing_lists_modules_as_they_stand_on_the_floors() -> None:
    placed = [
        module
        for path in listed()
        if path.endswith(".py")
        and (module := path.removesuffix(".py").replace("/", ".")) not in {"__init__", "__main__"}
    ]
    assert placed == sorted(placed, key=ORDER.__getitem__)
