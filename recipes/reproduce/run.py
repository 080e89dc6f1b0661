"""Runs what a table misses, keeps what is there, and shows the paper's numbers beside ours."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etc_data.cipher import Cipher
from etc_data.errors import SettingsError, SourceError
from etc_data.keys import SecretKey
from etc_data.recipes.evaluate import TrainedModel, evaluate, wrong_key_accuracies
from etc_data.recipes.reproduce.table import Budget, Row, Table
from etc_data.recipes.settings import Settings, load_settings
from etc_data.recipes.train import train
from etc_data.shards.files import publish_json, published
from etc_data.sources.spec import open_source


@dataclass(frozen=True)
class Result:
    """Our number beside the paper's.

    Attributes:
        row: of the table.
        ours: accuracy 0 … 1, or the lowest and the highest of several keys.
        seconds: of the run behind it.
        epochs: of the run; likewise images.
        images: that it learned from.
    """

    row: Row
    ours: tuple[float, ...]
    seconds: float
    epochs: int
    images: int


def reproduce(
    table: Table,
    sources: Mapping[str, str],
    out: Path,
    *,
    budget: Budget = "cpu",
    say: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Fills a table; what an earlier call has run with the same settings is not run again.

    Args:
        table: to be filled.
        sources: where each data set of the table lies.
        out: a folder for all runs; a run that was killed goes on where it was.
        budget: ``"cpu"`` and ``"gpu-10min"`` are scaled down, and say so.
        say: told what happens.

    Raises:
        SettingsError: a data set is missing in `sources`.
        EtcError: a run failed.
    """
    missing = [name for name in table.data if name not in sources]
    if missing:
        raise SettingsError(
            f"table {table.name} needs data sets {', '.join(missing)}",
            f"name them: --data {missing[0]}=SOURCE",
        )
    key = _experiment_key(out)
    folder = out / table.name / budget
    runs: dict[str, tuple[Settings, dict[str, Any]]] = {}
    results = []
    for row in table.rows:
        if row.run not in runs:
            source = sources[table.data_of(row.run)]
            settings = table.settings(
                row.run,
                budget,
                source=source,
                val=_test_split(source),
                key=key,
                out=folder / row.run,
            )
            say(f"{table.name}, {budget}: run {row.run}")
            runs[row.run] = settings, _summary(settings)
        settings, summary = runs[row.run]
        ours = _accuracy(row, settings, summary, key)
        results.append(
            Result(row, ours, summary["seconds"], summary["epochs"], summary["train_images"])
        )
        say(f"  {row.label}: {_percent(ours)} (paper: {row.paper})")
    _write(table, results, budget, folder, runs)
    return results


def _summary(settings: Settings) -> dict[str, Any]:
    """Returns the summary of a run, which is made first, or finished, where it has to be."""
    out = Path(settings.out)
    path = out / "summary.json"
    if not path.exists() or load_settings(out / "settings.yaml") != settings:
        train(settings, resume=True)
    summary: dict[str, Any] = json.loads(path.read_bytes())
    return summary


def _experiment_key(out: Path) -> Path:
    path = out / "experiment.key"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        SecretKey.generate().save(path)
    return path


def _test_split(source: str) -> str:
    splits = open_source(source).splits
    for name in ("val", "test", "validation", "valid"):
        if name in splits:
            return name
    raise SourceError(f"{source} has no split to test on; it has {', '.join(splits)}")


def _accuracy(row: Row, settings: Settings, summary: Mapping[str, Any], key: Path) -> tuple[float, ...]:
    if row.test == "as-trained":
        return (float(summary["accuracy"]),)
    # A cache beside the run: it may not be read for another run, whose folder is another.
    cache = Path(settings.out) / f"{row.test}-{(row.scheme or '').replace('/', '_')}-{row.keys}.json"
    if cache.exists():
        return tuple(json.loads(cache.read_bytes()))
    trained = TrainedModel.load(Path(settings.out) / "last.safetensors")
    data = settings.data
    assert row.scheme is not None
    cipher = Cipher(row.scheme, SecretKey.load(key), key_scope="dataset")
    if row.test == "wrong-keys":
        accuracies = wrong_key_accuracies(trained, cipher, data, row.keys, seed=settings.seed)
        ours: tuple[float, ...] = (min(accuracies), max(accuracies))
    else:
        images = cipher if row.test == "encrypted-model" else None
        scores = evaluate(trained.encrypted(cipher), data, cipher=images, any_images=images is None)
        ours = (scores.accuracy,)
    publish_json(cache, ours)
    return ours


def _percent(ours: tuple[float, ...]) -> str:
    return "–".join(f"{100 * accuracy:.2f}" for accuracy in ours)


def _write(
    table: Table,
    results: list[Result],
    budget: Budget,
    folder: Path,
    runs: Mapping[str, tuple[Settings, dict[str, Any]]],
) -> None:
    lines = [f"### {table.title}", ""]
    if budget != "full":
        lines += [f"**Scaled down ({budget})**: {table.notes[budget]}", ""]
    lines += [
        "| | paper, % | ours, % | epochs | images | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        paper = "" if result.row.paper is None else result.row.paper
        lines.append(
            f"| {result.row.label} | {paper} | {_percent(result.ours)} | {result.epochs} "
            f"| {result.images} | {result.seconds:.0f} |"
        )
    device = next(iter(runs.values()))[1]
    lines += [
        "",
        f"`etc-data reproduce {table.name} --budget {budget}`; {device['device']}, "
        f"{device['threads']} threads, torch {device['torch']}, timm {device['timm']}, "
        f"seed {device['seed']}.",
        "",
    ]
    with published(folder / "table.md") as file:
        file.write("\n".join(lines).encode())
    publish_json(
        folder / "table.json",
        [
            {
                "label": result.row.label,
                "paper": result.row.paper,
                "ours": [round(100 * accuracy, 2) for accuracy in result.ours],
                "epochs": result.epochs,
                "images": result.images,
                "seconds": result.seconds,
            }
            for result in results
        ],
    )
