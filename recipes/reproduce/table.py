"""A table of a paper as runs to make and rows to fill, read from its YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from etc_data.errors import SettingsError
from etc_data.recipes.settings import Settings, settings_from_dict

Budget = Literal["cpu", "gpu-10min", "full"]
Test = Literal["as-trained", "encrypted-model", "plain-on-encrypted-model", "wrong-keys"]


@dataclass(frozen=True)
class Row:
    """One number of a table.

    Attributes:
        label: what the paper calls it.
        run: name of the run whose model is tested.
        paper: what the paper says, in percent; a text where it is a range, None where it is silent.
        test: ``"as-trained"``: on images like those it learned from; ``"encrypted-model"``: the plain
            model, encrypted, on encrypted images; ``"plain-on-encrypted-model"``: on plain ones;
            ``"wrong-keys"``: on images of wrong keys.
        scheme: that encrypts model and images, for all but ``"as-trained"``.
        keys: how many wrong keys.
    """

    label: str
    run: str
    paper: float | str | None = None
    test: Test = "as-trained"
    scheme: str | None = None
    keys: int = 10


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        name: of its file.
        title: paper, table, data set, network.
        data: names of the data sets that it needs.
        runs: settings of each run, by budget: ``runs[budget][name]``.
        rows: in the paper's order.
        notes: what differs from the paper, for each budget.
    """

    name: str
    title: str
    data: tuple[str, ...]
    runs: dict[str, dict[str, dict[str, Any]]] = field(repr=False)
    rows: tuple[Row, ...]
    notes: dict[str, str]

    def settings(
        self, run: str, budget: Budget, *, source: str, val: str, key: Path, out: Path
    ) -> Settings:
        """Returns the settings of a run.

        Args:
            run: its name.
            budget: what may be spent.
            source: of the images.
            val: the split to test on.
            key: the key file.
            out: the folder of the run.
        """
        values = self.runs[budget][run]
        data = {**values.get("data", {}), "source": source, "val": val}
        if data.get("scheme"):
            data["key"] = str(key)
        return settings_from_dict({**values, "data": data, "out": str(out)})

    def data_of(self, run: str) -> str:
        """Returns the name of the data set that a run needs."""
        return str(self.runs["full"][run]["data"]["source"])


def table_names() -> list[str]:
    """Returns the names of all tables that come with the library."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in files("etc_data.recipes.reproduce").iterdir()
        if entry.name.endswith(".yaml")
    )


def load_table(name: str) -> Table:
    """Returns a table by its name.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in table_names():
        raise SettingsError(f"table {name!r} is unknown; known are {', '.join(table_names())}")
    return read_table(name, (files("etc_data.recipes.reproduce") / f"{name}.yaml").read_text("utf-8"))


def read_table(name: str, text: str) -> Table:
    """Returns the table that a YAML text describes."""
    value = yaml.safe_load(text)
    runs = {
        budget: {run: _run_settings(value, budget, run) for run in value["runs"]}
        for budget in get_args(Budget)
    }
    data = dict.fromkeys(settings["data"]["source"] for settings in runs["full"].values())
    rows = tuple(Row(**row) for row in value["rows"])
    notes = {budget: value["budgets"][budget].get("note", "") for budget in get_args(Budget)}
    return Table(name, value["title"], tuple(data), runs, rows, notes)


def _run_settings(value: Mapping[str, Any], budget: Budget, run: str) -> dict[str, Any]:
    """Merges what is common, the run and those that it is like, and what the budget changes."""
    runs, scaled = value["runs"], value["budgets"][budget]
    line = [run]
    while like := runs[line[0]].get("like"):
        line.insert(0, like)
    settings = merge(
        value["common"],
        *(runs[name] for name in line),
        scaled.get("settings", {}),
        *(scaled.get("runs", {}).get(name, {}) for name in line),
    )
    settings.pop("like", None)
    return settings


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested settings of which later ones override earlier ones."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            below = merged.get(name)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            merged[name] = merge(below, value) if both and below is not None else value
    return merged
