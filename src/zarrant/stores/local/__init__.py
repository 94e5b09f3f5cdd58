"""A store on a directory of the local file system (or of one that is mounted)."""
