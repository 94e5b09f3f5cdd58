"""Run a program until standard input is closed, as `guardian.py PROGRAM ARGUMENT...`: so it ends with who started it."""

import os
import subprocess
import sys
import threading

GRACE_S = 3


def _end_with_starter(process: "subprocess.Popen[bytes]") -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=_end_with_starter, args=(program,), daemon=True).start()
sys.exit(abs(program.wait()))
