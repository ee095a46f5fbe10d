"""The wizard: draws the session and sends intents; every decision is the engine's."""
