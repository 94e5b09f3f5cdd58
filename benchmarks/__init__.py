"""Benchmarks: the same work done by Zarrant and by other libraries, in turn, in one process, on the same bytes.

`python -m benchmarks` runs them; README.md says how to read what comes out.
"""
