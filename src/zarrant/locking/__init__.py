"""Exclusion of other writers.

Queues inside a process (`local`), lock files between processes (`file_locks`, `created_locks`), and locks of a service (`remote`).
"""
