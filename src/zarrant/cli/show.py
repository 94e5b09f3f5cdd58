"""How results look in a terminal: tables, trees, a progress bar.

In: the dicts of `zarrant.tools`. Out: lines on standard output, and progress on standard error, so that output can be piped.
Where there is no terminal, rich leaves colours and animation out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.tree import Tree

from zarrant.limits import human
from zarrant.ops.explain import Plan
from zarrant.progress import Progress, Report
from zarrant.tools.bench import STORED, BenchReport
from zarrant.tools.check import CheckReport
from zarrant.tools.repair import RepairReport

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def _plain(value: Any) -> str:
    """A value for people: shapes with ×, nothing for None."""
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        return " × ".join(map(str, value))
    if isinstance(value, list):
        return " → ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return "" if value is None else str(value)


def _table(rows: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    return table


def info(facts: Mapping[str, Any]) -> None:
    """An array or a group, as a table."""
    out.print(f"[bold]{escape(facts['address'])}[/bold]")
    if facts["kind"] == "group":
        rows = {"kind": "group", "members": _plain(facts["members"]) or "none"}
        rows |= {"cannot be opened": _plain(facts["unreadable"]), "attributes": _plain(facts["attributes"])}
        out.print(_table(rows))
        return
    names = facts["dimension_names"]
    out.print(
        _table(
            {
                "kind": "array",
                "shape": _plain(facts["shape"]) or "no dimensions",
                "dimensions": ", ".join(str(name) for name in names) if names else "",
                "data type": f"{_plain(facts['data_type'])}, fill value {facts['fill_value']}",
                "size": human(facts["bytes"]),
                "chunks": _plain(facts["chunks"]),
                "shards": _plain(facts["shards"]) or "none: every chunk is an object",
                "objects": f"{facts['stored_objects']:,} in a grid of {_plain(facts['grid']) or 1}",
                "codecs": _plain(facts["codecs"]),
                "guard": facts["guard"],
                "attributes": _plain(facts["attributes"]),
            }
        )
    )


def tree(nodes: Mapping[str, Any]) -> None:
    """Nodes below each other."""
    branches = Tree(_label(nodes))
    _grow(branches, nodes)
    out.print(branches)


def _grow(branch: Tree, node: Mapping[str, Any]) -> None:
    for child in node.get("children", ()):
        _grow(branch.add(_label(child)), child)


def _label(node: Mapping[str, Any]) -> str:
    name = f"[bold]{escape(node['name'])}[/bold]"
    if "reason" in node:
        return f"{name}  [yellow]cannot be opened[/yellow]  [dim]{escape(node['reason'])}[/dim]"
    if node["kind"] == "group":
        return name
    pieces = f"chunks {_plain(node['chunks'])}" + (f", shards {_plain(node['shards'])}" if node["shards"] else "")
    return f"{name}  {_plain(node['shape'])} {_plain(node['data_type'])}  [dim]{pieces}[/dim]"


@contextmanager
def progress_bar(name: str = "copy") -> Iterator[Report]:
    """What shows a `Progress`: bytes, objects, MB/s. Where there is no terminal nothing is shown."""
    columns = (
        BarColumn(40),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[chunks]}"),
        TextColumn("[bold]{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        task = bars.add_task(name, total=None, chunks="", speed="")

        def report(progress: Progress) -> None:
            chunks = f"{progress.chunks_done:,} of {progress.chunks_total:,} objects"
            speed = f"{progress.megabytes_per_second:,.0f} MB/s"
            bars.update(task, total=progress.bytes_total or None, completed=progress.bytes_done, chunks=chunks, speed=speed)

        yield report


def copied(facts: Mapping[str, Any]) -> None:
    """What a copy has written, or would write."""
    source, target = facts["source"], facts["target"]
    if source["kind"] == "group":
        what = f"group, {source['groups']:,} group(s) and {source['arrays']:,} array(s)"
    else:
        what = f"{source['kind']}, {_plain(source['shape'])} {source['data_type']}"
    kind = ", ".join(filter(None, (target["kind"], _plain(target.get("data_type")), human(target["bytes"]))))
    rows = {
        "from": f"{source['address']} ({what}, {human(source['bytes'])})",
        "to": f"{target['address']} ({kind})",
        "chunks": _plain(target.get("chunks")),
        "shards": _plain(target.get("shards")),
        "codecs": _plain(target.get("codecs")),
        "objects": f"{target['stored_objects']:,}",
    }
    if not facts["dry_run"]:
        if facts["stored_files"] is not None:
            rows["stored"] = _files(facts["stored_files"], facts["stored_bytes"], facts["ratio"])
        rows["speed"] = f"{facts['megabytes_per_second']:,.0f} MB/s, {facts['seconds']:.2f} s"
        rows["how"] = _how(facts)
    out.print("[yellow]Nothing was written. This would be:[/yellow]" if facts["dry_run"] else "[green]Copied[/green]")
    out.print(_table(rows))


def _how(facts: Mapping[str, Any]) -> str:
    """What there is to say of the blocks of a copy."""
    said = ["encoded chunks were moved as they are"] if facts["moved"] else []
    if facts["resumed"]:
        said.append(f"{facts['resumed']:,} of {facts['units']:,} blocks were done before")
    return "; ".join(said)


def compacted(facts: Mapping[str, Any]) -> None:
    """What was freed."""
    for key, why in facts["cannot"].items():
        out.print(f"[red]✗[/red] [bold]{escape(key)}[/bold]: {escape(why)}", soft_wrap=True)
    seen = f"{facts['arrays']:,} array(s), {facts['objects']:,} objects"
    changed = f"{facts['changed']:,} changed, {facts['erased']:,} of them erased"
    out.print(f"[green]{human(facts['freed'])} freed[/green]: {seen}, {changed}", soft_wrap=True)


def attributes(facts: Mapping[str, Any]) -> None:
    """Attributes, a line each, as JSON has them: what a program reads is what is printed."""
    for name, value in facts.items():
        out.print(f"[bold]{escape(name)}[/bold] = {escape(json.dumps(value, ensure_ascii=False))}", soft_wrap=True)


def checked(report: CheckReport, advice: bool = True) -> None:
    """What a check found, and what to do about it."""
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    table = Table("severity", "kind", "key", "what", box=None, pad_edge=False)
    for finding in report.findings:
        severity = f"[{colours[finding.severity]}]{finding.severity}[/]"
        mend = " [green](repairable)[/green]" if finding.repairable else ""
        table.add_row(severity, finding.kind, escape(finding.key), escape(finding.detail) + mend)
    if report.findings:
        out.print(table)
    dead = f", {human(report.dead_bytes)} of them dead" if report.dead_bytes else ""
    seen = f"{report.arrays:,} array(s), {report.objects:,} objects, {human(report.stored_bytes)} stored{dead}"
    how = "every subchunk decoded" if report.deep else "sizes and indexes; --deep decodes every subchunk"
    verdict = "[green]Nothing is wrong[/green]" if report.clean else f"[red]{len(report.findings)} finding(s)[/red]"
    out.print(f"{verdict}: {seen} ({how})", soft_wrap=True)
    for step in report.next_steps if advice else ():
        command = f": [bold]{escape(step.command)}[/bold]" if step.command else ""
        out.print(f"→ {escape(step.what)}{command}", soft_wrap=True)


def planned(plan: Plan) -> None:
    """What a read or a write will do, as a table."""
    out.print(f"[bold]{escape(plan.title)}[/bold]", soft_wrap=True)
    out.print(_table(plan.rows()))


def benched(report: BenchReport) -> None:
    """Every candidate, the proposed one in bold."""
    table = Table(box=None, padding=(0, 2))
    for name in ("chunks", "shards", "codec", "options", "size", "write MB/s", "read MB/s", f"{report.access} ms"):
        table.add_column(name, no_wrap=True)
    proposal = report.proposal
    for each in report.candidates:
        shape = [_plain(list(each.chunks)), _plain(list(each.shards or ())) or "none", each.compressors, each.options]
        shape.append(f"{each.stored_ratio:.1%}")
        numbers = [f"{each.write_mb_per_s:,.0f}", f"{each.read_mb_per_s:,.0f}", f"{each.access_ms:.3f}"]
        table.add_row(*shape, *numbers, style="bold" if each is proposal else None)
    out.print(table)
    shards = ",".join(map(str, proposal.shards)) if proposal.shards else "none"
    layout = f"--chunks {','.join(map(str, proposal.chunks))} --shards {shards} --compressor {proposal.compressors}"
    if proposal.compressors == STORED:
        layout = "the layout that the array has"
    out.print(f"For {report.access}: {layout}", soft_wrap=True)
    if report.left_out:
        out.print(f"{report.left_out} candidates were left out: --seconds gives more time")


def converted(facts: dict[str, Any]) -> None:
    """What was converted to another version of the format, or why nothing was."""
    for path, why in facts["cannot"].items():
        out.print(f"[red]✗[/red] [bold]{escape(path)}[/bold]: {escape(why)}", soft_wrap=True)
    for path, note in facts["notes"].items():
        out.print(f"[yellow]![/yellow] [bold]{escape(path)}[/bold]: {escape(note)}", soft_wrap=True)
    if facts["cannot"]:
        out.print("[red]Nothing was changed[/red]: chunks stay as they are, so every node must be one that both versions can say")
        return
    done = "would be converted" if facts["dry_run"] else "converted"
    unchanged = f", {len(facts['unchanged'])} unchanged" if facts["unchanged"] else ""
    out.print(f"[green]{len(facts['converted'])} node(s)[/green] {done} to Zarr V{facts['zarr_format']}{unchanged}", soft_wrap=True)


def repaired(report: RepairReport) -> None:
    """What a repair did, or would do."""
    checked(report.before, advice=False)
    marks = {"planned": "would", "done": "[green]✓[/green]", "refused": "[yellow]refused[/yellow]", "failed": "[red]✗[/red]"}
    for action in report.actions:
        out.print(
            f"{marks[action.outcome]} {action.what} [bold]{escape(action.key)}[/bold]: {escape(action.detail)}", soft_wrap=True
        )
    if not report.actions:
        out.print("There is nothing that can be repaired.")
    elif not report.applied:
        out.print("[yellow]Nothing was changed; --yes does this.[/yellow]")
    if report.backup is not None:
        out.print(f"Copies of what was replaced: {escape(report.backup)}", soft_wrap=True)
    if report.after is not None:
        out.print("[bold]Checked again:[/bold]")
        checked(report.after)


def doctor(facts: Mapping[str, Any]) -> None:
    """The state of the installation, and what writers may rely on at a place."""
    active, missing = facts["kernels"]["active"], facts["kernels"]["missing"]
    native = sum(kind == "native" for kind in active.values())
    changed = {name: item for name, item in facts["config"].items() if item["source"] != "default"}
    rows = {
        "zarrant": facts["version"],
        "python": facts["python"],
        "packages": ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
        "machine": f"{facts['cpus']} CPUs, {human(facts['memory'])}",
        "kernels": f"{native} of {len(active)} compiled" + ("" if missing else ", none missing"),
        **_missing(missing, built=native > 0),
        "libraries": ", ".join(f"{name} {version}" for name, version in facts["kernels"]["libraries"].items()),
        "options": ", ".join(f"{name}={item['value']} ({item['source']})" for name, item in changed.items())
        or "all at their defaults",
    }
    out.print(_table(rows | _zarr_python(facts["zarr_python"])))
    if facts["path"] is not None:
        _place(facts["path"])
        _zarr_python_at(facts["zarr_python"]["place"])


def _zarr_python(facts: Mapping[str, Any]) -> dict[str, str]:
    """Whether zarr-python goes through Zarrant."""
    if facts["enabled"] and not facts["problem"]:
        strict = ", strict" if facts["strict"] else ""
        return {"zarr-python": f"{facts['version']} reads and writes through Zarrant, by {facts['by']}{strict}"}
    return {"zarr-python": f"{facts['version']}: {facts['problem']}" if facts["version"] else facts["problem"]}


def _zarr_python_at(place: Mapping[str, Any] | None) -> None:
    """How zarr-python would write at a place once it goes through Zarrant."""
    if place is None:
        return
    rows = {
        "zarr-python": f"{place['way']}: {place['meaning']}"
        + ("" if place["way"] == place["known"] else "; native where all is known")
    }
    for path, found in place["arrays"].items():
        rows[f"  {path}"] = found["way"] + (f" ({found['why']})" if found["why"] else "")
    if place["hint"]:
        rows["  note"] = place["hint"]
    out.print(_table(rows))


def _missing(missing: Mapping[str, str], built: bool) -> dict[str, str]:
    """Which kernels are not compiled, why, and what that costs."""
    if built:  # the module is there, without some of its steps
        return {f"  {name}": f"NumPy twin: {why}" for name, why in missing.items()}
    why = next(iter(missing.values()))
    rows = {
        "  why": why,
        "  cost": "every value is right, but much is slower: Python works through each chunk, one thread at a time",
    }
    if "absent" in why:  # not by choice
        rows["  to do"] = (
            "install a wheel that has them, or a C++ compiler (on Debian: g++) and then "
            "pip install --force-reinstall --no-deps --no-binary=zarrant zarrant"
        )
    return rows


def _place(place: Mapping[str, Any]) -> None:
    """What writers may rely on at a path or URL."""
    out.print(f"[bold]{escape(place['path'])}[/bold]", soft_wrap=True)
    rows = {"guard": place["guard"], "scope": place["scope"], **_probed(place.get("probe"))}
    for name, times in (place.get("latency") or {}).items():
        rows[name] = f"{times['median_ms']:.2f} ms (median), {times['p95_ms']:.2f} ms (95 % are faster)"
    for name, rate in (place.get("throughput") or {}).items():
        rows[f"{name} 8 × 4 MiB"] = f"{human(rate)}/s"
    rows["direct I/O"] = place.get("direct_io", "")
    rows["promised"] = "\n".join(place["promises"])
    rows["not promised"] = "\n".join(place["exceptions"])
    out.print(_table(rows))
    if place.get("read_only"):
        out.print("[green]This place is only read from here[/green]")
    elif place["safe"]:
        out.print("[green]Several writers may share this place[/green]")
    else:
        why = escape(str(place["problem"] or place["guard"]))
        out.print(f"[red]Several writers cannot share this place[/red]: {why}", soft_wrap=True)


def _probed(report: Mapping[str, Any] | None) -> dict[str, str]:
    """What the probes found, as rows."""
    if report is None:
        return {}
    broken = [name for name, held in report["checks"].items() if not held]
    serial = f"{len(report['checks']) - len(broken)} of {len(report['checks'])} checks hold" + "".join(
        f"; not: {name}" for name in broken
    )
    lost = "not tried" if report["lost"] is None else f"{report['lost']} of {report['increments']} increments lost"
    return {"serial probe": serial, "concurrent probe": lost}


def _files(count: int, nbytes: int, ratio: float | None) -> str:
    compressed = "" if ratio is None else f", compressed {ratio:.2f} : 1"
    return f"{count:,} {'file' if count == 1 else 'files'}, {human(nbytes)}{compressed}"
