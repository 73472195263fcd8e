"""The host side: how this package lives inside BasicSR 1.4.2 (options, data, resuming, patches)."""
