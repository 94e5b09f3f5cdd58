"""Stores and writers for the tests of locks that a service grants."""

from __future__ import annotations

from pathlib import Path

redis_writer_path = Path(__file__).with_name("redis_writer.py")
