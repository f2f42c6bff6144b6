"""Audacity, by its script pipe (Edit > Preferences > Modules > mod-script-pipe: Enabled)."""
