"""Text for people that is as wide as their terminal: labels, and beside them wrapped paragraphs."""

import shutil
import textwrap

_WIDEST = 100  # longer lines are hard to read


def line_width() -> int:
    """Returns how many columns to write: those of the terminal, up to 100; 80 where there is none."""
    return min(shutil.get_terminal_size().columns, _WIDEST)


def paragraph(label: str, text: str, column: int) -> str:
    """Returns a label and a text that is wrapped beside it.

    Args:
        label: what stands to the left of the first line.
        text: in one paragraph.
        column: where the text begins; the label is shorter.

    >>> print(paragraph("  models", "ViT", 12))
      models    ViT
    """
    room = max(line_width() - column, 20)
    first, *rest = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join([f"{label:<{column}}{first}".rstrip(), *(" " * column + line for line in rest)])
