"""The commands. Each calls one function of `zarrant.tools` (or `create_array`), and returns what came back: see `command`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from zarrant.cli import show
from zarrant.cli.command import EXIT_STATUSES, Options, ReportTo, Result, Shared, command
from zarrant.errors import CapabilityError
from zarrant.nodes.open import create_array
from zarrant.tools import archive as archiving
from zarrant.tools import attributes, describe, examples, spelling
from zarrant.tools import bench as benchmark
from zarrant.tools import check as checking
from zarrant.tools import compact as compacting
from zarrant.tools import consolidate as consolidating
from zarrant.tools import copy as copying
from zarrant.tools import doctor as examination
from zarrant.tools import plan as planning
from zarrant.tools import repair as mending
from zarrant.tools.convert_format import convert_format
from zarrant.tools.targets import check_replaceable

app = typer.Typer(
    help="Zarr arrays: look, create, copy, check. Partial writes are safe by default.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Node = Annotated[str, typer.Argument(help="An array or a group: a path, or the URL of one.")]
SourceNode = Annotated[str, typer.Argument(help="An array or a group, or a .npy, NIfTI, TIFF or image file.")]
TargetNode = Annotated[str, typer.Argument(help="Where the new array or group is to be, or a name ending with .npy.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the array, or the file, that is there.")]
Chunks = Annotated[str | None, typer.Option(help="Shape of the smallest readable pieces, as in 32,32,32.")]
Shards = Annotated[str | None, typer.Option(help='Shape of the stored objects, as in 256,256,256, or "none".')]
Codecs = Annotated[str | None, typer.Option("--compressor", "--codecs", help=spelling.COMPRESSORS)]
Series = Annotated[int | None, typer.Option(min=0, help="Which series of a TIFF, where there are several: 0 is the first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, change nothing.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help='Keep a ledger, so that the same command goes on after a kill; work in this process ("none"), '
        'on a Dask cluster of this machine ("local"), or on the one whose scheduler has this address.'
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Blocks at a time.")]
BlockSize = Annotated[str, typer.Option("--block-size", help="Of values in a block, which is in memory of a worker.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(examination.examine()["version"])
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@command(app)
def info(address: Node, storage_options: Options = None) -> Result:
    """Show what an array or a group is.

    Shape, data type, chunks, codecs, attributes, what guards its writes.
    """
    facts = describe.info(address, storage_options)
    return Result(facts, partial(show.info, facts))


@command(app)
def tree(address: Node, storage_options: Options = None) -> Result:
    """Show the nodes below a group."""
    nodes = describe.tree(address, storage_options)
    return Result(nodes, partial(show.tree, nodes))


@command(app)
def create(
    address: Annotated[str, typer.Argument(help="Where the array is to be.")],
    shape: Annotated[str, typer.Option(help="As in 1000,1000,1000.")],
    dtype: Annotated[str, typer.Option(help="A data type of NumPy or of Zarr, as in uint16 or bfloat16.")],
    chunks: Chunks = None,
    shards: Shards = None,
    compressor: Codecs = None,
    fill_value: Annotated[str | None, typer.Option(help='As metadata spells it: 0, 1.5, true, NaN, "0x7fc00000".')] = None,
    dimension_names: Annotated[str | None, typer.Option(help="Names between commas, as in z,y,x.")] = None,
    overwrite: Overwrite = False,
    storage_options: Options = None,
) -> Result:
    """Create an array without values.

    All of it reads as the fill value.
    """
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
    facts = describe.array_facts(create_array(address, **options, overwrite=overwrite, storage_options=storage_options))
    return Result(facts, partial(show.info, facts))


COPYING: Shared = {
    "overwrite": (Overwrite, False),
    "dry_run": (DryRun, False),
    "scheduler": (Scheduler, None),
    "workers": (Workers, None),
    "block_size": (BlockSize, "64MiB"),
    "storage_options": (Options, None),
    "source_options": (Options, None),
    "report": (ReportTo, None),
}
"""What all commands have that copy."""


@command(app, COPYING)
def copy(
    source: SourceNode,
    target: TargetNode,
    chunks: Chunks = None,
    shards: Shards = None,
    compressor: Codecs = None,
    dtype: Annotated[str | None, typer.Option(help="A data type that holds every value of the source's.")] = None,
    series: Series = None,
    **work: Any,
) -> Result:
    """Copy an array or a group, or a file of another format.

    What is not given stays as the source has it; where all of the layout stays, encoded chunks are moved as they are. A group is
    copied with all nodes below it, attributes and consolidated metadata. A copy that is broken off takes away what it wrote; with
    --scheduler it keeps a ledger instead, and the same command goes on.
    """
    return _copy(source, target, _layout(chunks, shards, compressor), dtype=dtype, series=series, **work)


@command(app, {**COPYING, "scheduler": (Scheduler, "none")})
def rechunk(
    source: Annotated[str, typer.Argument(help="An array; it must not change meanwhile.")],
    target: Annotated[str, typer.Argument(help="Where the new array is to be; or is, unfinished.")],
    chunks: Chunks = None,
    shards: Shards = None,
    compressor: Codecs = None,
    **work: Any,
) -> Result:
    """Copy an array to other chunks; goes on after a kill.

    As copy --scheduler none. The work is done in blocks of whole stored objects, of about --block-size. A ledger at the target
    tells what is done; the same command goes on with what is missing. --scheduler hands the blocks to a Dask cluster.
    """
    return _copy(source, target, _layout(chunks, shards, compressor), **work)


def _copy(source: str, target: str, layout: dict[str, Any], block_size: str, **options: Any) -> Result:
    facts = copying.copy(source, target, **layout, block_bytes=spelling.size(block_size, "block-size"), **options)
    return Result(facts, partial(show.copied, facts))


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


@command(app, COPYING)
def convert(
    source: Annotated[str, typer.Argument(help="An array or a group; with a target also a file of another format.")],
    target: Annotated[str | None, typer.Argument(help="Where a converted copy is to be. Without it: in place.")] = None,
    zarr_format: Annotated[int, typer.Option("--to", help="The version of the format, 3 or 2.")] = 3,
    compressor: Codecs = None,
    series: Series = None,
    **work: Any,
) -> Result:
    """Convert between Zarr V2 and V3, or from other formats.

    In place only metadata change, and chunks stay as they are; exit status 1 where that cannot be. With a target a copy is made,
    as by copy.
    """
    if target is not None:
        return _copy(source, target, _layout(None, None, compressor), zarr_format=zarr_format, series=series, **work)
    if compressor or series is not None or any(work[name] for name in ("overwrite", "scheduler", "workers", "source_options")):
        raise typer.BadParameter("--compressor, --series, --overwrite, --scheduler, --workers and --source-option go with a target")
    facts = convert_format(source, zarr_format, dry_run=work["dry_run"], storage_options=work["storage_options"])
    return Result(facts, partial(show.converted, facts), 1 if facts["cannot"] else 0)


@command(app)
def check(
    address: Node,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every subchunk too, checksums included.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Say what a repair would do; with --yes, do it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Repair. What is replaced or erased is copied first.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Erase chunks outside of the grid too.")] = False,
    backup: Annotated[Path | None, typer.Option(help="Where copies go; a new directory next to the store if not given.")] = None,
    storage_options: Options = None,
    report: ReportTo = None,
) -> Result:
    """Look for what is wrong, and say what to do about it.

    Metadata, sizes, indexes, checksums, stray files. Exit status 1 where something is wrong.
    """
    if not repair and (yes or orphans or backup is not None):
        raise typer.BadParameter("--yes, --orphans and --backup go with --repair")
    if repair:
        options: dict[str, Any] = {"apply": yes, "deep": deep, "orphans": orphans, "backup": backup}
        mended = mending.repair(address, **options, report=report, storage_options=storage_options)
        return Result(mended.to_json(), partial(show.repaired, mended), 0 if mended.clean else 1)
    found = checking.check(address, deep=deep, report=report, storage_options=storage_options)
    return Result(found.to_json(), partial(show.checked, found), 0 if found.clean else 1)


@command(app)
def compact(
    address: Node,
    fill: Annotated[
        bool, typer.Option("--fill", help="Erase objects of nothing but the fill value too. Decodes every object.")
    ] = False,
    storage_options: Options = None,
    report: ReportTo = None,
) -> Result:
    """Free the bytes that updates left behind in shards.

    Others may write meanwhile. Elements stay; a shard without any is erased.
    """
    facts = compacting.compact(address, fill=fill, report=report, storage_options=storage_options)
    return Result(facts, partial(show.compacted, facts), 1 if facts["cannot"] else 0)


@command(app)
def attrs(
    address: Node,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME[=VALUE]", help="Those to show, and those to set: VALUE is JSON, or text."),
    ] = None,
    delete: Annotated[list[str] | None, typer.Option("--delete", "-d", metavar="NAME", help="May be given several times.")] = None,
    storage_options: Options = None,
) -> Result:
    """Show, set and delete attributes.

    Without names all are shown. A change is one step, which loses no change of another writer.
    """
    names = [word for word in words or () if "=" not in word]
    put = spelling.named_values([word for word in words or () if "=" in word])
    facts = attributes.attributes(address, names, put=put, delete=delete or (), storage_options=storage_options)
    return Result(facts, partial(show.attributes, facts))


@command(app)
def consolidate(address: Annotated[str, typer.Argument(help="A group.")], storage_options: Options = None) -> Result:
    """Keep copies of all metadata below a group in it.

    So other libraries open it with one read. From then on every change keeps the copies in step.
    """
    facts = consolidating.consolidate(address, storage_options)
    return Result(facts, partial(typer.echo, f"{facts['address']}: metadata of {facts['nodes']} nodes consolidated"))


@command(app)
def archive(
    source: Annotated[str, typer.Argument(help="An array, or a group of arrays.")],
    target: Annotated[str, typer.Argument(help="A name ending with .ozx or .zip.")],
    overwrite: Overwrite = False,
    storage_options: Options = None,
    report: ReportTo = None,
) -> Result:
    """Put an array or a group into one file.

    A zip archive as OME-Zarr wants it. Objects are copied as they are.
    """
    facts = archiving.archive(source, target, overwrite=overwrite, report=report, storage_options=storage_options)
    return Result(facts, partial(typer.echo, f"{facts['address']}: {facts['objects']} objects, {facts['bytes']} bytes"))


@app.command(
    short_help="Write real data from several processes, verify every element.",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def demo(context: typer.Context) -> None:
    """Write real data from several processes at the same time, and verify every element."""
    raise typer.Exit(examples.load("demo").main(context.args, "zarrant demo"))


@command(app)
def doctor(
    path: Annotated[str | None, typer.Argument(help="A directory or a URL, to see what writers may rely on there.")] = None,
    storage_options: Options = None,
) -> Result:
    """Show versions, kernels, and what guards writes at a place.

    A service is tried out and measured. Says also whether zarr-python writes through Zarrant here, and how it would write at the
    place. Exit status 1 where several writers cannot share the place.
    """
    facts = {**examination.examine(path, storage_options), "zarr_python": _zarr_python(path, storage_options)}
    return Result(facts, partial(show.doctor, facts), 0 if path is None or facts["path"]["safe"] else 1)


def _zarr_python(path: str | None, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of zarr-python, which need not be installed."""
    try:
        from zarrant.integrations.zarr_python import report
    except CapabilityError as error:
        return {"version": None, "enabled": False, "problem": str(error), "place": None}
    return report.facts(path, options)


