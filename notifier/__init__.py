"""pixverse-notifier: watches PixVerse music tracks and tells people when they end."""

__version__ = "0.1.0"

USER_AGENT = f"pixverse-notifier/{__version__}"
