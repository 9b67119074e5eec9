"""What processes share for a moment: names of keys, counters of attempts, buckets of requests and tokens.

All of it lives in Redis (Django's cache is configured on the same), may be lost with it at any time, and is kept by
each process for itself while Redis is away.
"""
