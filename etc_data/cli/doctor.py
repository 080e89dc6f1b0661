"""`etc-data doctor`: what is installed, what is missing and how to get it, and whether it all works."""

import json
import os
import platform
from typing import TYPE_CHECKING

import click

import etc_data
from etc_data.errors import EtcError

if TYPE_CHECKING:
    from etc_data.cli.findings import Finding

_TITLES = {
    "needed": "Needed",
    "optional": "Optional",
    "engines": "Engines",
    "machine": "Machine",
    "self_test": "Self-test",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(as_json: bool) -> None:
    """Tell what is installed, what is missing and how to get it, and try whether it all works.

    Exits 1 if something that etc-data needs does not work; what is optional may be missing. Secrets
    of the environment are not shown, so that the report can go into a bug report.

    \b
    Examples:
      etc-data doctor
      etc-data doctor --json
    """
    versions = {
        "etc_data": etc_data.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    findings = _examine()
    failed = [found.name for found in findings["needed"] + findings["self_test"] if found.failed]
    if as_json:
        record = {part: [found.to_dict() for found in there] for part, there in findings.items()}
        click.echo(json.dumps({**versions, "ok": not failed, **record}, indent=1))
    else:
        click.echo("etc-data {etc_data}, Python {python}, {platform}".format(**versions))
        for part, title in _TITLES.items():
            click.echo("\n" + click.style(title, bold=True))
            for found in findings[part]:
                found.show()
        click.echo()
    if failed:
        raise EtcError(
            f"what etc-data needs does not work: {', '.join(failed)}",
            "the report tells why, and how to mend it",
        )
    if not as_json:
        click.echo("all that etc-data needs works")


def _examine() -> dict[str, list["Finding"]]:
    # Here, so that the other commands start without them.
    from concurrent.futures import ThreadPoolExecutor

    from etc_data.cli.children import end_children
    from etc_data.cli.engines import find_cuda, find_jpeg, find_pillow
    from etc_data.cli.machine import examine_machine
    from etc_data.cli.parts import NEEDED, OPTIONAL, examine
    from etc_data.cli.self_test import run_self_test

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            # Each waits for a process of its own; the slowest begin first.
            self_test, cuda = pool.submit(run_self_test), pool.submit(find_cuda)
            needed, optional = pool.map(examine, NEEDED), pool.map(examine, OPTIONAL)
            parts = {"needed": list(needed), "optional": list(optional)}
            turbo = next(found for found in parts["optional"] if found.name == "PyTurboJPEG")
            return {
                **parts,
                "engines": [find_pillow(), find_jpeg(turbo), cuda.result()],
                "machine": examine_machine(),
                "self_test": self_test.result(),
            }
        except BaseException:  # an interrupt does not wait for what takes seconds
            pool.shutdown(wait=False, cancel_futures=True)
            end_children()
            raise
