"""`python -m plugin_host.cli`."""

from plugin_host.cli.app import main

main()
