"""The parts of `stores.object_store`: calls in both kinds, failures, byte ranges, versions, and URLs."""
