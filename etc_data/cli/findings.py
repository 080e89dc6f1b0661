"""What `etc-data doctor` finds: one line each, for people and for scripts, and without secrets."""

import os
import re
from dataclasses import dataclass
from typing import Literal

import click

from etc_data.cli.options import hide_secrets, printable
from etc_data.cli.paragraphs import paragraph

State = Literal["ok", "warning", "missing", "broken", "pass", "fail"]

_COLORS = {
    "ok": "green",
    "pass": "green",
    "warning": "yellow",
    "missing": "blue",
    "broken": "red",
    "fail": "red",
}
_COLUMN = 27  # where the texts begin, behind the state and the longest name
_SECRET_NAME = re.compile("SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL|PROXY|KEY", re.IGNORECASE)
_SHORTEST_SECRET = 6  # shorter values, such as TOKEN=1, occur everywhere
_USER_OF_URL = re.compile(r"(?<=://)[^\s/]*@")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        state: how it is.
        detail: its version, size or place, or why it does not work.
        hint: how to get or mend it.
    """

    name: str
    state: State
    detail: str
    hint: str = ""

    @property
    def failed(self) -> bool:
        """Whether it would have to work and does not, if it is needed."""
        return self.state in ("missing", "broken", "fail")

    def to_dict(self) -> dict[str, str]:
        """Returns the finding as what JSON can hold."""
        return {
            "name": self.name,
            "state": self.state,
            "detail": public(self.detail),
            "hint": public(self.hint),
        }

    def show(self) -> None:
        """Prints the finding, and below it the hint."""
        state = self.state.upper() if self.state in ("pass", "fail") else self.state
        text = paragraph(f"  {state:<9}{self.name}", public(self.detail), _COLUMN)
        click.echo(text.replace(state, click.style(state, fg=_COLORS[self.state]), 1))
        if self.hint:
            click.echo(paragraph("", f"→ {public(self.hint)}", _COLUMN))


def public(text: str) -> str:
    """Returns a text in one line, without secrets of the environment or of URLs.

    >>> public("no way to https://ana:hunter2@example.org")
    'no way to https://…@example.org'
    """
    text = " ".join(text.split())
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "…")
    return printable(hide_secrets(_USER_OF_URL.sub("…@", text)))
