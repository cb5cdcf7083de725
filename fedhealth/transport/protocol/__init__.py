"""The message protocol: for each message its type, its keys, its encoder and its decoder, side by side."""
