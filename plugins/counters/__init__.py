"""Named 64-bit counters that count exactly once. Start with :mod:`.machine`."""
