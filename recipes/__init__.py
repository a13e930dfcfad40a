"""What an application imports: locks, counters and the rest, built on a session.

Each recipe is written once, as ``async def``, and runs under asyncio and Twisted alike; :mod:`.blocking` has the same
for threads.
"""
