"""Hosts: the command line, and what wraps files, folders and plugins."""
