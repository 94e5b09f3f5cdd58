"""A plugin of pytest, `-p event_loops.with_uvloop`: every `asyncio.run` of the tests runs uvloop."""

from __future__ import annotations

import asyncio
import warnings

import uvloop

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # policies go with Python 3.16; `asyncio.run` asks them until then
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
