"""The daemon, its protocol and its clients."""
