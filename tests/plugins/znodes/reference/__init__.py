"""What ZooKeeper is, written to be read: the reference that the machine, its front and whole cells are held against.

Slow, and copies whatever it likes. It shares the declarations of the records with the product (``jute.py``, the
specification) and nothing else. Start with ``tree.py`` (nodes and what operations do to them), then ``cell.py``
(sessions and the log), ``client.py`` (what one connection reads, watches and must be told) and ``judge.py`` (whether
what connections heard is what they had to hear). ``asking.py`` makes up requests.
"""
