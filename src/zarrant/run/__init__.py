"""The drivers, which perform operations on a store, and the pool of threads that they use."""
