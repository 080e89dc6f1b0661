"""The demo's second half: a tiny network learns digits, plain and encrypted, and is encrypted."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from etc_data.cipher import Cipher
from etc_data.cli.options import say
from etc_data.errors import EtcError
from etc_data.keys import SecretKey
from etc_data.shards.writer import write_shards

_SIZE = 64
_BLOCK = 8
_EPOCHS = 6
_WRONG_KEYS = 10


def learn_digits(folder: Path, key_path: Path) -> None:
    """Trains a ConvMixer on scikit-learn's digits and says how well it does in each case.

    Args:
        folder: where data sets, runs and pictures go.
        key_path: of the demo's key.

    Raises:
        EtcError: the packages that training needs are not installed.
    """
    try:
        from etc_data.recipes.evaluate import TrainedModel, evaluate, wrong_key_accuracies
        from etc_data.recipes.pictures import draw_wrong_keys, write_report
        from etc_data.recipes.settings import DataSettings, settings_from_dict
        from etc_data.recipes.train import train
    except ImportError as error:
        raise EtcError(
            f"the demo's training needs more packages: {error}", "pip install 'etc-data[train]'"
        ) from None
    key = SecretKey.load(key_path)
    plain = folder / "digits"
    count = _save_digits(plain)
    say(f"digits    {plain} ({count} images; a ConvMixer learns them, {_EPOCHS} epochs each time)")
    shards = folder / "digits-etc"
    write_shards(plain, shards, Cipher(f"etc-{_BLOCK}", key), size=_SIZE)

    def settings(name: str, source: Path) -> Any:
        return settings_from_dict(
            {
                "out": str(folder / "runs" / name),
                "epochs": _EPOCHS,
                "note": "demo",
                "model": {
                    "name": "etc_convmixer_256_8_p8",
                    "options": {"dim": 48, "depth": 2, "kernel_size": 5},
                },
                "data": {"source": str(source), "size": _SIZE, "workers": 0},
                "optimizer": {"lr": 0.01, "schedule": "triangular"},
            }
        )

    train(settings("plain", plain))
    on_shards = train(settings("shards", shards))
    trained = TrainedModel.load(folder / "runs" / "plain" / "last.safetensors")
    digits = DataSettings(source=str(plain), size=_SIZE)
    cipher = Cipher(f"ind-{_BLOCK}", key)
    encrypted = trained.encrypted(cipher)
    plain_scores = evaluate(trained, digits)
    scores = evaluate(encrypted, digits, cipher=cipher)
    unkeyed = evaluate(encrypted, digits, any_images=True)
    wrong = wrong_key_accuracies(trained, cipher, digits, _WRONG_KEYS)
    write_report(folder / "report", scores, [], {"scheme": cipher.scheme.name, "key_id": key.id})
    draw_wrong_keys(scores.accuracy, wrong, folder / "report" / "wrong-keys.png")
    same = bool((plain_scores.confusion == scores.confusion).all())
    alike = "the same answers to the last digit" if same else "ANSWERS DIFFER"
    cases = (
        ("plain images, plain model", f"{plain_scores.accuracy:.2%}"),
        (
            f"encrypted images, encrypted model ({cipher.scheme.name})",
            f"{scores.accuracy:.2%}, {alike}",
        ),
        (f"trained and tested on shards (etc-{_BLOCK}, JPEG)", f"{on_shards.accuracy:.2%}"),
        ("plain images, encrypted model", f"{unkeyed.accuracy:.2%}"),
        (f"wrong key ({_WRONG_KEYS} of them)", f"{np.mean(wrong):.2%} (chance is 10 %)"),
    )
    for name, text in cases:
        say(f"accuracy  {name}: {text}")
    say(f"curves    {folder / 'runs' / 'plain' / 'curves.png'}")
    say(f"classes   {folder / 'report' / 'confusion.png'}")
    say(f"keys      {folder / 'report' / 'wrong-keys.png'}")


def _save_digits(folder: Path) -> int:
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / ("val" if number % 4 == 0 else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8))
        image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC).save(place / f"{number:04d}.png")
    return len(digits.images)
