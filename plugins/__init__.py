"""The services a cell can load: each folder is complete in itself.

``machine.py`` is the replicated state machine (pure, deterministic, no I/O), ``front.py`` where there is one a port
that speaks a foreign protocol, ``client.py`` the typed calls that recipes stand on. Plugins know the kernel; the
kernel knows no plugin."""
