"""How everything looks as bytes. Start reading at :mod:`.plain` (values) and :mod:`.batch` (what enters the log)."""
