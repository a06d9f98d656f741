"""`python -m flax_agnews.export RUN --to FORMAT DIR`: a trained classifier as other libraries load it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from flax_agnews.cli import common
from flax_agnews.errors import UserError
from flax_agnews.trained.exports import TARGETS, export_run
from flax_agnews.trained.exports.upload import check_upload, upload


def make_parser() -> common.Parser:
    """The command's options."""
    parser = common.Parser(prog="python -m flax_agnews.export", description=__doc__)
    formats = "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())
    parser.add_argument("run", metavar="RUN", help=common.RUN)
    parser.add_argument("--to", required=True, choices=TARGETS, help=formats)
    parser.add_argument("folder", metavar="DIR", type=Path, help="for the files; made where it is missing")
    parser.add_argument("--overwrite", action="store_true", help="an earlier export in DIR")
    parser.add_argument("--upload", metavar="OWNER/NAME", help="then upload DIR to this model repository of the hub")
    parser.add_argument(
        "--private", action="store_true", help="where --upload makes the repository, only for its owner"
    )
    common.add_model(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for bad input, 130 when interrupted."""
    return common.exit_code(lambda: _export(sys.argv[1:] if arguments is None else arguments))


def _export(arguments: Sequence[str]) -> None:
    options = make_parser().parse_args(arguments)
    if options.private and not options.upload:
        raise UserError("--private goes with --upload OWNER/NAME")
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
