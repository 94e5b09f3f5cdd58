"""Arrays and groups, the objects that users work with: each has a store, options, and methods that run operations."""
