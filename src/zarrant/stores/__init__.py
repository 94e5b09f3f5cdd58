"""Stores: where objects are kept. Each has the methods of those protocols of `zarrant.storage` whose promises it can keep."""
