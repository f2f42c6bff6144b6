"""The inside of the daemon: two threads that speak, and what they share.

control ── hello, ping, status, cancel, stop          never behind audio
work ───── sounds in, sounds out, whose turn it is    owns jobs, spool, journal and worker
"""
