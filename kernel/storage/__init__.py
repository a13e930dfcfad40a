"""What a replica keeps on its disk: start reading at :mod:`.journal` (the theory of operation), then :mod:`.recovery`.

The package stores what the consensus core hands it and finds it again, or says exactly what is lost. It knows the
core's records and nothing of machines, sessions, sockets or threads; every byte goes through :mod:`.files`, so that the
same code runs on a real disk and on the simulated one of :mod:`.memory`.
"""
