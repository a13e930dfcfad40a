"""The ``quorate`` command. Start reading at :mod:`quorate.kernel.cli.main`; each subcommand is a module of its own.

Standard output carries what was asked for, standard error everything else. An error says what was wrong and what to do.
"""
