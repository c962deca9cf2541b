"""``python -m tests.bench``: the benches by name."""

import click

from tests.bench.deliver import deliver

BENCHES: dict[str, click.Command] = {
    "deliver": deliver,
}


@click.group(commands=BENCHES, no_args_is_help=True)
def main() -> None:
    """Measure the notifier beside the bare library calls that it is made of."""


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
