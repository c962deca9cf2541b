"""The types of targets. A new one is a module here and a line in `TYPES`."""

from notifier.targets.base import Request, Target
from notifier.targets.discord import Discord
from notifier.targets.mattermost import Mattermost
from notifier.targets.slack import Slack
from notifier.targets.webhook import Webhook

TYPES: dict[str, type[Target]] = {
    "slack": Slack,
    "discord": Discord,
    "webhook": Webhook,
    "mattermost": Mattermost,
}

__all__ = ["TYPES", "Request", "Target"]
