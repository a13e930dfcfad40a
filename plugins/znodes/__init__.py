"""The ZooKeeper face: a tree of znodes as a state machine, and a port that stock ZooKeeper clients cannot tell from
the original.

Start with ``protocol.py`` (the numbers of the protocol) and ``jute.py`` (every record, declared once). Then the
replicated half, which is pure: ``paths.py``, ``acl.py``, ``tree.py``, ``multi.py``, ``ensemble.py``, ``machine.py``
with ``chunks.py`` (what travels in the log) and ``images.py`` (snapshots). Then the half that is local to one
replica: ``settings.py`` (what an operator may choose), ``watches.py``, ``reads.py``, ``only_read.py``, ``proofs.py``
with ``sasl.py``, ``connection.py``, ``arrivals.py`` with ``local_sessions.py``, ``reconfig.py``, ``front.py``,
``tls.py`` (a second port), ``report.py`` with ``words.py`` and ``admin.py`` (what operators ask).
"""
