"""One hospital: its ClientApp, its privacy and its receipts."""
