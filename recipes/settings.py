"""The settings of one training run: a YAML file, and ``section.name=value`` on the command line."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import yaml

from etc_data.errors import SettingsError


@dataclass(frozen=True)
class ModelSettings:
    """Which network is trained.

    Attributes:
        name: as timm knows it, such as ``etc_convmixer_256_8_p4`` or ``vit_base_patch16_224``.
        pretrained: start from timm's weights, fetched from the hub.
        checkpoint: start from this local file instead, all but its classifier.
        options: further arguments of ``timm.create_model``.
    """

    name: str = "etc_convmixer_256_8_p4"
    pretrained: bool = False
    checkpoint: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSettings:
    """What the network learns from.

    Attributes:
        source: EtC shards (a folder or URL that holds a manifest), or plain images (anything that
            ``etc-data encrypt`` takes), which are then read into memory and encrypted on the device.
        train: the split to learn from.
        val: the split to test on.
        size: pixels per side that plain images are brought to; shards have theirs.
        scheme: how plain images are encrypted; None trains on plain ones.
        key: the key file; None takes the environment's.
        key_scope: ``"dataset"``, ``"image"`` (a fresh key for every image in every epoch), or None
            for the scheme's own.
        context: of the cipher.
        quality: plain images are coded as JPEG of this quality, 4:4:4, once they are encrypted.
        limit: at most so many images of the training split, evenly spread.
        val_limit: the same of the other.
        workers: processes that read shards.
        mean: subtracted from values in [0, 1]; None takes the model's.
        std: divided by; None takes the model's.
    """

    source: str = ""
    train: str = "train"
    val: str = "val"
    size: int = 32
    scheme: str | None = None
    key: str | None = None
    key_scope: Literal["dataset", "image"] | None = None
    context: str = ""
    quality: int | None = None
    limit: int | None = None
    val_limit: int | None = None
    workers: int = 2
    mean: list[float] | None = None
    std: list[float] | None = None


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to batches.

    Attributes:
        flip: turn half of the plain images left to right, before they are encrypted.
        shift: move plain images by up to so many pixels over black borders, before that.
        erase: fill a box of this share of plain images with noise, after that.
        recipe: further changes of plain images, before all that, as ``etc-data encrypt --augment``
            names them, such as ``crop:0.5+randaugment:9``; one image after the other on the processor.
        mixup: alpha of MixUp's Beta distribution; 0 is off.
        cutmix: alpha of CutMix's; 0 is off.  Its boxes lie on the borders of blocks.
        grid: pixels per side of these blocks; None takes the scheme's, or 1 for plain images.
        smoothing: of labels, 0 … 1.
    """

    flip: bool = False
    shift: int = 0
    erase: float = 0.0
    recipe: str | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    grid: int | None = None
    smoothing: float = 0.0


@dataclass(frozen=True)
class OptimizerSettings:
    """How the network learns.

    Attributes:
        name: of timm's optimizers, such as ``adamw`` or ``momentum``.
        lr: the highest learning rate.
        weight_decay: not applied to biases and norms.
        momentum: of those that have one.
        schedule: ``"cosine"`` to 0; ``"triangular"`` up for two fifths, down to a twentieth at four
            fifths, then to 0 (the ConvMixer paper's for CIFAR-10); ``"steps"``: a tenth of it after
            half of the epochs, a hundredth after three quarters; or ``"constant"``.
        warmup: epochs of linear growth before all but ``"triangular"``.
        clip: the largest norm of the gradient; 0 is off.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: Literal["cosine", "triangular", "steps", "constant"] = "cosine"
    warmup: float = 0.0
    clip: float = 1.0


@dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Attributes:
        out: the folder of its results.
        epochs: how often the training split is seen.
        batch: images per step and process.
        seed: of everything random.
        precision: ``"no"`` is float32; ``"bf16"`` and ``"fp16"`` mix.
        ema: decay of the moving average of the weights; 0 is off.
        checkpoint_steps: save the state every so many steps as well as after each epoch; 0 is off.
        note: what the summary says of the run, such as "scaled down".
    """

    out: str = "runs/run"
    epochs: int = 10
    batch: int = 64
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    ema: float = 0.0
    checkpoint_steps: int = 0
    note: str = ""
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        """Checks what types alone do not say."""
        least: tuple[tuple[str, float | None, float], ...] = (
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 1),
            ("seed", self.seed, 0),
            ("data.size", self.data.size, 1),
            ("data.limit", self.data.limit, 1),
            ("data.val_limit", self.data.val_limit, 1),
            ("data.workers", self.data.workers, 0),
            ("augment.shift", self.augment.shift, 0),
            ("augment.grid", self.augment.grid, 1),
            ("augment.mixup", self.augment.mixup, 0),
            ("augment.cutmix", self.augment.cutmix, 0),
            ("optimizer.lr", self.optimizer.lr, 0),
            ("optimizer.weight_decay", self.optimizer.weight_decay, 0),
            ("optimizer.warmup", self.optimizer.warmup, 0),
            ("optimizer.clip", self.optimizer.clip, 0),
            ("checkpoint_steps", self.checkpoint_steps, 0),
        )
        for name, value, limit in least:
            if value is not None and not limit <= value < math.inf:
                raise SettingsError(f"{name} is {value}; it must be at least {limit:g} and finite")
        shares = (
            ("ema", self.ema),
            ("augment.erase", self.augment.erase),
            ("augment.smoothing", self.augment.smoothing),
            ("optimizer.momentum", self.optimizer.momentum),
        )
        for name, share in shares:
            if not 0 <= share < 1:
                raise SettingsError(f"{name} is {share}; it must be from 0 to below 1")
        for name, values in (("data.mean", self.data.mean), ("data.std", self.data.std)):
            if values is not None and (len(values) != 3 or not all(map(math.isfinite, values))):
                raise SettingsError(f"{name} is {values}; it must be three finite numbers")
        if self.data.std is not None and min(self.data.std) <= 0:
            raise SettingsError(f"data.std is {self.data.std}; it must be positive")
        if not self.data.source:
            raise SettingsError("data.source is missing", "name shards or plain images: data.source=…")

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as what YAML can hold."""
        return dataclasses.asdict(self)


def config_names() -> list[str]:
    """Returns the names of the configs that come with the library."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _configs().iterdir())


