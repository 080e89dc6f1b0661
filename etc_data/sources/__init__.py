"""Where plain images come from: folders, tars and data sets, read as lazy items and exact RGB images.

`open_source` finds the right one; torch and `datasets` are imported only by the sources that need them.
"""

from etc_data.sources.folder import ImageFolder
from etc_data.sources.huggingface import HuggingFaceDataset
from etc_data.sources.images import fit_to_grid, load_rgb, resize_to
from etc_data.sources.item import Item, Source, Stray
from etc_data.sources.selection import Selection
from etc_data.sources.spec import open_source
from etc_data.sources.tars import TarShards
from etc_data.sources.torchvision_datasets import TorchvisionDataset

__all__ = [
    "HuggingFaceDataset",
    "ImageFolder",
    "Item",
    "Selection",
    "Source",
    "Stray",
    "TarShards",
    "TorchvisionDataset",
    "fit_to_grid",
    "load_rgb",
    "open_source",
    "resize_to",
]
