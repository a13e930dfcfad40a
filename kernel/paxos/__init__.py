"""Multi-Paxos without input or output: start reading at :mod:`.replica`.

The package decides; it never acts. Everything it wants done (messages, records, commits) leaves it as one
:class:`~.ready.Ready` value. It imports no clock, no randomness, no socket and no file.

What it asserts about itself while it runs is listed in docs/explanation/invariants.rst.
"""
