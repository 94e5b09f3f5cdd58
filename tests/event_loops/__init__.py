"""For tests of event loops: a watchdog, every public coroutine, every kind of store, and a task that is cancelled at each await."""
