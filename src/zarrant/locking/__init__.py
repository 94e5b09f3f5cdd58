"""Exclusion: queues inside a process (`local`), lock files between processes (`files`, `created`)."""
