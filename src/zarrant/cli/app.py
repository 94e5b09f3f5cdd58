"""The commands. Each parses its arguments, calls one function of `zarrant.tools` (or `create_array`), and shows what came back.

With --json a command prints one JSON value and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from zarrant.cli import show
from zarrant.errors import CapabilityError
from zarrant.nodes.open import create_array
from zarrant.tools import archive as archiving
from zarrant.tools import bench as benchmark
from zarrant.tools import check as checking
from zarrant.tools import consolidate as consolidating
from zarrant.tools import copy as copying
from zarrant.tools import describe, examples, spelling
from zarrant.tools import doctor as examination
from zarrant.tools import repair as mending
from zarrant.tools.convert_format import convert_format
from zarrant.tools.targets import check_replaceable

app = typer.Typer(
    help="Zarr arrays: look, create, copy, check. Partial writes are safe by default.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the array, or the .npy file, that is there.")]
Chunks = Annotated[str | None, typer.Option(help="Shape of the smallest readable pieces, as in 32,32,32.")]
Shards = Annotated[str | None, typer.Option(help='Shape of the stored objects, as in 256,256,256, or "none".')]
Compressor = Annotated[str | None, typer.Option(help=spelling.COMPRESSORS)]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Of the store, as in region=eu-central-1; may be given several times."),
]
SourceOption = Annotated[list[str] | None, typer.Option(help="As --option, of the store of the source.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(examination.examine()["version"])
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
def info(
    address: Annotated[str, typer.Argument(help="An array or a group.")], option: Option = None, as_json: Json = False
) -> None:
    """Show what an array or group is: shape, type, chunks, codecs, what guards its writes."""
    facts = describe.info(address, spelling.storage_options(option))
    _print_json(facts) if as_json else show.info(facts)


@app.command()
def tree(
    address: Annotated[str, typer.Argument(help="A group or an array.")], option: Option = None, as_json: Json = False
) -> None:
    """Show the nodes below a group."""
    nodes = describe.tree(address, spelling.storage_options(option))
    _print_json(nodes) if as_json else show.tree(nodes)


@app.command()
def create(
    address: Annotated[str, typer.Argument(help="Where the array is to be.")],
    shape: Annotated[str, typer.Option(help="As in 1000,1000,1000.")],
    dtype: Annotated[str, typer.Option(help="A data type of NumPy or of Zarr, as in uint16 or bfloat16.")],
    chunks: Chunks = None,
    shards: Shards = None,
    compressor: Compressor = None,
    fill_value: Annotated[str | None, typer.Option(help='As metadata spells it: 0, 1.5, true, NaN, "0x7fc00000".')] = None,
    dimension_names: Annotated[str | None, typer.Option(help="Names between commas, as in z,y,x.")] = None,
    overwrite: Overwrite = False,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Create an array without values: all of it reads as the fill value."""
    options: dict[str, Any] = {"shape": spelling.shape(shape, "shape"), "dtype": dtype}
    options |= _layout(chunks, shards, compressor)
    if fill_value is not None:
        options["fill_value"] = spelling.fill_value(fill_value, dtype)
    if dimension_names is not None:
        options["dimension_names"] = [name.strip() for name in dimension_names.split(",")]
    create_array({}, **options)  # every reason to refuse is found before anything is replaced
    path = describe.local_path(address)
    if path is not None:
        check_replaceable(path, overwrite)
    facts = describe.array_facts(
        create_array(address, **options, overwrite=overwrite, storage_options=spelling.storage_options(option))
    )
    _print_json(facts) if as_json else show.info(facts)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="An array, or a .npy, NIfTI, TIFF or PNG file.")],
    target: Annotated[str, typer.Argument(help="Where the new array is to be, or a name ending with .npy.")],
    chunks: Chunks = None,
    shards: Shards = None,
    compressor: Compressor = None,
    dtype: Annotated[str | None, typer.Option(help="A data type that holds every value of the source's.")] = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be written, write nothing.")] = False,
    option: Option = None,
    source_option: SourceOption = None,
    as_json: Json = False,
) -> None:
    """Copy an array to other chunks, shards and codecs; what is not given stays as the source has it."""
    options = {**_layout(chunks, shards, compressor), "dtype": dtype, "overwrite": overwrite, "dry_run": dry_run}
    options["storage_options"] = spelling.storage_options(option)
    options["source_options"] = spelling.storage_options(source_option)
    if as_json or dry_run:
        facts = copying.copy(source, target, **options)
    else:
        with show.progress_bar() as report:
            facts = copying.copy(source, target, **options, report=report)
    _print_json(facts) if as_json else show.copied(facts)


def _layout(chunks: str | None, shards: str | None, compressor: str | None) -> dict[str, Any]:
    """The options that were given."""
    options: dict[str, Any] = {}
    if chunks is not None:
        options["chunks"] = spelling.shape(chunks, "chunks")
    if shards is not None:
        options["shards"] = None if shards == "none" else spelling.shape(shards, "shards")
    if compressor is not None:
        options["compressors"] = spelling.compressors(compressor)
    return options


