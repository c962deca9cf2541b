"""``completion``: what makes a shell complete the commands, their options and their values.

A shell's script (in ``shells/``) sends the command line up to the cursor to ``notifier`` itself, and gets a
line for each word that may stand there: its kind, the word and what it means, with tabs between. It is never
told of an error: who presses Tab wants no traceback, and waits a moment at most.
"""

import os
import shlex
import signal
from pathlib import Path

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

_SCRIPTS = Path(__file__).parent / "shells"
_LONGEST_WAIT = 5
_CURSOR = "\x01"


class _Completion(ShellComplete):
    """Answers each of the shells in the same form."""

    def source(self) -> str:
        """Return the shell's script."""
        return (_SCRIPTS / f"notifier.{self.name}").read_text(encoding="utf-8")

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and of the one that it stands in what is before it."""
        _, *words, last = split(os.environ.get("COMP_LINE", "") + _CURSOR)
        return words, last.removesuffix(_CURSOR)

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what may stand at the cursor, always as the whole word."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if not option.startswith("--") or not equals:
            return items
        return [CompletionItem(f"{option}={item.value}", type=item.type, help=item.help) for item in items]

    def format_completion(self, item: CompletionItem) -> str:
        """Return kind, word and meaning, with tabs between."""
        return "\t".join((item.type, str(item.value), " ".join((item.help or "").split())))

    def complete(self) -> str:
        """Return a line for each word; nothing when anything goes wrong or takes too long."""
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.alarm(_LONGEST_WAIT)
        try:
            return super().complete()
        except Exception:
            return ""
        finally:
            signal.alarm(0)


class Bash(_Completion):
    """Answers bash."""

    name = "bash"


class Zsh(_Completion):
    """Answers zsh."""

    name = "zsh"


class Fish(_Completion):
    """Answers fish."""

    name = "fish"


_SHELLS = {shell.name: add_completion_class(shell) for shell in (Bash, Zsh, Fish)}


def split(line: str) -> list[str]:
    """Split a command line as a shell would; its last word may still lack its closing quote."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return words


@click.command(short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice([*_SHELLS]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands, options, targets, tracks and dead letters.

    \b
    bash:  notifier completion bash > ~/.local/share/bash-completion/completions/notifier
    zsh:   notifier completion zsh > ~/.zfunc/_notifier, with ~/.zfunc in fpath before compinit
    fish:  notifier completion fish > ~/.config/fish/completions/notifier.fish
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    click.echo(_SHELLS[shell](context.command, {}, "notifier", "_NOTIFIER_COMPLETE").source(), nl=False)