def load_settings(config: str | Path, changes: Sequence[str] = ()) -> Settings:
    """Returns the settings of a YAML file with some of them changed.

    Args:
        config: the file, or the name of one that comes with the library; ``base: other.yaml`` in it
            starts from that file, relative to it.
        changes: such as ``optimizer.lr=0.01``; values are YAML.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or of another type.
    """
    values = _read(_config_path(config))
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise SettingsError(f"{change!r} changes nothing; write it as name=value")
        *sections, last = name.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise SettingsError(f"{name!r} is no setting: {section} has no parts")
        place[last] = _parse(text, change)
    return settings_from_dict(values)


def settings_from_dict(values: Mapping[str, Any]) -> Settings:
    """Returns the settings of nested dictionaries.

    Raises:
        SettingsError: a setting is unknown or of another type.
    """
    settings = _build(Settings, values, "")
    assert isinstance(settings, Settings)
    return settings


def _configs() -> Traversable:
    return files("etc_data.recipes") / "configs"


def _config_path(config: str | Path) -> Path:
    path = Path(config)
    if path.exists():
        return path
    if str(config) in config_names():
        return Path(str(_configs() / f"{config}.yaml"))
    raise SettingsError(
        f"config {str(config)!r} does not exist",
        f"give a YAML file, or one of {', '.join(config_names())}",
    )


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in above:
        raise SettingsError(f"{path} has itself as a base")
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path} holds no settings but {type(values).__name__}")
    base = values.pop("base", None)
    if base is None:
        return values
    return _merged(_read(path.parent / str(base), (*above, path.resolve())), values)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict) and name != "options"
        merged[name] = _merged(merged[name], value) if both else value
    return merged


def _parse(text: str, change: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"{change!r} has no value that YAML knows") from None


def _build(kind: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{prefix.rstrip('.')} is {values!r}; it must hold settings")
    types_of = typing.get_type_hints(kind)
    strange = [str(name) for name in values if name not in types_of]
    if strange:
        unknown, known = ([f"{prefix}{name}" for name in names] for names in (strange, types_of))
        meant = [
            prefix + near for name in strange for near in difflib.get_close_matches(name, types_of, 1)
        ]
        raise SettingsError(
            f"{', '.join(unknown)} {'is no setting' if len(unknown) == 1 else 'are no settings'}",
            (f"did you mean {', '.join(meant)}? " if meant else "") + f"known are {', '.join(known)}",
        )
    return kind(
        **{name: _typed(types_of[name], value, f"{prefix}{name}") for name, value in values.items()}
    )


def _typed(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{name}.")
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        return _typed(next(part for part in parts if part is not type(None)), value, name)
    if origin is Literal:
        value = "no" if value is False and "no" in parts else value  # YAML reads no as false
        if value in parts:
            return value
        raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(map(str, parts))}")
    if origin is list and isinstance(value, list):
        return [_typed(parts[0], entry, name) for entry in value]
    if kind is float and type(value) in (int, float, str):
        try:
            return float(value)  # YAML reads 1e-3 as a text
        except ValueError:
            pass
    elif kind is str and type(value) in (int, float):
        return str(value)
    elif type(value) is (origin or kind):
        return value
    raise SettingsError(f"{name} is {value!r}; it must be {_WANTED[origin or kind]}")


_WANTED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    dict: "names with values",
}
