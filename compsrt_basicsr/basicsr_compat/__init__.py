"""What this package replaces in BasicSR 1.4.2: options, data, resuming, distributed runs. `patches` installs it."""
