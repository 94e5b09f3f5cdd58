"""Where operations are performed: a bounded pool of threads, and the drivers."""
