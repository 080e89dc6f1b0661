"""Where plain images come from: folders of files, read as lazy items and as exact RGB images."""

from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import fit_to_grid, load_rgb, resize_to
from etc_data.sources.item import Item, Source, Stray

__all__ = ["ImageFolder", "Item", "Source", "Stray", "fit_to_grid", "load_rgb", "resize_to"]
