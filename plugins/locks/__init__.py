"""Locks that a cell grants: fair, shared or exclusive, several names at once, with fencing tokens. Start with
:mod:`.machine`."""
