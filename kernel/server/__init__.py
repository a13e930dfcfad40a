"""The Twisted side of a replica. Start reading at :mod:`.service`, which puts the parts together; :mod:`.replica`
drives the node, :mod:`.front` is what a plugin's own port may rely on.

The reactor is an argument everywhere; nothing here imports it.
"""
