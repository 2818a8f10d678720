"""The command `napari-xt`: one place where errors become messages and exit codes."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.exceptions import Abort, TyperException

from xt_backend.errors import XTError
from xt_backend.keys import PRODUCT, RESEARCH_USE

from .console import asked_for_json, complain, print_json, survive_any_text, want_json

__all__ = ["PlainCommand", "app", "command", "main"]

app = typer.Typer(
    name=PRODUCT,
    help=f"xT on whole-slide images: score slides, export features, train. {RESEARCH_USE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class PlainCommand(TyperCommand):
    """Names needed arguments in the usage line as they are, without braces."""

    def invoke(self, ctx: Any) -> Any:
        """Run it; Ctrl-C is told to `main`, where typer would end without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Abort from error

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Options, then arguments."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece.replace("{", "").replace("}", "") for piece in pieces]


command = partial(app.command, cls=PlainCommand)
"""Makes a function a command of the program."""

_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


class _Brief(logging.Formatter):
    """Without tracebacks, which -v shows."""

    def formatException(self, ei: Any) -> str:
        del ei
        return ""


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    print(f"{PRODUCT} {version(PRODUCT)}. {RESEARCH_USE}")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log details to stderr.")
    ] = False,
) -> None:
    """Options before the command."""
    del version
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((logging.Formatter if verbose else _Brief)(_LOG_FORMAT))
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, handlers=[handler])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in `SystemExit` with a documented code."""
    from . import commands  # noqa: F401  registers them

    survive_any_text()
    want_json("--json" in (sys.argv[1:] if arguments is None else arguments))
    try:
        code = app(args=arguments, prog_name=PRODUCT, standalone_mode=False)
    except XTError as error:
        complain(str(error))
        if asked_for_json():
            detail = {"type": type(error).__name__, "cause": error.cause, "way_out": error.way_out}
            print_json({"error": detail})
        sys.exit(error.exit_code)
    except TyperException as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, Abort):
        complain("Interrupted. Run the same command again to go on.")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        complain(f"{error.strerror or error}. Check permissions and free space.")
        sys.exit(5)
    except Exception as error:
        logging.getLogger(__name__).info("unexpected", exc_info=True)
        complain(f"Unexpected {type(error).__name__}: {error}. Please report it; -v shows details.")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
