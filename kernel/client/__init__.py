"""The session client: connects to a cell, keeps a session alive, repeats what went unanswered, hands out events in
order.

Start with :mod:`.session`, the whole behavior without any input or output. :mod:`.live` puts it behind one small
object that applications hold; :mod:`.aio`, :mod:`.twisted` and :mod:`.blocking` are the three doors to it, each with
a ``connect``.
"""
