"""Chains of codecs, prepared for chunks of one shape: encoding and decoding in batches."""
