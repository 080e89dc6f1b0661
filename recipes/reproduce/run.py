"""Runs what a table misses, keeps what is there, and shows the paper's numbers beside ours."""

import dataclasses
import json
import statistics
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
        accuracies: 0 … 1, one for each seed; of wrong keys, one for each seed and key.
        seconds: of the runs behind it.
        epochs: of a run; likewise images.
        images: that it learned from.
    """

    row: Row
    accuracies: tuple[float, ...]
    seconds: float
    epochs: int
    images: int

    def __str__(self) -> str:
        """Returns our number in percent: of several seeds the mean ± standard deviation."""
        percent = [100 * accuracy for accuracy in self.accuracies]
        if self.row.test == "wrong-keys":
            return f"{min(percent):.2f}–{max(percent):.2f}"
        if len(percent) == 1:
            return f"{percent[0]:.2f}"
        return f"{statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f}"


def reproduce(
    table: Table,
    sources: Mapping[str, str],
    out: Path,
    *,
    budget: Budget = "cpu",
    seeds: int = 1,
    weights: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Fills a table; what an earlier call has run with the same settings is not run again.

    Args:
        table: to be filled.
        sources: where each data set of the table lies; rows of those that are not named are left out.
        out: a folder for all runs; a run that was killed goes on where it was.
        budget: ``"cpu"`` and ``"gpu-10min"`` are scaled down, and say so.
        seeds: how often each run is made, with seeds from 0 on.
        weights: a file that pretrained networks start from, in place of timm's hub.
        say: told what happens.

    Raises:
        SettingsError: no data set of the table is in `sources`, or one that it does not know.
        EtcError: a run failed.
    """
    unknown = [name for name in sources if name not in table.data]
    if unknown or not sources:
        what = f"has no data set {', '.join(unknown)}" if unknown else "needs images"
        raise SettingsError(
            f"table {table.name} {what}; its data sets are {', '.join(table.data)}",
            f"name them: --data {table.data[0]}=SOURCE",
        )
    key = _experiment_key(out)
    folder = out / table.name / budget
    tests = {name: _test_split(source) for name, source in sources.items()}
    runs: dict[str, list[_Run]] = {}
    results = []
    for row in table.rows:
        data = table.data_of(row.run)
        if data not in sources:
            say(f"  {row.label}: left out (no --data {data}=SOURCE)")
            continue
        if row.run not in runs:
            say(f"{table.name}, {budget}: run {row.run}")
            settings = table.settings(
                row.run, budget, source=sources[data], val=tests[data], key=key, out=folder / row.run
            )
            runs[row.run] = [_made(_variant(settings, seed, weights)) for seed in range(seeds)]
        made = runs[row.run]
        accuracies = [accuracy for run in made for accuracy in _accuracies(row, run, key)]
        summaries = [run.summary for run in made]
        seconds = sum(summary["seconds"] for summary in summaries)
        results.append(
            Result(
                row, tuple(accuracies), seconds, summaries[0]["epochs"], summaries[0]["train_images"]
            )
        )
        say(f"  {row.label}: {results[-1]} (paper: {row.paper or 'none'})")
    _write(table, results, budget, folder, [run for made in runs.values() for run in made], seeds)
    return results


@dataclass(frozen=True)
class _Run:
    """A run that was made, and its summary."""

    settings: Settings
    summary: Mapping[str, Any]


def _variant(settings: Settings, seed: int, weights: Path | None) -> Settings:
    """Returns the settings with another seed, in a folder of its own, and with weights of a file."""
    if seed:
        settings = dataclasses.replace(settings, seed=seed, out=f"{settings.out}-seed{seed}")
    if weights is not None and settings.model.pretrained:
        model = dataclasses.replace(settings.model, pretrained=False, checkpoint=str(weights))
        settings = dataclasses.replace(settings, model=model)
    return settings


def _made(settings: Settings) -> _Run:
    """Returns a run, which is made first, or finished, where it has to be."""
    out = Path(settings.out)
    path = out / "summary.json"
    if not path.exists() or load_settings(out / "settings.yaml") != settings:
        train(settings, resume=True)
    return _Run(settings, json.loads(path.read_bytes()))


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


def _accuracies(row: Row, run: _Run, key: Path) -> list[float]:
    if row.test == "as-trained":
        return [float(run.summary["accuracy"])]
    # A cache beside the run: it may not be read for another run, whose folder is another.
    out = Path(run.settings.out)
    cache = out / f"{row.test}-{(row.scheme or '').replace('/', '_')}-{row.keys}.json"
    if cache.exists():
        accuracies: list[float] = json.loads(cache.read_bytes())
        return accuracies
    trained = TrainedModel.load(out / "last.safetensors")
    data = run.settings.data
    assert row.scheme is not None
    cipher = Cipher(row.scheme, SecretKey.load(key), key_scope="dataset")
    if row.test == "wrong-keys":
        accuracies = wrong_key_accuracies(trained, cipher, data, row.keys, seed=run.settings.seed)
    else:
        images = cipher if row.test == "encrypted-model" else None
        scores = evaluate(trained.encrypted(cipher), data, cipher=images, any_images=images is None)
        accuracies = [scores.accuracy]
    publish_json(cache, accuracies)
    return accuracies


def _write(
    table: Table, results: list[Result], budget: Budget, folder: Path, runs: list[_Run], seeds: int
) -> None:
    lines = [f"### {table.title}", ""]
    if budget != "full":
        lines += [f"**Scaled down ({budget})**: {table.notes[budget]}", ""]
    elif table.notes[budget]:
        lines += [f"What differs from the paper: {table.notes[budget]}", ""]
    lines += [
        "| | paper, % | ours, % | epochs | images | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        paper = "" if result.row.paper is None else result.row.paper
        lines.append(
            f"| {result.row.label} | {paper} | {result} | {result.epochs} "
            f"| {result.images} | {result.seconds:.0f} |"
        )
    summary = runs[0].summary
    tested = sorted({run.summary["test_images"] for run in runs})
    count = "seed 0" if seeds == 1 else f"seeds 0 to {seeds - 1} (mean ± standard deviation)"
    lines += [
        "",
        f"`etc-data reproduce {table.name} --budget {budget}`; {summary['device']}, "
        f"threads: {summary['threads']}, torch {summary['torch']}, timm {summary['timm']}, "
        f"{count}; tested on {' or '.join(map(str, tested))} images.",
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
                "ours": [round(100 * accuracy, 2) for accuracy in result.accuracies],
                "epochs": result.epochs,
                "images": result.images,
                "seconds": result.seconds,
            }
            for result in results
        ],
    )
