"""``python -m tests.bench``: the benches by name."""

import click

from tests.bench.cadence import cadence
from tests.bench.deliver import deliver
from tests.bench.detect import detect
from tests.bench.idle import idle
from tests.bench.load import load
from tests.bench.page import page
from tests.bench.poll import poll
from tests.bench.soak import soak
from tests.bench.start import start

BENCHES: dict[str, click.Command] = {
    "cadence": cadence,
    "deliver": deliver,
    "detect": detect,
    "idle": idle,
    "load": load,
    "page": page,
    "poll": poll,
    "soak": soak,
    "start": start,
}


@click.group(commands=BENCHES, no_args_is_help=True)
def main() -> None:
    """Measure the notifier beside the bare library calls that it is made of."""


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
