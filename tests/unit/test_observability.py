"""docs/observability.md names every metric there is, and its rules parse and use no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from banditcore.metrics import OTHERS, REASONS, RUNGS, MetricsLimits
from banditcore.prometheus import PrometheusMetrics

GUIDE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
RULES = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)[1])
MODES = {"livemin": "gauge, lowest", "livemax": "gauge, highest", "max": "gauge, highest"}
MODES |= {"livesum": "gauge, sum"}


def collectors():
    """Return every metric of the adapter, by the name that it is exposed under."""
    registry = CollectorRegistry()
    _ = PrometheusMetrics(registry)
    found = {}
    for collector in registry._collector_to_names:
        name = collector._name + ("_total" if collector._type == "counter" else "")
        found[name] = collector
    return found


def documented() -> dict[str, tuple[str, set[str]]]:
    """Return name -> (kind, labels) of the table."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|([^|\n]*)\|", GUIDE, re.MULTILINE)
    return {
        f"banditcore_{name}": (kind, {"bandit", *re.findall(r"`(\w+)`", labels)})
        for name, kind, labels in rows
    }


def test_the_table_names_every_metric_with_its_kind_and_labels() -> None:
    actual = {
        name: (
            MODES[each._multiprocess_mode] if each._type == "gauge" else each._type,
            set(each._labelnames),
        )
        for name, each in collectors().items()
    }
    assert documented() == actual


@pytest.mark.parametrize("word", [*RUNGS, *REASONS, OTHERS])
def test_every_value_of_a_label_is_explained(word: str) -> None:
    assert f"`{word}`" in GUIDE


def test_the_defaults_are_those_in_force() -> None:
    limits = MetricsLimits()
    assert f"`entropy_below` ({limits.entropy_below:g})" in GUIDE
    assert f"`entropy_drop` {limits.entropy_drop:g})" in GUIDE
    assert (limits.named_segments, "first hundred" in GUIDE) == (100, True)


def test_the_rules_are_rules_and_use_what_there_is() -> None:
    [group] = RULES["groups"]
    known = set(documented())
    known |= {f"{name}_{end}" for name in known for end in ("bucket", "count", "sum")}
    for rule in group["rules"]:
        assert {"expr"} < set(rule)
        assert ("alert" in rule) != ("record" in rule)
        assert set(rule) <= {"alert", "record", "expr", "for", "labels", "annotations"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        used = set(re.findall(r"\bbanditcore_\w+", rule["expr"]))
        assert used, rule
        assert used <= known
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert rule["annotations"]["summary"]


def test_rules_group_by_labels_that_their_metrics_have() -> None:
    labels = {name: of for name, (_, of) in documented().items()}
    for rule in RULES["groups"][0]["rules"]:
        [first, *_] = re.findall(r"\bbanditcore_\w+", rule["expr"])
        name = re.sub(r"_(bucket|count|sum)$", "", first)
        shown = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations", ""))))
        grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
        there = labels[name] | {"le"}
        if grouped:
            assert set(grouped[1].replace(" ", "").split(",")) <= there
            there = set(grouped[1].replace(" ", "").split(","))
        assert shown <= there, rule
