"""The command ``pdegcnn``: segment vessels in photographs, and list what is installed."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from pdegcnn.command_line import info, vessels

__all__ = ["main"]

PROGRAMS = {"vessels": vessels, "info": info}
"""Each has ``ABOUT``, ``add_arguments`` and ``run``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, 1 after a failure, or 2 for wrong arguments.

    Args:
        arguments: arguments after the name of the program; None: those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files have letters that some terminals lack
    made = argparse.ArgumentParser(prog="pdegcnn", description="Vessels in photographs, and what is installed.")
    programs = made.add_subparsers(dest="program", required=True, metavar="{vessels,info}")
    for name, module in PROGRAMS.items():
        about, _, rest = module.ABOUT.partition("\n")
        form = argparse.RawDescriptionHelpFormatter
        own = programs.add_parser(name, help=about, description=about, epilog=rest, formatter_class=form)
        module.add_arguments(own)
        own.set_defaults(parser=own)
    chosen = made.parse_args(arguments)
    try:
        status = PROGRAMS[chosen.program].run(chosen)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        return 1
    except OSError as error:  # such as a full disk under the file that takes the output
        sys.stderr.write(f"the output cannot be written: {error.strerror or error}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; files written so far are complete, and the same command continues from there\n")
        return 130
