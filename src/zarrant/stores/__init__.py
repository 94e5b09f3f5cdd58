"""Stores: where bytes live. Each satisfies as many protocols of `zarrant.storage` as it honestly can."""
