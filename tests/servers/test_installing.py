"""The script that installs servers: once, never with a failure, and what failed is not tried at every run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "servers.sh"
pytestmark = pytest.mark.skipif(not SCRIPT.exists() or shutil.which("bash") is None, reason="needs the sources, and bash")

GO = """#!/bin/sh
echo "go $*" >>"{log}"
[ "$1" = version ] && echo "go version go1.27.3 linux/amd64" && exit
[ -n "$GOBIN" ] && {ends} && : >"$GOBIN/gofakes3" && chmod +x "$GOBIN/gofakes3"
"""
NPM = """#!/bin/sh
echo "npm $*" >>"{log}"
{ends} || exit 1
cd .servers && mkdir -p node_modules/.bin && : >node_modules/.bin/azurite-blob && chmod +x node_modules/.bin/azurite-blob
"""


class Checkout:
    """A directory with the script, and programs that do as if they installed."""

    def __init__(self, root: Path, works: bool) -> None:
        self.root, self.log = root, root / "log"
        self.log.touch()
        (root / "scripts").mkdir()
        shutil.copy(SCRIPT, root / "scripts")
        (root / "bin").mkdir()
        for name, text in (("go", GO), ("npm", NPM)):
            program = root / "bin" / name
            program.write_text(text.format(log=self.log, ends="true" if works else "false"))
            program.chmod(0o755)
        for name in ("bash", "env", "dirname", "sed", "mkdir", "chmod", "ln", "find", "tail", "rm", "timeout", "cat"):
            os.symlink(shutil.which(name) or "", root / "bin" / name)

    def run(self, *names: str) -> list[str]:
        """Run the script, with nothing else to be found; what was called."""
        self.log.write_text("")
        environment = {"PATH": str(self.root / "bin"), "HOME": str(self.root)}
        command = [str(self.root / "scripts" / "servers.sh"), *names]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        self.said = done.stderr
        return sorted(line.split()[0] for line in self.log.read_text().splitlines() if "install" in line)


def test_it_installs_once(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, works=True)
    assert checkout.run() == ["go", "npm"]
    assert {path.name for path in (tmp_path / ".servers" / "bin").iterdir()} == {"gofakes3", "azurite-blob"}
    assert checkout.run() == [] and checkout.said == ""


def test_it_does_not_fail_and_tries_again_when_asked(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, works=False)
    assert checkout.run() == ["go", "npm"]
    assert "gofakes3 was not installed, its tests are skipped" in checkout.said
    assert checkout.run() == []
    assert checkout.run("gofakes3") == ["go"]
    assert checkout.run("nonsense") == [] and "only gofakes3, azurite-blob and versitygw" in checkout.said