@command(app)
def plan(
    address: Annotated[str, typer.Argument(help="An array: a path, or the URL of one.")],
    selection: Annotated[str, typer.Argument(help='The part of it, as in brackets: "0:100, :, 5".')] = "...",
    write: Annotated[bool, typer.Option("--write", help="Plan a write of it, not a read.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Also divide it into boxes for so many workers.")] = 1,
    storage_options: Options = None,
) -> Result:
    """Say what a read or a write would read, write and lock.

    Objects, bytes, requests, memory, and what is poor about the layout for this access. Nothing is stored, no chunk is read. A
    selection that begins with a minus comes after "--".
    """
    found = planning.plan(address, selection, write=write, workers=workers, storage_options=storage_options)
    return Result(found.to_json(), partial(show.planned, found))


@command(app)
def bench(
    address: Annotated[str, typer.Argument(help="An array; or, with --shape, a place where one is to be.")],
    access: Annotated[str, typer.Option(help="What is to be fast: planes, crops, append or whole.")] = "crops",
    seconds: Annotated[float, typer.Option(help="After so many no other candidate is begun.")] = 20.0,
    max_size: Annotated[str, typer.Option("--max-size", help="Of the sample, as in 64MiB.")] = "64MiB",
    shape: Annotated[str | None, typer.Option(help="Of an array that is to be made, as in 1000,1000,1000.")] = None,
    dtype: Annotated[str, typer.Option(help="Its data type.")] = "uint16",
    storage_options: Options = None,
    report: ReportTo = None,
) -> Result:
    """Try chunks, shards, codecs and options, and propose some.

    The sample is written where the array is. Leaves nothing behind.
    """
    found = benchmark.bench(
        address,
        access=access,
        seconds=seconds,
        max_bytes=spelling.size(max_size, "max-size"),
        shape=None if shape is None else spelling.shape(shape, "shape"),
        dtype=dtype,
        storage_options=storage_options,
        report=report,
    )
    return Result(found.to_json(), partial(show.benched, found))
