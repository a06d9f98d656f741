"""`flax-agnews export RUN --to FORMAT DIR`: writes a trained classifier in a format that other libraries load.

What needs JAX is imported after the options are read.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from flax_agnews.cli import common
from flax_agnews.errors import UserError
from flax_agnews.trained.export_formats import FORMATS

MODULE = "python -m flax_agnews.export"
DESCRIPTION = "Writes a trained classifier in a format that other libraries load, and checks it by loading it again."


def make_parser(prog: str = MODULE) -> common.Parser:
    """Makes the parser of the command's arguments."""
    parser = common.Parser(prog=prog, description=DESCRIPTION)
    formats = "; ".join(f"{name}: {summary}" for name, summary in FORMATS.items())
    parser.add_argument("run", metavar="RUN", help=common.RUN)
    parser.add_argument("--to", required=True, choices=FORMATS, help=formats)
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder for the files; made if it is missing")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in DIR")
    parser.add_argument("--upload", metavar="OWNER/NAME", help="upload DIR to this model repository of the hub")
    parser.add_argument(
        "--private", action="store_true", help="if --upload makes the repository: visible to its owner only"
    )
    common.add_model(parser)
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Exports a trained classifier; returns the exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: the command-line arguments; by default those of the process.
        prog: the command's name in its help.
    """
    return common.exit_code(lambda: _export(sys.argv[1:] if arguments is None else arguments, prog))


def _export(arguments: Sequence[str], prog: str) -> None:
    options = make_parser(prog).parse_args(arguments)
    if options.private and not options.upload:
        raise UserError("--private goes with --upload OWNER/NAME")
    from flax_agnews.trained.exports import export_run
    from flax_agnews.trained.exports.upload import check_upload, upload

    if options.upload:
        check_upload(options.upload)
    display = common.make_display()
    with display.busy(f"exporting {options.run}"):
        how = {"overwrite": options.overwrite, "model": options.model}
        done = export_run(options.run, options.to, options.folder, **how)
    print(f"{done.folder}: {done.name}; read again, its logits differ by {done.difference:.1e} at most")
    if options.upload:
        with display.busy(f"uploading {done.folder}"):
            address = upload(done.folder, options.upload, options.private)
        print(address)


if __name__ == "__main__":
    sys.exit(main())
