"""`python -m plugin_host.cli`."""

from plugin_host.cli import main

main()
