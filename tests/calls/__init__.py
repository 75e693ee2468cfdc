"""Whole calls: a caller, a carrier, the vendors and a server, all of them speaking over sockets."""
