"""What Flower's own engines (`flwr run`) need beside the two apps: at the server, and at a hospital."""