@app.command()
def check(
    address: Annotated[str, typer.Argument(help="An array, or a group of arrays.")],
    deep: Annotated[bool, typer.Option("--deep", help="Decode every subchunk too, checksums included.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Say what a repair would do; with --yes, do it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Repair. What is replaced or erased is copied first.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Erase chunks outside of the grid too.")] = False,
    backup: Annotated[Path | None, typer.Option(help="Where copies go; a new directory next to the store if not given.")] = None,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Look for what is wrong: documents, sizes, indexes, checksums, stray files. Exit status 1 where something is."""
    if not repair and (yes or orphans or backup is not None):
        raise typer.BadParameter("--yes, --orphans and --backup go with --repair")
    options = spelling.storage_options(option)
    result: checking.CheckReport | mending.RepairReport
    with nullcontext() if as_json else show.progress_bar("check") as report:
        if repair:
            result = mending.repair(
                address, apply=yes, deep=deep, orphans=orphans, backup=backup, report=report, storage_options=options
            )
        else:
            result = checking.check(address, deep=deep, report=report, storage_options=options)
    if as_json:
        _print_json(result.to_json())
    else:
        show.repaired(result) if isinstance(result, mending.RepairReport) else show.checked(result)
    raise typer.Exit(0 if result.clean else 1)


@app.command()
def convert(
    address: Annotated[str, typer.Argument(help="An array, or a group: all nodes below it are converted too.")],
    zarr_format: Annotated[int, typer.Option("--to", help="The version of the format, 3 or 2.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Convert between Zarr V2 and V3 in place: metadata only, chunks stay as they are. Exit status 1 where that cannot be."""
    facts = convert_format(address, zarr_format, dry_run=dry_run, storage_options=spelling.storage_options(option))
    _print_json(facts) if as_json else show.converted(facts)
    raise typer.Exit(1 if facts["cannot"] else 0)


@app.command()
def consolidate(address: Annotated[str, typer.Argument(help="A group.")], option: Option = None, as_json: Json = False) -> None:
    """Keep copies of all metadata below a group in it, so that other libraries open it with one read."""
    facts = consolidating.consolidate(address, spelling.storage_options(option))
    _print_json(facts) if as_json else typer.echo(f"{facts['address']}: metadata of {facts['nodes']} nodes consolidated")


@app.command()
def archive(
    source: Annotated[str, typer.Argument(help="An array, or a group of arrays.")],
    target: Annotated[str, typer.Argument(help="A name ending with .ozx or .zip.")],
    overwrite: Overwrite = False,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Put an array or a group into one file: a zip archive as OME-Zarr wants it."""
    facts = archiving.archive(source, target, overwrite=overwrite, storage_options=spelling.storage_options(option))
    _print_json(facts) if as_json else typer.echo(f"{facts['address']}: {facts['objects']} objects, {facts['bytes']} bytes")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def demo(context: typer.Context) -> None:
    """Write real data from several processes at the same time, and verify every element."""
    raise typer.Exit(examples.load("demo").main(context.args, "zarrant demo"))


@app.command()
def doctor(
    path: Annotated[str | None, typer.Argument(help="A directory or a URL, to see what writers may rely on there.")] = None,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Show versions, kernels and options; with a place, what guards writes there. A service is tried out and measured.

    Says also whether zarr-python writes through Zarrant here, and how it would write at the place. Exit status 1 where several
    writers cannot share the place.
    """
    options = spelling.storage_options(option)
    facts = {**examination.examine(path, options), "zarr_python": _zarr_python(path, options)}
    _print_json(facts) if as_json else show.doctor(facts)
    raise typer.Exit(0 if path is None or facts["path"]["safe"] else 1)


def _zarr_python(path: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of zarr-python, which need not be installed."""
    try:
        from zarrant.integrations.zarr_python import report
    except CapabilityError as error:
        return {"version": None, "enabled": False, "problem": str(error), "place": None}
    return report.facts(path, options)


@app.command()
def bench(
    address: Annotated[str, typer.Argument(help="An array; or, with --shape, a place where one is to be.")],
    access: Annotated[str, typer.Option(help="What is to be fast: planes, crops, append or whole.")] = "crops",
    seconds: Annotated[float, typer.Option(help="After so many no other candidate is begun.")] = 20.0,
    max_size: Annotated[str, typer.Option("--max-size", help="Of the sample, as in 64MiB.")] = "64MiB",
    shape: Annotated[str | None, typer.Option(help="Of an array that is to be made, as in 1000,1000,1000.")] = None,
    dtype: Annotated[str, typer.Option(help="Its data type.")] = "uint16",
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Try chunks, shards and codecs on a sample where the array is, and propose some. Leaves nothing behind."""
    found = benchmark.bench(
        address,
        access=access,
        seconds=seconds,
        max_bytes=spelling.size(max_size, "max-size"),
        shape=None if shape is None else spelling.shape(shape, "shape"),
        dtype=dtype,
        storage_options=spelling.storage_options(option),
    )
    _print_json(found.to_json()) if as_json else show.benched(found)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
