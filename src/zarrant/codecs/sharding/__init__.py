"""The sharding codec: its format, its metadata, prepared shards, what is in a stored one, and compaction."""
